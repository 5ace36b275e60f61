#include "transport/one_copy.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "base/assert.h"
#include "base/bytes.h"

namespace memkv::transport {
namespace {

/// As much as an unprivileged user may ask for (pipe-max-size). 64 of them are that user's soft limit for all pipes.
constexpr int kPipeBytes = 1 << 20;
constexpr uint32_t kPipesMax = 64;

/// splice(2) into a socket whose peer is gone raises SIGPIPE, and has no flag against it. A library must not kill the
/// program that it lives in.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    if (sigismember(&before_, SIGPIPE) == 0) pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;
  /// One was raised for this thread, unless it was blocked before us.
  void swallow() {
    if (sigismember(&before_, SIGPIPE) == 1) return;
    const timespec at_once{};
    while (sigtimedwait(&pipe_, nullptr, &at_once) < 0 && errno == EINTR) {
    }
  }

 private:
  sigset_t pipe_{}, before_{};
};

}  // namespace

PageRun page_run(const void* data, size_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(data);
  const size_t head = base::align_up(at, kPageBytes) - at;
  if (bytes < head + kLentRunMin) return {};
  return {head, base::align_down(bytes - head, kPageBytes)};
}

PageLender::~PageLender() {
  if (in_) stats_.pipes.fetch_sub(1, std::memory_order_relaxed);
}

/// The socket must be one that does not block: splice(2) has no flag for that side.
bool PageLender::open(int socket) {
  if (in_ || failed_) return !failed_;
  failed_ = true;
  if (stats_.pipes.load(std::memory_order_relaxed) >= kPipesMax) return false;
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) < 0) return false;
  base::UniqueFd out(ends[0]), in(ends[1]);
  if (::fcntl(in.get(), F_SETPIPE_SZ, kPipeBytes) < kPipeBytes) return false;
  const int mode = ::fcntl(socket, F_GETFL);
  if (mode < 0 || ::fcntl(socket, F_SETFL, mode | O_NONBLOCK) < 0) return false;
  out_ = std::move(out);
  in_ = std::move(in);
  failed_ = false;
  stats_.pipes.fetch_add(1, std::memory_order_relaxed);
  return true;
}

int64_t PageLender::send(int socket, std::span<std::byte> pages, bool more) {
  MEMKV_ASSERT(in_ && piped_ <= pages.size(), "goes on where the last call ended");
  if (piped_ < pages.size() && piped_ < kPipeBytes) {
    const iovec next{pages.data() + piped_, std::min(pages.size() - piped_, kPipeBytes - piped_)};
    const ssize_t took = ::vmsplice(in_.get(), &next, 1, SPLICE_F_NONBLOCK);
    if (took > 0) piped_ += static_cast<size_t>(took);
    if (piped_ == 0) return -ENOTSUP;  // memory that has no pages of the kernel's, such as a device's
  }
  NoSigpipe guard;
  const unsigned flags = SPLICE_F_NONBLOCK | SPLICE_F_MOVE | (more || piped_ < pages.size() ? SPLICE_F_MORE : 0u);
  ssize_t moved = 0;
  do {
    moved = ::splice(out_.get(), nullptr, socket, nullptr, piped_, flags);
  } while (moved < 0 && errno == EINTR);
  if (moved < 0) {
    const int error = errno;
    if (error == EPIPE) guard.swallow();
    return -error;
  }
  MEMKV_ASSERT(moved > 0, "the pipe is not empty");
  piped_ -= static_cast<size_t>(moved);
  OneCopyStats::add(stats_.lent_bytes, static_cast<uint64_t>(moved));
  return moved;
}

}  // namespace memkv::transport
