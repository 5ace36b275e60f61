#include "base/log_testing.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <mutex>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "base/allocation_counter_testing.h"
#include "base/log_line.h"

namespace memkv::base {
namespace {

std::mutex lines_mutex;
std::vector<std::string> lines;

class Log : public testing::Test {
 protected:
  Log() {
    lines.clear();
    set_log_sink([](LogLevel, std::string_view line) {
      const std::lock_guard lock(lines_mutex);
      lines.emplace_back(line);
    });
  }
  ~Log() override {
    set_log_sink(nullptr);
    set_log_level(LogLevel::kInfo);
  }
};
using LogThreads = Log;

TEST_F(Log, one_line_with_time_level_and_text) {
  MEMKV_LOG(kInfo, "took {} ms", 12);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_TRUE(
      std::regex_match(lines[0], std::regex("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z INFO  took 12 ms\n")))
      << lines[0];
}

TEST_F(Log, below_the_level_nothing_is_evaluated) {
  int calls = 0;
  MEMKV_LOG(kDebug, "{}", ++calls);
  EXPECT_EQ(calls, 0);
  set_log_level(LogLevel::kDebug);
  MEMKV_LOG(kDebug, "{}", ++calls);
  EXPECT_EQ(calls, 1);
  set_log_level(LogLevel::kOff);
  MEMKV_LOG(kError, "{}", ++calls);
  EXPECT_EQ(calls, 1);
}

TEST_F(Log, a_record_stays_one_line) {
  MEMKV_LOG(kWarn, "name {}", "a\nb\x1b[0m");
  EXPECT_NE(lines.at(0).find("WARN  name a?b?[0m\n"), std::string::npos);
}

TEST_F(Log, a_line_that_is_too_long_is_cut) {
  MEMKV_LOG(kInfo, "{}", std::string(10'000, 'x'));
  EXPECT_EQ(lines.at(0).size(), 4096u);
  EXPECT_TRUE(lines[0].ends_with("xx...\n"));
  lines.clear();
  const size_t head = std::string_view("2026-11-24T01:02:03.456Z INFO  ").size();
  MEMKV_LOG(kInfo, "{}", std::string(4095 - head, 'x'));
  EXPECT_EQ(lines.at(0).size(), 4096u);
  EXPECT_TRUE(lines[0].ends_with("xxx\n")) << "it fits";
}

TEST_F(Log, a_record_needs_no_memory) {
  set_log_sink([](LogLevel, std::string_view) {});
  const std::string text(3000, 'x'), too_long(10'000, 'x');
  const AllocationCounter counter;
  MEMKV_LOG(kInfo, "{} of {} took {:.3f} s", text, 7, 0.25);
  MEMKV_LOG(kInfo, "{}", too_long);
  EXPECT_EQ(counter.count(), 0u);
}

TEST_F(Log, a_line_under_another_name_has_no_level) {
  set_log_level(LogLevel::kOff);
  log_line("name: ", 3, "{} and {}", fmt::make_format_args("a\nb", 7));
  set_log_level(LogLevel::kInfo);
  EXPECT_EQ(lines.at(0), "name: a?b and 7 (and 3 more like it)\n");
}

TEST_F(Log, every_holds_back_and_says_how_many) {
  LogLimiter limiter(1.0);
  uint64_t dropped = 99;
  EXPECT_TRUE(limiter.pass_at(5'000'000'000, &dropped));
  EXPECT_EQ(dropped, 0u);
  EXPECT_FALSE(limiter.pass_at(5'500'000'000, &dropped));
  EXPECT_FALSE(limiter.pass_at(5'999'999'999, &dropped));
  EXPECT_TRUE(limiter.pass_at(6'000'000'000, &dropped));
  EXPECT_EQ(dropped, 2u);
  for (int i = 0; i < 5; ++i) MEMKV_LOG_EVERY(1000, kInfo, "round {}", i);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find("round 0"), std::string::npos);
}

TEST_F(Log, parses_level_names) {
  LogLevel level = LogLevel::kInfo;
  EXPECT_TRUE(parse_log_level("warn", &level));
  EXPECT_EQ(level, LogLevel::kWarn);
  EXPECT_FALSE(parse_log_level("WARN!", &level));
}

TEST_F(LogThreads, lines_of_many_threads_all_arrive) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 100; ++i) MEMKV_LOG(kInfo, "thread {} line {}", t, i);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(lines.size(), 400u);
}

TEST(LogDeathTest, goes_to_stderr_by_default) {
  EXPECT_EXIT(
      {
        MEMKV_LOG(kWarn, "to stderr");
        _exit(0);
      },
      testing::ExitedWithCode(0), "Z WARN  to stderr");
}

}  // namespace
}  // namespace memkv::base
