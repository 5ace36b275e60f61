#pragma once
/// What a Batch holds: op descriptions over shared arrays, so that a cleared batch is refilled without allocation.

#include <sys/uio.h>

#include <string>
#include <string_view>
#include <vector>

#include "memkv/client.h"

namespace memkv {
namespace client {

enum class Kind : uint8_t { kGet, kPut, kWrite, kExists, kRemove, kTouch, kStat, kPrefetch, kFlush, kStatus, kList };

/// Ops that only change or read what a second try changes or reads again without harm.
constexpr bool is_read(Kind k) {
  return k == Kind::kGet || k == Kind::kExists || k == Kind::kTouch || k == Kind::kStat || k == Kind::kPrefetch ||
         k == Kind::kStatus || k == Kind::kList;
}

/// For ops that name a server instead of a key: what goes there and what comes back.
struct AdminSlot {
  size_t server = 0;
  uint16_t worker = 0;              ///< kList
  uint64_t cursor = 0;              ///< kList: from, then the next (0 = end)
  uint32_t limit = 0;               ///< kList
  uint16_t worker_count = 0;        ///< out
  std::string text;                 ///< out: kStatus
  std::vector<ListedBlock> blocks;  ///< out: kList, appended
};

struct BatchOp {
  Kind kind{};
  bool if_absent = false;
  bool chained = false;
  bool invalid = false;  ///< key empty or too long
  bool touch = false;    ///< of kExists
  bool fed = false;      ///< its bytes become readable while it is under way
  uint32_t key_at = 0, key_bytes = 0;
  uint32_t piece_at = 0, piece_count = 0;
  uint64_t offset = 0;
  Generation if_generation = 0;
  AdminSlot* admin = nullptr;
};

}  // namespace client

struct Batch::Impl {
  std::vector<client::BatchOp> ops;
  std::string keys;
  std::vector<iovec> pieces;
  uint64_t bytes = 0;  ///< of all pieces

  client::BatchOp& add(client::Kind kind, std::string_view key);
  void add_piece(client::BatchOp& op, const void* data, size_t size);
  std::string_view key_of(const client::BatchOp& op) const {
    return std::string_view(keys).substr(op.key_at, op.key_bytes);
  }
  std::span<const iovec> pieces_of(const client::BatchOp& op) const {
    return std::span(pieces).subspan(op.piece_at, op.piece_count);
  }
  void clear() {
    ops.clear();
    keys.clear();
    pieces.clear();
    bytes = 0;
  }
};

}  // namespace memkv
