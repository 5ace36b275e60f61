#include "tools/bench/bare.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/checksum.h"

namespace memkv::bench {
namespace {

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

void hash_block(base::Bytes block, uint64_t seed) {
  uint64_t sums[base::kGrainsPerChunk];
  for (size_t at = 0; at < block.size(); at += base::kChunkBytes) {
    base::grain_sums(block.subspan(at, std::min<size_t>(base::kChunkBytes, block.size() - at)), seed, sums);
    asm volatile("" : : "m"(sums));  // keeps the sums from being optimized away
  }
}

}  // namespace memkv::bench
