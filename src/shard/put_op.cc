/// put: sums are checked (or made), then the store writes the payload from where it was received.

#include "base/checksum.h"
#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

void on_put(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  op.reply_generation = store_op.generation;
  finish(op, store_op.status);
}

void write_out(Op& op) {
  if (op.flags & wire::kOpServerChecksum) {
    // The last entry is free: a put has at most 32 grains.
    op.sums[wire::kSumsMax - 1] = base::chunk_checksum(op.sums.data(), op.sum_count, op.length, op.seed);
    op.reply_sums = &op.sums[wire::kSumsMax - 1];
    op.reply_sum_count = 1;
    op.reply_flags = wire::kReplyWholeChunk;
  }
  op.reply_block_bytes = op.length;
  auto& put = op.store_op.emplace<engine::PutOp>();
  bind(put, op, on_put);
  put.key = op.key;
  put.payload = op.payload();
  put.expiry_s = op.expiry_s;
  put.priority = op.priority;
  put.if_absent = (op.flags & wire::kOpIfAbsent) != 0;
  op.shard->store->put(put);
}

}  // namespace

void start_put(Op& op) {
  engine::BlockStat present;
  if ((op.flags & wire::kOpIfAbsent) && op.shard->store->stat(op.key, present)) {
    op.reply_generation = present.generation;
    op.reply_block_bytes = present.block_bytes;
    return finish(op, Status::kExists);
  }
  verify_payload(op, write_out);
}

}  // namespace memkv::shard
