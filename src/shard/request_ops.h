#pragma once
/// Requests that are no ops of a batch: LIST and STATUS. Small pools of them per worker.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "engine/store.h"
#include "wire/messages.h"

namespace memkv::shard {

class Connection;
struct Shard;

/// With the longest keys they still fit one frame body.
inline constexpr uint32_t kListEntriesMax = 240;
static_assert(12 + kListEntriesMax * (18 + kKeyBytesMax) <= wire::kBodyBytesMax);

/// Thread: worker.
struct ListOp {
  Connection* connection = nullptr;
  Shard* shard = nullptr;
  uint64_t request_id = 0;
  uint64_t next_cursor = 0;
  uint32_t at = 0;
  uint32_t count = 0;
  engine::Store::KeyOp key_op;
  std::optional<wire::ListReplyEncoder> encoder;
  std::array<engine::Store::ListEntry, kListEntriesMax> entries;
  std::array<char, kKeyBytesMax> key;
  std::array<std::byte, wire::kBodyBytesMax> body;
};
void end(ListOp& list);

struct StatusOp {
  Connection* connection = nullptr;
  std::string text;
};

}  // namespace memkv::shard
