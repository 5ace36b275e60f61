#pragma once
/// The log: each record is one line on stderr (`2026-11-24T01:02:03.456Z INFO  text`) and one write(2), from any
/// thread. Logging never waits: a line that stderr does not take at once is dropped and counted
/// (docs/decisions/0017-the-log-needs-no-thread.md).

#include <fmt/core.h>

#include <atomic>
#include <cstdint>
#include <string_view>

namespace memkv::base {

enum class LogLevel : int { kDebug, kInfo, kWarn, kError, kOff };

/// Records below `level` are dropped before their arguments are evaluated. The level is kInfo at start.
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
/// "debug", "info", "warn", "error", "off"; false if it is none of them.
[[nodiscard]] bool parse_log_level(std::string_view name, LogLevel* out);

/// How many lines stderr did not take since the process began, because its reader is behind, its disk is full, or it is
/// closed. Before the next line that it takes, the log writes a line with the number. Thread: any.
uint64_t log_lines_lost();

/// The function behind the macros. `dropped`: how many lines a rate-limited place held back since its last one; the
/// record mentions them.
void log_record(LogLevel level, uint64_t dropped, fmt::string_view format, fmt::format_args args);

template <typename... Args>
void log_at(LogLevel level, uint64_t dropped, fmt::format_string<Args...> format, Args&&... args) {
  log_record(level, dropped, format, fmt::make_format_args(args...));
}

/// Lets one record through in `seconds`, and counts those that it holds back. Thread: any.
class LogLimiter {
 public:
  explicit constexpr LogLimiter(double seconds) : interval_ns_(static_cast<uint64_t>(seconds * 1e9)) {}
  /// True: write the record. `dropped` is how many were held back since the last one.
  bool pass(uint64_t* dropped) { return pass_at(now_ns(), dropped); }
  bool pass_at(uint64_t now_ns, uint64_t* dropped);

 private:
  static uint64_t now_ns();
  const uint64_t interval_ns_;
  std::atomic<uint64_t> next_ns_{0};
  std::atomic<uint64_t> held_{0};
};

}  // namespace memkv::base

/// MEMKV_LOG(kInfo, "opened {} in {} ms", path, elapsed)
#define MEMKV_LOG(level, ...)                                                \
  do {                                                                       \
    if (::memkv::base::log_enabled(::memkv::base::LogLevel::level))          \
      ::memkv::base::log_at(::memkv::base::LogLevel::level, 0, __VA_ARGS__); \
  } while (false)

/// MEMKV_LOG_EVERY(10, kWarn, "drive {} is slow", name): this place in the code logs at most once in 10 seconds.
#define MEMKV_LOG_EVERY(seconds, level, ...)                                                                      \
  do {                                                                                                            \
    static ::memkv::base::LogLimiter memkv_log_limiter(seconds);                                                  \
    uint64_t memkv_log_dropped = 0;                                                                               \
    if (::memkv::base::log_enabled(::memkv::base::LogLevel::level) && memkv_log_limiter.pass(&memkv_log_dropped)) \
      ::memkv::base::log_at(::memkv::base::LogLevel::level, memkv_log_dropped, __VA_ARGS__);                      \
  } while (false)
