#include "base/standard_streams.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <ctime>

#include "base/clock.h"

namespace memkv::base {
namespace {

/// How much a terminal takes without waiting once poll() says that it has room (WAKEUP_CHARS of the kernel's n_tty).
constexpr size_t kTerminalPieceBytes = 256;

std::atomic<bool> cut_line{false};  ///< the last text was cut short, so the next one must not continue its line

/// While it lives, signals that a write to stderr raises in this thread are held back. At its end those that came are
/// removed.
class HeldSignals {
 public:
  HeldSignals() {
    sigemptyset(&raised_);
    for (const int number : {SIGPIPE, SIGXFSZ, SIGTTOU}) sigaddset(&raised_, number);
    sigset_t pending;
    sigpending(&pending);
    for (const int number : {SIGPIPE, SIGXFSZ, SIGTTOU}) {
      if (sigismember(&pending, number) == 1) sigdelset(&raised_, number);  // was pending: somebody else's
    }
    pthread_sigmask(SIG_BLOCK, &raised_, &before_);
  }
  ~HeldSignals() {
    const timespec at_once{};
    while (sigtimedwait(&raised_, nullptr, &at_once) > 0) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t raised_{};
  sigset_t before_{};
};

ssize_t retried(auto&& call) {
  ssize_t done = -1;
  do {
    done = call();
  } while (done < 0 && errno == EINTR);
  return done;
}

/// Used where stderr cannot be opened a second time (no /proc, or a pipe of another user): writes only as much as
/// poll() promises will be taken at once.
ssize_t write_what_fits(std::string_view text, bool terminal) {
  pollfd room{STDERR_FILENO, POLLOUT, 0};
  if (::poll(&room, 1, 0) <= 0) return errno = EAGAIN, -1;
  iovec piece{const_cast<char*>(text.data()), terminal ? std::min(text.size(), kTerminalPieceBytes) : text.size()};
  const ssize_t done = retried([&] { return pwritev2(STDERR_FILENO, &piece, 1, -1, RWF_NOWAIT); });
  if (done >= 0 || errno != EOPNOTSUPP) return done;
  return retried([&] { return ::write(STDERR_FILENO, piece.iov_base, piece.iov_len); });
}

/// A pipe or a terminal is opened a second time, for this write alone. O_NONBLOCK is a flag of the open file, which
/// other programs share with us, so it must not be set on the one that we were given.
ssize_t write_nonblocking(std::string_view text, bool terminal) {
  const int fd = ::open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return errno == ENXIO ? -1 : write_what_fits(text, terminal);  // ENXIO: a pipe that nobody reads
  const ssize_t done = retried([&] { return ::write(fd, text.data(), text.size()); });
  const int error = errno;
  ::close(fd);
  errno = error;
  return done;
}

/// Like write(2), but it never waits for a reader.
ssize_t write_at_once(std::string_view text) {
  struct stat info {};
  if (::fstat(STDERR_FILENO, &info) != 0) return -1;
  if (S_ISSOCK(info.st_mode)) {
    return retried([&] { return ::send(STDERR_FILENO, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL); });
  }
  if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) return write_nonblocking(text, S_ISCHR(info.st_mode));
  return retried([&] { return ::write(STDERR_FILENO, text.data(), text.size()); });
}

/// Waits until stderr may take more. False: the time is over.
bool wait_for_room(uint64_t until_ns) {
  const uint64_t now = SystemClock().now_ns();
  if (now >= until_ns) return false;
  pollfd room{STDERR_FILENO, POLLOUT, 0};
  const auto left_ms = static_cast<int>((until_ns - now + kNsPerMs - 1) / kNsPerMs);
  // poll() may report room, and yet a whole line does not fit. Then we wait in steps of 1 ms.
  if (::poll(&room, 1, left_ms) > 0) ::poll(nullptr, 0, 1);
  return true;
}

}  // namespace

void hold_standard_streams() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // open() returns the lowest free number, which is this one. Input is opened for writing and output for reading, on
    // purpose: whoever uses the stream must get an error, as if it were closed.
    const int flags = fd == STDIN_FILENO ? O_WRONLY : O_RDONLY;
    if (::open("/dev/null", flags) < 0) (void)!::open("/", O_PATH);
  }
}

int above_standard_streams(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) return fd;
  const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int error = errno;
  ::close(fd);
  errno = error;
  return moved;
}

bool write_stderr(std::string_view text, uint32_t patience_ms) {
  const HeldSignals held;
  const uint64_t until_ns = patience_ms == 0 ? 0 : SystemClock().now_ns() + patience_ms * kNsPerMs;
  if (cut_line.exchange(false, std::memory_order_relaxed)) (void)write_at_once("\n");
  const size_t size = text.size();
  while (!text.empty()) {
    const ssize_t done = write_at_once(text);
    if (done > 0) {
      text.remove_prefix(static_cast<size_t>(done));
    } else if (done == 0 || errno != EAGAIN || !wait_for_room(until_ns)) {
      break;
    }
  }
  if (!text.empty() && text.size() < size) cut_line.store(true, std::memory_order_relaxed);
  return text.empty();
}

}  // namespace memkv::base
