#include "base/standard_streams.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "base/log.h"
#include "base/unique_fd.h"

namespace memkv::base {
namespace {

/// While it lives, `fd` is stderr.
class StderrIs {
 public:
  explicit StderrIs(int fd) : before_(dup(STDERR_FILENO)) { dup2(fd, STDERR_FILENO); }
  ~StderrIs() {
    dup2(before_, STDERR_FILENO);
    ::close(before_);
  }

 private:
  const int before_;
};

struct Pipe {
  Pipe() { EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0); }
  ~Pipe() {
    for (const int fd : fds) ::close(fd);
  }
  void fill() const {
    const int flags = fcntl(fds[1], F_GETFL);
    fcntl(fds[1], F_SETFL, flags | O_NONBLOCK);
    const std::string page(4096, '.');
    while (::write(fds[1], page.data(), page.size()) > 0) {
    }
    fcntl(fds[1], F_SETFL, flags);
  }
  std::string read(size_t bytes) const {
    std::string text(bytes, '\0');
    const ssize_t got = ::read(fds[0], text.data(), bytes);
    text.resize(got < 0 ? 0 : static_cast<size_t>(got));
    return text;
  }
  int fds[2] = {-1, -1};
};

TEST(CaseC1, a_full_pipe_holds_nobody_up_and_what_was_lost_is_told) {
  const Pipe pipe;
  pipe.fill();
  const uint64_t lost = log_lines_lost();
  {
    const StderrIs is(pipe.fds[1]);
    for (int i = 0; i < 3; ++i) MEMKV_LOG(kInfo, "nobody reads this");
    EXPECT_EQ(log_lines_lost(), lost + 3);
    (void)pipe.read(64 * 1024);
    MEMKV_LOG(kInfo, "somebody reads again");
  }
  const std::string text = pipe.read(64 * 1024);
  EXPECT_NE(text.find("WARN  3 lines of the log are missing here"), std::string::npos) << text;
  EXPECT_LT(text.find("missing here"), text.find("somebody reads again"));
  EXPECT_EQ(log_lines_lost(), lost + 3);
}

TEST(CaseC1, the_flags_of_the_shared_stderr_stay_as_they_are) {
  const Pipe pipe;
  const StderrIs is(pipe.fds[1]);
  EXPECT_TRUE(write_stderr("text\n"));
  EXPECT_EQ(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);
}

TEST(CaseC1, a_reader_that_is_gone_raises_no_signal) {
  Pipe pipe;
  ::close(std::exchange(pipe.fds[0], -1));
  const StderrIs is(pipe.fds[1]);
  EXPECT_FALSE(write_stderr("SIGPIPE would end this test\n"));
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  ::close(sockets[0]);
  dup2(sockets[1], STDERR_FILENO);
  ::close(sockets[1]);
  EXPECT_FALSE(write_stderr("nor does a socket\n"));
}

/// The case of a program that root started with a pipe of root's as stderr, and that then became another user.
int write_to_a_pipe_of_another_user() {
  const Pipe pipe;
  dup2(pipe.fds[1], STDERR_FILENO);
  constexpr uid_t kNobody = 65534;
  if (fchmod(STDERR_FILENO, 0) != 0 || (geteuid() == 0 && setresuid(kNobody, kNobody, kNobody) != 0)) return 1;
  if (::open("/proc/self/fd/2", O_WRONLY | O_CLOEXEC) >= 0) return 2;
  if (!write_stderr("there is room\n") || pipe.read(64) != "there is room\n") return 3;
  pipe.fill();
  return write_stderr("nobody reads this\n") ? 4 : 0;
}

TEST(CaseC1, a_full_pipe_that_cannot_be_opened_anew_holds_nobody_up) {
  EXPECT_EXIT(_exit(write_to_a_pipe_of_another_user()), testing::ExitedWithCode(0), "");
}

TEST(CaseC1, a_full_socket_holds_nobody_up) {
  int sockets[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
  const std::string page(4096, '.');
  while (::send(sockets[1], page.data(), page.size(), MSG_DONTWAIT) > 0) {
  }
  {
    const StderrIs is(sockets[1]);
    EXPECT_FALSE(write_stderr("nobody reads this\n"));
  }
  ::close(sockets[0]);
  ::close(sockets[1]);
}

TEST(CaseC1, a_full_disk_and_a_closed_stderr_lose_the_line_and_no_more) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  {
    const StderrIs is(full);
    EXPECT_FALSE(write_stderr("ENOSPC\n"));
  }
  {
    const StderrIs is(full);
    ::close(STDERR_FILENO);
    EXPECT_FALSE(write_stderr("EBADF\n"));
    dup2(full, STDERR_FILENO);
  }
  ::close(full);
}

TEST(CaseC1, a_file_at_its_size_limit_raises_no_signal) {
  char path[] = "/tmp/memkv-stderr-XXXXXX";
  const int fd = mkstemp(path);
  unlink(path);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit none{0, before.rlim_max};
  {
    const StderrIs is(fd);
    setrlimit(RLIMIT_FSIZE, &none);
    EXPECT_FALSE(write_stderr("SIGXFSZ would end this test\n"));
    setrlimit(RLIMIT_FSIZE, &before);
  }
  ::close(fd);
}

TEST(CaseC1, a_terminal_that_is_stopped_holds_nobody_up) {
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(terminal, 0);
  ASSERT_EQ(grantpt(terminal), 0);
  ASSERT_EQ(unlockpt(terminal), 0);
  const int end = ::open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(end, 0);
  ASSERT_EQ(tcflow(end, TCOOFF), 0);  // as Ctrl-S does
  {
    const StderrIs is(end);
    EXPECT_FALSE(write_stderr("the user stopped the output\n"));
    EXPECT_EQ(tcflow(end, TCOON), 0);
    EXPECT_TRUE(write_stderr("and goes on\n", 1000));
  }
  ::close(end);
  ::close(terminal);
}

TEST(CaseC1, a_line_is_never_longer_than_a_pipe_takes_whole) {
  const Pipe pipe;
  {
    const StderrIs is(pipe.fds[1]);
    MEMKV_LOG(kInfo, "{}", std::string(10'000, 'x'));
  }
  const std::string line = pipe.read(64 * 1024);
  EXPECT_EQ(line.size(), 4096u);
  EXPECT_TRUE(line.ends_with("xxx...\n"));
}

TEST(CaseC1Threads, patience_waits_for_a_reader_and_no_longer) {
  const Pipe pipe;
  pipe.fill();
  const StderrIs is(pipe.fds[1]);
  EXPECT_FALSE(write_stderr("the reader sleeps\n", 20));
  std::thread reader([&] { (void)pipe.read(64 * 1024); });
  EXPECT_TRUE(write_stderr("the reader is back\n", 60'000));
  reader.join();
}

TEST(CaseC1, what_we_open_never_becomes_a_standard_stream) {
  EXPECT_EXIT(
      {
        ::close(STDIN_FILENO);
        UniqueFd opened(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        opened.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        const bool above = opened.get() > STDERR_FILENO && fcntl(STDIN_FILENO, F_GETFD) < 0 && errno == EBADF;
        _exit(above ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

TEST(CaseC1, closed_streams_are_held_by_what_fails) {
  EXPECT_EXIT(
      {
        for (const int fd : {0, 1, 2}) ::close(fd);
        hold_standard_streams();
        char byte = 0;
        const bool held = ::read(0, &byte, 1) < 0 && ::write(1, "x", 1) < 0 && ::write(2, "x", 1) < 0 &&
                          ::open("/dev/null", O_RDONLY) >= 3;
        _exit(held ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace memkv::base
