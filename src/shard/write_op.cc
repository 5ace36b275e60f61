/// write(offset): a range inside one chunk of a block.

#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {
namespace {

void on_written(engine::StoreOp& store_op) {
  Op& op = *static_cast<Op*>(store_op.context);
  op.reply.generation = store_op.generation;
  finish(op, store_op.status);
}

void write_out(Op& op) {
  if (op.request.flags & wire::kOpServerChecksum) {
    op.reply.sums = op.sums.data();  // one for each piece of the range
    op.reply.sum_count = op.sum_count;
  }
  auto& write = op.store_op.emplace<engine::WriteOp>();
  bind(write, op, on_written);
  write.key = op.request.key;
  write.offset = op.request.offset;
  write.payload = op.payload();
  op.shard->store->write(write);
}

}  // namespace

void start_write(Op& op) { verify_payload(op, write_out); }

}  // namespace memkv::shard
