#pragma once
/// The records of what is under way: a call (a batch), its ops, their units (one op on the wire each), and frames.

#include <array>
#include <memory>
#include <vector>

#include "base/intrusive_list.h"
#include "client/batch.h"
#include "client/pieces.h"
#include "client/pool.h"
#include "transport/link.h"

namespace memkv::client {

class Connection;
class RemoteServer;
struct Call;
struct Op;
struct Unit;
struct RequestFrame;

/// One op on the wire, at most one chunk. Lives in its op's list, and in one queue while it is not in a frame.
struct Unit {
  base::ListLink<Unit> op_link;
  base::ListLink<Unit> queue_link;
  base::IntrusiveList<Unit, &Unit::queue_link>* queue = nullptr;
  Op* op = nullptr;
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
};
using UnitQueue = base::IntrusiveList<Unit, &Unit::queue_link>;

/// One op of a batch. Complete when all its units are done and no frame holds its memory.
struct Op {
  base::ListLink<Op> link;  ///< in its call
  base::IntrusiveList<Unit, &Unit::op_link> units;
  Call* call = nullptr;
  const BatchOp* spec = nullptr;
  uint32_t index = 0;  ///< in the batch
  RemoteServer* server = nullptr;
  std::string_view key;
  std::span<const iovec> pieces;
  uint64_t bytes = 0;        ///< of all pieces
  bool gpu = false;          ///< its pieces are registered GPU memory: rdma alone may touch them
  uint64_t ready_bytes = 0;  ///< of them, from the front, may be read; units with others wait in no queue
  uint64_t deadline_ns = 0;

  bool is_ready(const Unit& unit) const;
  bool upload_is_lost() const;

  /// A put or write over more than one chunk: begin, then chunks on the same connection, then commit.
  enum class Phase : uint8_t { kSingle, kBegin, kChunks, kCommit };
  Phase phase = Phase::kSingle;
  Connection* pinned = nullptr;
  uint64_t pinned_epoch = 0;
  uint64_t upload = 0;
  uint64_t expanded_by = 0;  ///< a flush: the number of the map that its units were made by

  uint32_t holds = 0;        ///< frames whose payload, or exposed memory, is this op's: not quiet yet
  bool finishing = false;    ///< `outcome` is final; waits for holds
  bool asked_again = false;  ///< a get whose units came from different generations
  bool generations_differ = false;
  Generation demanded = 0;       ///< if_generation of its units
  Status refusal = Status::kOk;  ///< the last kBusy or kNotReady
  uint64_t drain_until_ns = 0;   ///< past its deadline: the connection that holds its memory is closed then
  Outcome outcome;

  void reset();
};

/// The ops of one call that wait for their turn at one server: they have no records yet. Calls take turns there, so
/// that a small one never stands behind a list of a million.
struct Lane {
  base::ListLink<Lane> link;  ///< in its server's; not linked: nothing waits
  Call* call = nullptr;
  std::vector<uint32_t> ops;  ///< places in the batch
  size_t next = 0;            ///< the first of them that has not started
};

/// A batch under way. Owned by who submits it, untouched until on_done.
struct Call {
  using Fn = void (*)(Call& call);
  Batch::Impl* batch = nullptr;
  std::vector<Outcome>* outcomes = nullptr;
  std::vector<uint32_t>* completed = nullptr;  ///< ops, as they become complete; null = nobody asks
  uint64_t timeout_ns = 0;                     ///< 0 = the default of each op's kind
  Fn on_done = nullptr;                        ///< may run inside submit()
  void* context = nullptr;
  // Private to the context.
  base::ListLink<Call> link;
  base::IntrusiveList<Op, &Op::link> ops;
  size_t left = 0;
  std::vector<uint32_t> to_start;  ///< ops whose turn came while another was being started
  bool starting = false;
  uint64_t started_ns = 0;
  uint64_t weight = 0;        ///< what its bytes and ops count for default deadlines
  uint64_t allowance_ns = 0;  ///< what default deadlines get on top for the bytes that are under way
  std::vector<Lane> lanes;    ///< by server; empty unless the batch is a long list
  size_t waiting = 0;         ///< ops in lanes
  bool canceled = false;
};

/// Memory that the server may write until it has answered one op of a frame.
struct FrameExposure {
  uint16_t index = 0;    ///< of the op
  Op* holder = nullptr;  ///< whose own memory it is; null: a slot of ours, or done
  transport::Exposure memory;
};

/// A frame on its way out and the replies that it waits for.
struct RequestFrame {
  static constexpr size_t kSmallBody = 4096;
  static constexpr size_t kSmallUnits = 8;

  transport::SendFrame out;
  base::ListLink<RequestFrame> link;  ///< in its connection
  Connection* connection = nullptr;
  uint32_t slot = 0;         ///< low bits of its request ids
  std::vector<Unit*> units;  ///< by op index; null = given up or answered
  std::vector<Op*> holders;  ///< ops whose memory is in the payload, once per unit
  std::vector<FrameExposure> exposures;
  std::vector<uint16_t> canceled;  ///< ops that the server is to be told of, once the frame has left
  transport::Exposure offered;     ///< GPU memory that the payload stands in
  uint32_t unanswered = 0;
  bool on_link = false;
  bool never_left = false;  ///< the link was dying already
  uint32_t credit = 0;      ///< what its payload takes of the connection's
  bool counts_ops = false;  ///< its ops without a reply count against the connection's limit
  uint32_t eager_bytes = 0;
  uint64_t sent_ns = 0;
  uint64_t epoch = 0;  ///< of the client, when its ops were put in
  std::vector<iovec> payload;
  std::unique_ptr<std::byte[]> body;
  size_t body_capacity = 0;
  std::unique_ptr<std::byte[]> stage;  ///< payloads of more pieces than a frame takes
};
using FrameList = base::IntrusiveList<RequestFrame, &RequestFrame::link>;

}  // namespace memkv::client
