#pragma once
/// What goes to a server: a unit is one op on the wire, a request is the part of a caller's op that its units share.

#include "base/intrusive_list.h"
#include "client/batch.h"
#include "client/pieces.h"
#include "transport/link.h"

namespace memkv::client {

struct Unit;
struct RequestFrame;

/// A connection, and which of its links: an upload belongs to one.
struct Path {
  static constexpr uint32_t kNone = ~uint32_t{0};
  uint32_t connection = kNone;  ///< its number at its server
  uint64_t epoch = 0;
  explicit operator bool() const { return connection != kNone; }
};

/// What a server's side reads of an op. It writes `holds` alone.
struct Request {
  const BatchOp* spec = nullptr;
  std::string_view key;
  std::span<const iovec> pieces;
  uint64_t bytes = 0;        ///< of all pieces
  bool gpu = false;          ///< its pieces are registered GPU memory: rdma alone may touch them
  uint64_t deadline_ns = 0;  ///< of the whole op
  Generation demanded = 0;   ///< if_generation of its units
  Path pinned;               ///< units go over this link only
  uint64_t upload = 0;       ///< its number, for chunks and commit
  uint32_t holds = 0;        ///< frames whose payload, or exposed memory, is this op's: its memory is not quiet yet
};

/// One op on the wire, at most one chunk. Lives in its op's list, and in one queue while it is not in a frame.
struct Unit {
  base::ListLink<Unit> op_link;
  base::ListLink<Unit> queue_link;
  base::IntrusiveList<Unit, &Unit::queue_link>* queue = nullptr;
  Request* op = nullptr;
  wire::OpKind kind{};
  uint8_t attempts = 0;                ///< refusals and lost connections so far
  bool mismatched = false;             ///< its bytes failed their checksum once
  uint16_t worker = wire::kAnyWorker;  ///< flush and list name one; else the key says
  uint16_t index = 0;                  ///< in frame->units
  uint32_t length = 0;
  uint64_t offset = 0;            ///< in the block
  uint64_t due_ns = 0;            ///< while waiting to be tried again
  PiecePlace place;               ///< where its bytes start in the op's pieces
  RequestFrame* frame = nullptr;  ///< handed to a link, not answered
  uint16_t exposure = 0;          ///< in frame->exposures, counted from 1; 0 = none
  uint64_t* load = nullptr;       ///< of the connection that it was given to
  uint64_t charge = 0;            ///< in *load

  void put_on(uint64_t& of_connection, uint64_t bytes) {
    take_off();
    load = &of_connection;
    charge = bytes;
    *load += charge;
  }
  void take_off() {
    if (load) *load -= charge;
    load = nullptr;
  }
  void leave_queue() {
    if (queue) queue->remove(*this);
    queue = nullptr;
  }
};
using UnitQueue = base::IntrusiveList<Unit, &Unit::queue_link>;

inline void add_to(UnitQueue& queue, Unit& unit) {
  unit.queue = &queue;
  queue.push_back(unit);
}

/// Its bytes count against the credit for gets.
inline bool is_large_get(const Unit& unit) {
  return unit.kind == wire::OpKind::kGet && unit.length > wire::kEagerPayloadMax;
}

inline uint32_t in_chunk(uint64_t offset) { return static_cast<uint32_t>(offset % kChunkBytesMax); }

}  // namespace memkv::client
