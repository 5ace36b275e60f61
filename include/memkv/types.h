#pragma once
/// Plain types of the public API: limits, pieces, keys. Everything here is a value without behaviour.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace memkv {

inline constexpr uint64_t kChunkBytesMax = 2u << 20;  ///< the unit rule: no op on the wire carries more
inline constexpr uint32_t kKeyBytesMax = 1024;        ///< keys are 1 to 1,024 opaque bytes
inline constexpr uint16_t kPortDefault = 9900;

/// A version of a block: its sequence number in its shard. 0 = none.
using Generation = uint64_t;

/// How bytes travel between a client and a server. Auto: the best that works, shm before rdma before tcp.
enum class Transport : uint8_t { kAuto, kTcp, kShm, kRdma };
inline constexpr size_t kTransportCount = 4;  ///< kAuto included
constexpr std::string_view to_string(Transport transport) {
  constexpr std::string_view kNames[] = {"auto", "tcp", "shm", "rdma"};
  return kNames[static_cast<uint8_t>(transport)];
}

/// A piece of the caller's memory that a put reads. Borrowed until the op's completion.
struct ConstPiece {
  const void* data = nullptr;
  size_t size = 0;
};

/// A piece of the caller's memory that a get fills. Borrowed until the op's completion.
struct Piece {
  void* data = nullptr;
  size_t size = 0;
};

}  // namespace memkv
