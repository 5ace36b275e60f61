#pragma once
/// Lines to stderr for people: NIXL shows a caller no more than a status.

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace memkv::nixl {

/// One line, one write, from any thread: `memkv nixl: TEXT`. Never waits for a reader: where stderr takes nothing the
/// line is dropped, and the next one says how many were. Needs no memory.
void log_line(std::string_view text);

/// For the end of a line that LogLimit let through.
std::string more_lines(uint64_t held_back);

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
