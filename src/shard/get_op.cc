/// get: a lookup in memory, room for the reply, a slot where the bytes do not lie in memory already, a read.

#include "base/assert.h"
#include "shard/connection.h"
#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

constexpr uint8_t kAttemptsMax = 4;  ///< a block that is replaced again and again under our hands

void read(Op& op);

void on_read(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  auto& read_op = std::get<engine::ReadOp>(op.store_op);
  op.reading = read_op.status == Status::kOk && read_op.data != nullptr;
  op.reply.generation = read_op.generation;
  op.reply.block_bytes = read_op.block_bytes;
  if (op.canceled) return finish(op, Status::kCanceled);
  if (read_op.status == Status::kBusy && ++op.attempts < kAttemptsMax) {
    release_resources(op);
    return run_later(op, start);
  }
  if (read_op.status != Status::kOk) return finish(op, read_op.status);
  op.reply.data = read_op.data;
  op.reply.bytes = read_op.bytes;
  op.reply.flags = read_op.whole_chunk ? wire::kReplyWholeChunk : 0;
  op.reply.sums = read_op.sums;
  op.reply.sum_count = read_op.sum_count;
  finish(op, Status::kOk);
}

void read(Op& op) {
  auto& read_op = op.store_op.emplace<engine::ReadOp>();
  read_op.on_done = on_read;
  read_op.context = &op;
  read_op.deadline_ns = op.request.deadline_ns;
  read_op.key = op.request.key;
  read_op.offset = op.request.offset;
  read_op.length = op.request.length;
  read_op.if_generation = op.request.generation;
  read_op.verify = (op.request.flags & wire::kOpVerify) != 0;
  read_op.buffer = op.slot.data;
  read_op.buffer_bytes = op.slot.capacity;
  op.shard->store->read(read_op);
}

}  // namespace

/// Also called for the first of the gets that wait for a slot, out of their queue: its block may be another by now.
void start_get(Op& op) {
  const engine::Lookup found =
      op.shard->store->lookup(op.request.key, op.request.offset, op.request.length, op.request.generation);
  op.reply.generation = found.generation;
  op.reply.block_bytes = found.block_bytes;
  if (found.status != Status::kOk || found.bytes == 0) return finish(op, found.status);
  if (!op.connection->send_room().take(op, found.bytes)) return;  // starts once more with it
  if (found.buffer_bytes > 0) {
    Worker& worker = worker_of(op);
    Holder& holder = op.connection->holder();
    const bool its_turn = op.phase == Phase::kWaitsSlot || holder.gets.empty();
    if (its_turn) op.slot = worker.slots().take(holder, found.buffer_bytes);
    if (!op.slot) return worker.tenants().wait(*op.connection, op);
  }
  op.phase = Phase::kRunning;
  read(op);
}

}  // namespace memkv::shard
