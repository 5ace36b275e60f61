#pragma once
/// Requests that are no ops of a batch: LIST, long EXISTS and STATUS; and prefetches, which go on when their op was
/// answered. Small pools of them per worker.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/store.h"
#include "shard/walk.h"
#include "wire/messages.h"

namespace memkv::shard {

class Connection;
struct Shard;

/// With the longest keys they still fit one frame body.
inline constexpr uint32_t kListEntriesMax = 240;
static_assert(12 + kListEntriesMax * (18 + kKeyBytesMax) <= wire::kBodyBytesMax);

/// Keys of an EXISTS that are looked up at a time.
inline constexpr uint32_t kExistsStepKeys = 512;
inline constexpr uint32_t kListOps = 4, kExistsOps = 16, kPrefetches = 1024;  ///< of a worker

/// What a new LIST resets as a whole.
struct ListState {
  Connection* connection = nullptr;
  Shard* shard = nullptr;
  uint64_t request_id = 0;
  uint64_t cursor = 0;  ///< of the shard's store
  size_t shard_at = 0;  ///< the shard's place in the worker's list
  uint32_t limit = 0;
  uint64_t next_cursor = 0;
  uint32_t at = 0;
  uint32_t count = 0;
};

/// Thread: worker.
struct ListOp : Walk, ListState {
  engine::Store::KeyOp key_op;
  std::optional<wire::ListReplyEncoder> encoder;
  std::array<engine::Store::ListEntry, kListEntriesMax> entries;
  std::array<char, kKeyBytesMax> key;
  std::array<std::byte, wire::kBodyBytesMax> body;

  ListState& state() { return *this; }
};
void end(ListOp& list);

/// What a new EXISTS resets as a whole.
struct ExistsState {
  Connection* connection = nullptr;
  uint64_t request_id = 0;
  uint32_t at = 0;  ///< keys looked up
  uint32_t count = 0;
  std::array<uint8_t, wire::kKeysPerExistsMax / 8> bits{};
};

/// An EXISTS with more keys than one step looks up.
struct ExistsOp : Walk, ExistsState {
  std::optional<wire::ExistsDecoder> decoder;  ///< over body
  std::array<std::byte, wire::kBodyBytesMax> body;

  ExistsState& state() { return *this; }
};

/// What a new prefetch resets as a whole.
struct PrefetchState {
  Connection* connection = nullptr;  ///< held meanwhile
  Shard* shard = nullptr;
  uint64_t deadline_ns = 0;
  uint64_t left_bytes = 0;  ///< of the block, from the next chunk on
  engine::Digest digest{};
  uint32_t next_chunk = 0;
};

/// One block whose chunks come into the RAM tier one after another. Thread: worker.
struct Prefetch : PrefetchState {
  engine::PrefetchOp op;
  base::ListLink<Prefetch> link;  ///< of its tenant, while it waits

  PrefetchState& state() { return *this; }
};
using PrefetchQueue = base::IntrusiveList<Prefetch, &Prefetch::link>;

struct StatusOp {
  Connection* connection = nullptr;
  std::string text;
};

}  // namespace memkv::shard
