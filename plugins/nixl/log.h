#pragma once
/// Lines to stderr for people: NIXL shows a caller no more than a status.

#include <atomic>
#include <cstdint>
#include <string_view>

namespace memkv::nixl {

/// One line, one write(2), from any thread: `memkv nixl: TEXT`.
void log_line(std::string_view text);

uint64_t monotonic_ns();

/// Lets one line through per interval and counts the others. Thread: any.
class LogLimit {
 public:
  explicit constexpr LogLimit(uint64_t interval_ns) : interval_ns_(interval_ns) {}
  /// True: write it; `held_back` = how many were not written since the last.
  bool pass(uint64_t& held_back);

 private:
  const uint64_t interval_ns_;
  std::atomic<uint64_t> next_ns_{0};
  std::atomic<uint64_t> held_back_{0};
};

}  // namespace memkv::nixl
