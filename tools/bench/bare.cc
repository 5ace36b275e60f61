#include "tools/bench/bare.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#include "base/checksum.h"

namespace memkv::bench {
namespace {

constexpr int kPipeBytes = 1 << 20;  // as much as a user may ask for (pipe-max-size)

template <typename Move>
bool move_all(std::span<iovec> pieces, Move&& move) {
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  while (message.msg_iovlen > 0) {
    const ssize_t n = move(message);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    auto left = static_cast<size_t>(n);
    while (message.msg_iovlen > 0 && left >= message.msg_iov->iov_len) {
      left -= message.msg_iov->iov_len;
      message.msg_iov++;
      message.msg_iovlen--;
    }
    if (left == 0) continue;
    message.msg_iov->iov_base = static_cast<char*>(message.msg_iov->iov_base) + left;
    message.msg_iov->iov_len -= left;
  }
  return true;
}

}  // namespace

bool send_all(int fd, std::span<iovec> pieces) {
  return move_all(pieces, [fd](msghdr& message) { return sendmsg(fd, &message, MSG_NOSIGNAL); });
}

bool receive_all(int fd, std::span<iovec> pieces) {
  return move_all(pieces, [fd](msghdr& message) { return recvmsg(fd, &message, MSG_WAITALL); });
}

std::optional<PagePipe> PagePipe::make() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) return std::nullopt;
  PagePipe pipe{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
  if (::fcntl(ends[1], F_SETPIPE_SZ, kPipeBytes) < kPipeBytes) return std::nullopt;
  (void)std::signal(SIGPIPE, SIG_IGN);
  return pipe;
}

bool PagePipe::send(int socket, base::Bytes head, base::Bytes block) {
  if (::send(socket, head.data(), head.size(), MSG_MORE) != static_cast<ssize_t>(head.size())) return false;
  while (!block.empty()) {
    const iovec next{const_cast<std::byte*>(block.data()), std::min<size_t>(block.size(), kPipeBytes)};
    ssize_t piped = ::vmsplice(in_.get(), &next, 1, 0);
    if (piped <= 0) return false;
    block = block.subspan(static_cast<size_t>(piped));
    while (piped > 0) {
      const unsigned more = block.empty() ? 0 : SPLICE_F_MORE;
      const ssize_t moved =
          ::splice(out_.get(), nullptr, socket, nullptr, static_cast<size_t>(piped), SPLICE_F_MOVE | more);
      if (moved <= 0) return false;
      piped -= moved;
    }
  }
  return true;
}

void hash_block(base::Bytes block, uint64_t seed) {
  uint64_t sums[base::kGrainsPerChunk];
  for (size_t at = 0; at < block.size(); at += base::kChunkBytes) {
    base::grain_sums(block.subspan(at, std::min<size_t>(base::kChunkBytes, block.size() - at)), seed, sums);
    asm volatile("" : : "m"(sums));  // keeps the sums from being optimized away
  }
}

}  // namespace memkv::bench
