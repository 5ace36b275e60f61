#pragma once
/// What the bare server and its client share: the protocol, blocking transfers, and checksums as MemKV makes them.
/// Protocol: a request of 16 bytes, followed by the block if it is a put. A get is answered by 16 bytes and the block.

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>

#include "base/bytes.h"
#include "base/unique_fd.h"

namespace memkv::bench {

struct BareHeader {
  uint32_t put;
  uint32_t bytes;
  uint64_t number;
};

/// Sends, or receives, exactly the bytes of the pieces, and uses the pieces up. False: the connection is gone.
bool send_all(int fd, std::span<iovec> pieces);
bool receive_all(int fd, std::span<iovec> pieces);

/// A pipe through which a sender hands its pages to a socket: TCP with one copy, which the receiver makes. What is sent
/// must not change until the receiver has it. From the first one on the process ignores SIGPIPE, which splice(2) raises.
class PagePipe {
 public:
  static std::optional<PagePipe> make();
  /// Sends `head` as a copy, and lends `block`. `socket` blocks. False: the connection is gone.
  bool send(int socket, base::Bytes head, base::Bytes block);

 private:
  PagePipe(base::UniqueFd out, base::UniqueFd in) : out_(std::move(out)), in_(std::move(in)) {}
  base::UniqueFd out_, in_;
};

/// Makes a sum for each 64 KiB grain of each chunk, and throws the sums away.
void hash_block(base::Bytes block, uint64_t seed);

}  // namespace memkv::bench
