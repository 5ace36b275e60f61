#pragma once
/// What the bare server and its client share: the protocol, blocking transfers, checksums as MemKV makes them.
/// The protocol: 16 bytes, then the block of a put; a get is answered by 16 bytes and the block.

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "base/bytes.h"

namespace memkv::bench {

struct BareHeader {
  uint32_t put;
  uint32_t bytes;
  uint64_t number;
};

/// Sends, or receives, exactly what the pieces hold; they are used up. False: the connection is gone.
bool send_all(int fd, std::span<iovec> pieces);
bool receive_all(int fd, std::span<iovec> pieces);

/// A sum for each 64 KiB grain of each chunk, thrown away.
void hash_block(base::Bytes block, uint64_t seed);

}  // namespace memkv::bench
