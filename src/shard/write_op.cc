/// write(offset): a range inside one chunk of a block.

#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

void on_written(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  op.reply_generation = store_op.generation;
  finish(op, store_op.status);
}

void write_out(Op& op) {
  if (op.flags & wire::kOpServerChecksum) {
    op.reply_sums = op.sums.data();  // one for each piece of the range
    op.reply_sum_count = op.sum_count;
  }
  auto& write = op.store_op.emplace<engine::WriteOp>();
  bind(write, op, on_written);
  write.key = op.key;
  write.offset = op.offset;
  write.payload = op.payload();
  op.shard->store->write(write);
}

}  // namespace

void start_write(Op& op) { verify_payload(op, write_out); }

}  // namespace memkv::shard
