#pragma once
/// One op of a client under way in a worker, from its frame to its reply.

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <variant>

#include "base/intrusive_list.h"
#include "engine/store.h"
#include "io/arena.h"
#include "transport/link.h"
#include "wire/messages.h"

namespace memkv::shard {

class Connection;
class Worker;
struct Op;
struct Tenant;

/// A shard as its worker holds it.
struct Shard {
  uint32_t number = 0;
  std::unique_ptr<engine::Store> store;
};

/// What a new upload resets as a whole.
struct UploadState {
  engine::Upload engine;
  Connection* connection = nullptr;
  Shard* shard = nullptr;
  uint64_t id = 0;             ///< as the client knows it; 0 = free
  uint32_t ops = 0;            ///< chunks and commit that have a context: the upload lives at least as long
  uint64_t begin_request = 0;  ///< the op that began it
  uint16_t begin_index = 0;
  /// At the earliest that of the whole block, afterwards it is nobody's. Rather late than early: its commit has a
  /// deadline of its own.
  uint64_t deadline_ns = 0;
  uint64_t moved_ns = 0;  ///< when something of it last came, or ended
  bool range_write = false;
  bool committing = false;  ///< with the store
  bool closed = false;      ///< aborted or committed
  std::string_view key;     ///< in key_bytes
};

/// A large put or range write of a connection, from begin to commit or abort. Thread: worker.
struct Upload : UploadState {
  base::ListLink<Upload> link;  ///< of its connection
  std::array<char, kKeyBytesMax> key_bytes;

  UploadState& state() { return *this; }
};

enum class Phase : uint8_t {
  kWaiting,    ///< for its payload, or for the op that it is chained to
  kReady,      ///< in the worker's ready queue
  kWaitsSend,  ///< a get whose reply has no room yet in the link's send queue
  kWaitsSlot,  ///< a get without a slot to read into
  kRunning,    ///< with the store
  kDone,       ///< to be replied
  kSending,    ///< its payload is with the link
};

/// The ops of one OPS frame that have no reply yet.
struct OpsFrame;

/// What the client asked for. It stands from admission on.
struct OpRequest {
  wire::OpKind kind{};
  uint8_t flags = 0;
  uint8_t priority = 0;
  uint8_t remote_piece_count = 0;
  uint16_t index = 0;
  uint32_t length = 0;
  uint32_t chunk_number = 0;
  uint32_t expiry_s = 0;
  uint64_t offset = 0;
  uint64_t generation = 0;
  uint64_t deadline_ns = 0;
  uint64_t left_ns = 0;  ///< to its deadline, when the frame was made
  uint64_t epoch = 0;    ///< of its client, likewise
  engine::BlockKey key;  ///< its bytes are in Op::key_bytes; the digest is filled in when the shard is found
};

/// What the client gets to hear.
struct OpReply {
  Status status = Status::kInternal;
  uint8_t flags = 0;
  uint16_t sum_count = 0;
  uint32_t bytes = 0;  ///< of payload
  uint32_t expiry_s = 0;
  uint64_t generation = 0;
  uint64_t block_bytes = 0;
  const std::byte* data = nullptr;
  const uint64_t* sums = nullptr;
};

/// How far an op is, and what it holds.
struct OpState {
  Connection* connection = nullptr;
  OpsFrame* frame = nullptr;
  Shard* shard = nullptr;
  Upload* upload = nullptr;
  Op* chained = nullptr;            ///< starts when this one is done
  Op* waits_for = nullptr;          ///< the one that it is chained to, while that is not done
  void (*step)(Op&) = nullptr;      ///< what the ready queue runs
  void (*verified)(Op&) = nullptr;  ///< what follows when all sums are right

  Phase phase = Phase::kWaiting;
  bool received = false;  ///< payload complete, or none to come
  bool chain_failed = false;
  bool canceled = false;  ///< by CANCEL: answered CANCELED instead of a reply
  uint8_t attempts = 0;

  io::Slot slot;
  engine::Reservation reservation;
  bool reading = false;           ///< the store holds bytes for us until release()
  transport::SendRoom send_room;  ///< of its connection's, for the reply of a get

  // Checksums of the payload, verified or made step by step.
  uint64_t seed = 0;
  uint32_t hashed_bytes = 0;
  uint16_t sum_count = 0;
};

/// Fixed pool per worker. Owns its slot, reservation or pinned read until its reply has left. A new life resets state,
/// request and reply, each as a whole (Admission::admit); the arrays hold as much as their counts say.
struct Op : OpState {
  OpRequest request;
  OpReply reply;

  std::variant<std::monostate, engine::PutOp, engine::ChunkOp, engine::CommitOp, engine::WriteOp, engine::ReadOp,
               engine::RemoveOp, engine::FlushOp>
      store_op;

  base::ListLink<Op> link;        ///< of its connection
  base::ListLink<Op> queue_link;  ///< ready, waiting for room or a slot, done, or in a frame

  std::array<uint64_t, wire::kSumsMax> sums{};  ///< sum_count of them
  /// A get over rdma: where its bytes go in the client's memory. request.remote_piece_count of them.
  std::array<wire::RemotePiece, wire::kRemotePiecesPerOpMax> remote_pieces;
  std::array<char, kKeyBytesMax> key_bytes;

  OpState& state() { return *this; }
  std::byte* data() const { return reservation.data != nullptr ? reservation.data : slot.data; }
  engine::PayloadIn payload() const { return {data(), request.length, sums.data()}; }
};

using OpQueue = base::IntrusiveList<Op, &Op::queue_link>;

/// What a new frame of ops resets as a whole.
struct OpsFrameState {
  Connection* connection = nullptr;
  uint64_t id = 0;
  uint32_t live = 0;  ///< ops not yet replied
};

struct OpsFrame : OpsFrameState {
  OpQueue done;                                         ///< replies without payload
  OpQueue done_payload;                                 ///< replies with payload
  base::ListLink<OpsFrame> replying_link, loaded_link;  ///< of its connection's lists of frames with such replies

  OpsFrameState& state() { return *this; }
};

/// Ends the op with this status: its reply goes out at the end of the turn. Never frees the op.
void finish(Op& op, Status status);
/// Runs `step` in this turn of the loop or the next.
void run_later(Op& op, void (*step)(Op&));
/// Begins the op's work; its payload is there, the op it was chained to is done.
void start(Op& op);
/// The same for one that was found fit to start just now.
void begin(Op& op);
/// Gives back slot, reservation, pinned bytes and room in the send queue.
void release_resources(Op& op);
/// The deadline has passed.
bool expired(const Op& op);
/// A change that must not be done any more: its client has begun a newer epoch.
bool fenced(const Op& op);
/// Ties the store's part of an op to it: where it ends, its deadline and its fence.
void bind(engine::StoreOp& store_op, Op& op, engine::StoreOp::Fn on_done);

Worker& worker_of(const Op& op);

// One file each: the first step of every kind.
void start_get(Op& op);
void start_put(Op& op);
void start_write(Op& op);
void start_begin(Op& op);
void start_chunk(Op& op);
void start_commit(Op& op);
void start_abort(Op& op);
void start_remove(Op& op);
void start_touch(Op& op);
void start_stat(Op& op);
void start_prefetch(Op& op);
void start_flush(Op& op);
void start_suspect(Op& op);

/// An upload that no op uses and that is closed goes back to its pool.
void close_upload(Upload& upload);
/// Neither committed nor being committed: its chunks are dead.
void abort_upload(Upload& upload);
void release_upload(Upload& upload);

enum class HashStep : uint8_t { kMore, kGood, kBad };
/// Verifies, or makes, the sums of the grains that lie whole in the first `arrived` bytes of the payload: at most 256
/// KiB a call.
HashStep hash_step(Op& op, uint32_t arrived);
/// The seed of the chunk that the payload belongs to; for ops that passed the check.
uint64_t chunk_seed_of(const Op& op);
/// Verifies all of the payload, in as many turns as it takes, then runs `then`; a mismatch ends the op with kCorrupt.
void verify_payload(Op& op, void (*then)(Op&));

}  // namespace memkv::shard
