#include "base/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <climits>
#include <ctime>

#include "base/log_line.h"
#include "base/log_testing.h"
#include "base/standard_streams.h"

namespace memkv::base {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"debug", "info", "warn", "error", "off"};
constexpr std::array<const char*, 4> kLabels = {"DEBUG", "INFO ", "WARN ", "ERROR"};

std::atomic<LogLevel> threshold{LogLevel::kInfo};
std::atomic<LogSink> sink{nullptr};
std::atomic<uint64_t> lines_lost{0};
std::atomic<uint64_t> lines_untold{0};  ///< lines that were lost and that no later line has reported yet

/// The size up to which a pipe takes a write whole or not at all. Longer lines could be mixed with those of other
/// threads or programs.
constexpr size_t kLineBytesMax = PIPE_BUF;

/// A line that is being made, on the stack.
class Line {
 public:
  void append(fmt::string_view format, fmt::format_args args) {
    const size_t room = kTextBytesMax - size_;
    const auto end = fmt::vformat_to_n(data_ + size_, room, format, args);
    cut_ = cut_ || end.size > room;
    size_ += std::min(end.size, room);
  }
  template <typename... Args>
  void add(fmt::format_string<Args...> format, const Args&... args) {
    append(format, fmt::make_format_args(args...));
  }
  void add_time() {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    tm utc;
    gmtime_r(&now.tv_sec, &utc);
    add("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour,
        utc.tm_min, utc.tm_sec, now.tv_nsec / 1'000'000);
  }
  /// The text of a record: one line, whatever a peer or a file name put into its arguments.
  void add_text(uint64_t dropped, fmt::string_view format, fmt::format_args args) {
    const size_t from = size_;
    append(format, args);
    if (dropped > 0) add(" (and {} more like it)", dropped);
    for (size_t i = from; i < size_; ++i) {
      if (static_cast<unsigned char>(data_[i]) < 0x20 || data_[i] == 0x7f) data_[i] = '?';
    }
  }
  std::string_view end() {
    constexpr std::string_view kCut = "...";
    if (cut_) std::copy(kCut.begin(), kCut.end(), data_ + size_ - kCut.size());
    data_[size_] = '\n';
    return {data_, size_ + 1};
  }

 private:
  static constexpr size_t kTextBytesMax = kLineBytesMax - 1;
  char data_[kLineBytesMax];
  size_t size_ = 0;
  bool cut_ = false;
};

bool tell_lost() {
  const uint64_t lost = lines_untold.exchange(0, std::memory_order_relaxed);
  if (lost == 0) return true;
  Line line;
  line.add_time();
  line.add("{} {} lines of the log are missing here: stderr did not take them",
           kLabels[static_cast<size_t>(LogLevel::kWarn)], lost);
  if (write_stderr(line.end())) return true;
  lines_untold.fetch_add(lost, std::memory_order_relaxed);
  return false;
}

void write_line(std::string_view line) {
  if (tell_lost() && write_stderr(line)) return;
  lines_lost.fetch_add(1, std::memory_order_relaxed);
  lines_untold.fetch_add(1, std::memory_order_relaxed);
}

void hand_over(LogLevel level, std::string_view line) {
  if (LogSink to = sink.load(std::memory_order_acquire)) {
    to(level, line);
  } else {
    write_line(line);
  }
}

}  // namespace

void set_log_level(LogLevel level) { threshold.store(level, std::memory_order_relaxed); }

bool log_enabled(LogLevel level) { return level >= threshold.load(std::memory_order_relaxed); }

bool parse_log_level(std::string_view name, LogLevel* out) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (name != kNames[i]) continue;
    *out = static_cast<LogLevel>(i);
    return true;
  }
  return false;
}

uint64_t log_lines_lost() { return lines_lost.load(std::memory_order_relaxed); }

void set_log_sink(LogSink to) { sink.store(to, std::memory_order_release); }

void log_record(LogLevel level, uint64_t dropped, fmt::string_view format, fmt::format_args args) {
  Line line;
  line.add_time();
  line.add("{} ", kLabels[static_cast<size_t>(level)]);
  line.add_text(dropped, format, args);
  hand_over(level, line.end());
}

void log_line(std::string_view prefix, uint64_t dropped, fmt::string_view format, fmt::format_args args) {
  Line line;
  line.add("{}", prefix);
  line.add_text(dropped, format, args);
  hand_over(LogLevel::kInfo, line.end());
}

uint64_t LogLimiter::now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

bool LogLimiter::pass_at(uint64_t now_ns, uint64_t* dropped) {
  uint64_t next = next_ns_.load(std::memory_order_relaxed);
  if (now_ns < next || !next_ns_.compare_exchange_strong(next, now_ns + interval_ns_, std::memory_order_relaxed)) {
    held_.fetch_add(1, std::memory_order_relaxed);
    return false;
  }
  *dropped = held_.exchange(0, std::memory_order_relaxed);
  return true;
}

}  // namespace memkv::base
