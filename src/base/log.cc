#include "base/log.h"

#include <fmt/format.h>

#include <array>
#include <climits>
#include <ctime>
#include <iterator>

#include "base/standard_streams.h"

namespace memkv::base {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"debug", "info", "warn", "error", "off"};
constexpr std::array<const char*, 4> kLabels = {"DEBUG", "INFO ", "WARN ", "ERROR"};

std::atomic<LogLevel> threshold{LogLevel::kInfo};
std::atomic<LogSink> sink{nullptr};
std::array<std::atomic<uint64_t>, 5> counts{};
std::atomic<uint64_t> lines_lost{0};
std::atomic<uint64_t> lines_untold{0};  ///< lost, and not yet reported by a line

/// What a pipe takes whole or not at all, so that lines of several threads and programs stay apart.
constexpr size_t kLineBytesMax = PIPE_BUF;

void append_time(fmt::memory_buffer& line) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm utc;
  gmtime_r(&now.tv_sec, &utc);
  fmt::format_to(std::back_inserter(line), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z ", utc.tm_year + 1900,
                 utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1'000'000);
}

// A record is a line, whatever a peer or a file name put into its arguments.
void escape_control_characters(fmt::memory_buffer& line, size_t from) {
  for (size_t i = from; i < line.size(); ++i) {
    if (static_cast<unsigned char>(line[i]) < 0x20 || line[i] == 0x7f) line[i] = '?';
  }
}

void end_line(fmt::memory_buffer& line) {
  constexpr std::string_view kCut = "...";
  if (line.size() >= kLineBytesMax) {
    line.resize(kLineBytesMax - kCut.size() - 1);
    line.append(kCut);
  }
  line.push_back('\n');
}

bool tell_lost() {
  const uint64_t lost = lines_untold.exchange(0, std::memory_order_relaxed);
  if (lost == 0) return true;
  fmt::memory_buffer line;
  append_time(line);
  fmt::format_to(std::back_inserter(line), "{} {} lines of the log are missing here: stderr did not take them",
                 kLabels[static_cast<size_t>(LogLevel::kWarn)], lost);
  end_line(line);
  if (write_stderr({line.data(), line.size()})) return true;
  lines_untold.fetch_add(lost, std::memory_order_relaxed);
  return false;
}

void write_line(std::string_view line) {
  if (tell_lost() && write_stderr(line)) return;
  lines_lost.fetch_add(1, std::memory_order_relaxed);
  lines_untold.fetch_add(1, std::memory_order_relaxed);
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

uint64_t log_count(LogLevel level) { return counts[static_cast<size_t>(level)].load(std::memory_order_relaxed); }

uint64_t log_lines_lost() { return lines_lost.load(std::memory_order_relaxed); }

void set_log_sink(LogSink to) { sink.store(to, std::memory_order_release); }

void log_record(LogLevel level, uint64_t dropped, fmt::string_view format, fmt::format_args args) {
  counts[static_cast<size_t>(level)].fetch_add(1, std::memory_order_relaxed);
  fmt::memory_buffer line;
  append_time(line);
  fmt::format_to(std::back_inserter(line), "{} ", kLabels[static_cast<size_t>(level)]);
  const size_t text_from = line.size();
  fmt::vformat_to(std::back_inserter(line), format, args);
  if (dropped > 0) fmt::format_to(std::back_inserter(line), " (and {} more like it)", dropped);
  escape_control_characters(line, text_from);
  end_line(line);
  const std::string_view text(line.data(), line.size());
  if (LogSink to = sink.load(std::memory_order_acquire)) {
    to(level, text);
  } else {
    write_line(text);
  }
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
