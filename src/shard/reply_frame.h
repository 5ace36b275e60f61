#pragma once
/// Frames on their way to a client, from a fixed pool.

#include <array>
#include <memory>

#include "shard/op.h"
#include "transport/link.h"

namespace memkv::shard {

inline constexpr size_t kFrameBodyBytes = 4096;
inline constexpr size_t kFramePiecesMax = 64;
/// Gets share a reply frame up to here: their slots come back together.
inline constexpr uint32_t kSharedPayloadMax = 256 * 1024;

struct ReplyFrame;

/// What a new frame resets as a whole.
struct ReplyFrameState {
  transport::SendFrame out;
  Connection* connection = nullptr;
  uint32_t payload_bytes = 0;                             ///< of its ops
  uint32_t lent_bytes = 0;                                ///< of them, counted for the tenant
  void (*after)(ReplyFrame& frame, bool sent) = nullptr;  ///< for what is not an op
  void* after_context = nullptr;
};

/// Owned by the worker's pool, lent to the link until on_done.
struct ReplyFrame : ReplyFrameState {
  OpQueue ops;  ///< whose payload this frame carries
  std::array<iovec, kFramePiecesMax> pieces{};
  std::array<wire::RemotePiece, kFramePiecesMax> remote_pieces;  ///< where the pieces go, if their ops said so
  std::array<std::byte, kFrameBodyBytes> body;

  ReplyFrameState& state() { return *this; }
};

}  // namespace memkv::shard
