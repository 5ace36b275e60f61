/// put: sums are checked (or made), then the store writes the payload from where it was received.

#include "base/checksum.h"
#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

void on_put(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  op.reply.generation = store_op.generation;
  finish(op, store_op.status);
}

void write_out(Op& op) {
  if (op.request.flags & wire::kOpServerChecksum) {
    // The last entry is free: a put has at most 32 grains.
    op.sums[wire::kSumsMax - 1] = base::chunk_checksum(op.sums.data(), op.sum_count, op.request.length, op.seed);
    op.reply.sums = &op.sums[wire::kSumsMax - 1];
    op.reply.sum_count = 1;
    op.reply.flags = wire::kReplyWholeChunk;
  }
  op.reply.block_bytes = op.request.length;
  auto& put = op.store_op.emplace<engine::PutOp>();
  bind(put, op, on_put);
  put.key = op.request.key;
  put.payload = op.payload();
  put.expiry_s = op.request.expiry_s;
  put.priority = op.request.priority;
  put.if_absent = (op.request.flags & wire::kOpIfAbsent) != 0;
  op.shard->store->put(put);
}

}  // namespace

void start_put(Op& op) {
  engine::BlockStat present;
  if ((op.request.flags & wire::kOpIfAbsent) && op.shard->store->stat(op.request.key, present)) {
    op.reply.generation = present.generation;
    op.reply.block_bytes = present.block_bytes;
    return finish(op, Status::kExists);
  }
  verify_payload(op, write_out);
}

}  // namespace memkv::shard
