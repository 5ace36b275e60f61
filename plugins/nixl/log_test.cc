#include "log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "base/clock.h"

namespace memkv::nixl {
namespace {

/// stderr is a pipe of the test's while it lives.
class PipedStderr {
 public:
  PipedStderr() : before_(dup(STDERR_FILENO)) {
    EXPECT_EQ(pipe2(ends_, O_NONBLOCK | O_CLOEXEC), 0);
    dup2(ends_[1], STDERR_FILENO);
    fcntl(ends_[1], F_SETFL, 0);  // who writes may block
  }
  ~PipedStderr() {
    dup2(before_, STDERR_FILENO);
    for (const int fd : {before_, ends_[0], ends_[1]}) close(fd);
  }
  /// All that is in it.
  std::string read_all() {
    std::string text;
    char part[4096];
    for (ssize_t n = 0; (n = read(ends_[0], part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(n));
    return text;
  }

 private:
  const int before_;
  int ends_[2] = {-1, -1};
};

TEST(CaseC1, a_line_for_which_stderr_has_no_room_is_dropped_and_counted) {
  PipedStderr piped;
  log_line("{}", "first");
  EXPECT_EQ(piped.read_all(), "memkv nixl: first\n");
  const std::string long_line(1000, 'x');
  for (int i = 0; i < 1000; i++) log_line("{}", long_line);  // a pipe takes 64 KiB
  EXPECT_LT(piped.read_all().size(), 100'000u);
  log_line("last");
  const std::string text = piped.read_all();
  EXPECT_NE(text.find("lines of the log are missing here"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\nmemkv nixl: last\n")) << text;
  log_line("after");
  EXPECT_EQ(piped.read_all(), "memkv nixl: after\n");
}

TEST(NixlLog, the_level_of_the_library_drops_no_line) {
  PipedStderr piped;
  base::set_log_level(base::LogLevel::kOff);
  log_line("{} of {}", 1, 2);
  base::set_log_level(base::LogLevel::kInfo);
  EXPECT_EQ(piped.read_all(), "memkv nixl: 1 of 2\n");
}

TEST(NixlLog, a_limited_line_says_how_many_were_held_back) {
  PipedStderr piped;
  base::LogLimiter limit(0.05);
  for (int i = 0; i < 3; i++) log_line_sometimes(limit, "line {}", i);
  EXPECT_EQ(piped.read_all(), "memkv nixl: line 0\n");
  const uint64_t until = base::SystemClock().now_ns() + 60'000'000;
  while (base::SystemClock().now_ns() < until) std::this_thread::yield();
  log_line_sometimes(limit, "later");
  EXPECT_EQ(piped.read_all(), "memkv nixl: later (and 2 more like it)\n");
}

}  // namespace
}  // namespace memkv::nixl
