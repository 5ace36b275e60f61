/// prefetch: answered from the index at once; its reads come behind the ops (prefetches.h).

#include "shard/connection.h"
#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {

/// Where all blocks lie in memory, or none can, there is nothing to do.
void start_prefetch(Op& op) {
  engine::BlockStat stat;
  if (!op.shard->store->stat(op.request.key, stat)) return finish(op, Status::kMiss);
  op.reply.generation = stat.generation;
  op.reply.block_bytes = stat.block_bytes;
  Worker& worker = worker_of(op);
  if (op.shard->store->tier_memory().empty() || stat.block_bytes == 0) return finish(op, Status::kOk);
  if (worker.tenants().prefetches().add(op, stat.block_bytes)) return finish(op, Status::kOk);
  worker.count(worker.mutable_stats().prefetches_refused);
  finish(op, Status::kRefused);
}

}  // namespace memkv::shard
