#include "base/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <mutex>
#include <regex>
#include <string>
#include <thread>
#include <vector>

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

TEST_F(Log, counts_by_level) {
  const uint64_t before = log_count(LogLevel::kError);
  MEMKV_LOG(kError, "bad");
  MEMKV_LOG(kInfo, "good");
  EXPECT_EQ(log_count(LogLevel::kError), before + 1);
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
