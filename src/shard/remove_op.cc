/// remove, touch, stat, flush, suspect: ops without payload.

#include "shard/connection.h"
#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

void on_done(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  op.reply.generation = store_op.generation;
  finish(op, store_op.status);
}

engine::RemoveOp& prepare(Op& op) {
  auto& remove = op.store_op.emplace<engine::RemoveOp>();
  bind(remove, op, on_done);
  remove.key = op.request.key;
  return remove;
}

/// A flush goes through the worker's shards one after the other; `attempts` counts them.
void flush_next(Op& op);

void on_flushed(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  if (store_op.status != Status::kOk) return finish(op, store_op.status);
  op.attempts++;
  flush_next(op);
}

void flush_next(Op& op) {
  auto& shards = worker_of(op).stores().shards();
  if (op.attempts == shards.size()) return finish(op, Status::kOk);
  auto& flush = op.store_op.emplace<engine::FlushOp>();
  bind(flush, op, on_flushed);
  flush.namespace_id = op.request.key.namespace_id;
  shards[op.attempts].store->flush_namespace(flush);
}

}  // namespace

void start_remove(Op& op) {
  engine::RemoveOp& remove = prepare(op);
  op.shard->store->remove(remove);
}

void start_suspect(Op& op) {
  engine::RemoveOp& remove = prepare(op);
  op.shard->store->suspect(remove, op.request.offset);
}

void start_touch(Op& op) { finish(op, op.shard->store->touch(op.request.key) ? Status::kOk : Status::kMiss); }

void start_stat(Op& op) {
  engine::BlockStat stat;
  if (!op.shard->store->stat(op.request.key, stat)) return finish(op, Status::kMiss);
  op.reply.generation = stat.generation;
  op.reply.block_bytes = stat.block_bytes;
  op.reply.expiry_s = stat.expiry_s;
  op.reply.flags = stat.has_holes ? wire::kReplyHasHoles : 0;
  finish(op, Status::kOk);
}

void start_flush(Op& op) { flush_next(op); }

}  // namespace memkv::shard
