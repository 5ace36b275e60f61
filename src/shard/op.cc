#include "shard/op.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/hash.h"
#include "base/test_rules.h"
#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

namespace {

constexpr uint32_t kHashStepBytes = 256 * 1024;

using Start = void (*)(Op&);

/// The file that does this kind of op, by its first step.
Start start_of(wire::OpKind kind) {
  switch (kind) {
    case wire::OpKind::kGet:
      return start_get;
    case wire::OpKind::kPut:
      return start_put;
    case wire::OpKind::kWrite:
      return start_write;
    case wire::OpKind::kBegin:
      return start_begin;
    case wire::OpKind::kChunk:
      return start_chunk;
    case wire::OpKind::kCommit:
      return start_commit;
    case wire::OpKind::kAbort:
      return start_abort;
    case wire::OpKind::kRemove:
      return start_remove;
    case wire::OpKind::kTouch:
      return start_touch;
    case wire::OpKind::kStat:
      return start_stat;
    case wire::OpKind::kFlush:
      return start_flush;
    case wire::OpKind::kSuspect:
      return start_suspect;
    case wire::OpKind::kPrefetch:
      return start_prefetch;
    case wire::OpKind::kPin:
      break;
  }
  MEMKV_ASSERT(false, "check() lets only known kinds through");
}

/// Always, unless a test takes the rule out.
bool is_ordered(const Connection& connection) {
  return base::rules().shm_in_order || connection.transport() != Transport::kShm;
}

}  // namespace

Worker& worker_of(const Op& op) { return op.connection->worker(); }

bool expired(const Op& op) { return worker_of(op).now_ns() >= op.request.deadline_ns; }

bool fenced(const Op& op) {
  return op.request.epoch < op.connection->client()->epoch && wire::is_change(op.request.kind) &&
         base::rules().clients_in_order && is_ordered(*op.connection);
}

void bind(engine::StoreOp& store_op, Op& op, engine::StoreOp::Fn on_done) {
  store_op.on_done = on_done;
  store_op.context = &op;
  store_op.deadline_ns = op.request.deadline_ns;
  store_op.fence =
      &op.connection->client()->epoch;  // it lives as long as the connection, which lives as long as the op
  store_op.epoch = op.request.epoch;
  if (!is_ordered(*op.connection)) store_op.fence = nullptr;
}

void start(Op& op) {
  MEMKV_ASSERT(op.received && op.waits_for == nullptr);
  if (op.chain_failed || op.canceled || op.connection->closing()) return finish(op, Status::kCanceled);
  if (expired(op)) {
    Worker& worker = worker_of(op);
    worker.count(worker.mutable_stats().deadlines_missed);
    return finish(op, Status::kDeadline);
  }
  begin(op);
}

void begin(Op& op) {
  op.phase = Phase::kRunning;
  start_of(op.request.kind)(op);
}

void run_later(Op& op, void (*step)(Op&)) {
  op.step = step;
  worker_of(op).run_later(op);
}

void finish(Op& op, Status status) {
  MEMKV_ASSERT(op.phase != Phase::kDone && op.phase != Phase::kSending, "finished twice");
  op.reply.status = status;
  op.phase = Phase::kDone;
  if (status == Status::kBusy && fenced(op)) {
    op.reply.flags = wire::kReplyFenced;
    Worker& worker = worker_of(op);
    worker.count(worker.mutable_stats().fenced);
  }
  if (op.reply.bytes == 0 || op.canceled) {
    op.reply.bytes = 0;
    release_resources(op);
  }
  if (Op* before = std::exchange(op.waits_for, nullptr)) before->chained = nullptr;  // refused before its turn
  if (Op* next = std::exchange(op.chained, nullptr)) {
    next->waits_for = nullptr;
    next->chain_failed = is_failure(status);
    if (next->received && next->phase == Phase::kWaiting) run_later(*next, start);
  }
  op.connection->replies().op_done(op);
}

void release_resources(Op& op) {
  Worker& worker = worker_of(op);
  if (std::exchange(op.reading, false)) op.shard->store->release(std::get<engine::ReadOp>(op.store_op));
  if (op.slot && !base::rules().slot_freed_once) worker.slots().give(op.connection->holder(), op.slot);
  if (op.slot) worker.slots().give(op.connection->holder(), std::exchange(op.slot, {}));
  if (op.reservation.data != nullptr) {
    Holder& holder = op.connection->holder();
    holder.tenant->room_bytes -= op.request.length;
    holder.room_bytes -= op.request.length;
    op.shard->store->abandon(std::exchange(op.reservation, {}));
  }
  op.connection->send_room().give(op);
  worker.room_freed();
}

uint64_t chunk_seed_of(const Op& op) {
  if (op.request.kind == wire::OpKind::kChunk)
    return engine::checksum_seed(op.request.key.namespace_id, op.upload->key, op.request.chunk_number);
  const uint64_t chunk = op.request.kind == wire::OpKind::kPut ? 0 : op.request.offset / kChunkBytesMax;
  return engine::checksum_seed(op.request.key.namespace_id, op.request.key.key, static_cast<uint32_t>(chunk));
}

HashStep hash_step(Op& op, uint32_t arrived) {
  const bool make = (op.request.flags & wire::kOpServerChecksum) != 0;
  const uint64_t in_chunk = op.request.kind == wire::OpKind::kPut ? 0 : op.request.offset % kChunkBytesMax;
  const auto sum_index = [&](uint64_t at) {
    return static_cast<size_t>(at / base::kGrainBytes - in_chunk / base::kGrainBytes);
  };
  uint32_t budget = kHashStepBytes;
  while (op.hashed_bytes < op.request.length && budget > 0) {
    const uint64_t at = in_chunk + op.hashed_bytes;
    const uint64_t grain = at / base::kGrainBytes;
    const uint64_t piece =
        std::min<uint64_t>((grain + 1) * base::kGrainBytes - at, op.request.length - op.hashed_bytes);
    if (op.hashed_bytes + piece > arrived) return HashStep::kMore;
    const uint64_t sum = base::xxh3({op.data() + op.hashed_bytes, piece}, op.seed + grain);
    uint64_t& expected = op.sums[sum_index(at)];
    if (make) {
      expected = sum;
    } else if (expected != sum) {
      return HashStep::kBad;
    }
    op.hashed_bytes += static_cast<uint32_t>(piece);
    budget -= std::min(budget, static_cast<uint32_t>(piece));
  }
  if (op.hashed_bytes < op.request.length) return HashStep::kMore;
  op.sum_count = op.request.length == 0 ? 0 : static_cast<uint16_t>(sum_index(in_chunk + op.request.length - 1) + 1);
  return HashStep::kGood;
}

namespace {

void verify_more(Op& op) {
  if (op.canceled) return finish(op, Status::kCanceled);
  switch (hash_step(op, op.request.length)) {
    case HashStep::kMore:
      return run_later(op, verify_more);
    case HashStep::kGood:
      op.phase = Phase::kRunning;
      return op.verified(op);
    case HashStep::kBad:
      break;
  }
  Worker& worker = worker_of(op);
  worker.count(worker.mutable_stats().checksum_mismatches);
  finish(op, Status::kCorrupt);
}

}  // namespace

void verify_payload(Op& op, void (*then)(Op&)) {
  op.verified = then;
  verify_more(op);
}

}  // namespace memkv::shard
