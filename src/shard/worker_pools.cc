#include "shard/worker_pools.h"

namespace memkv::shard {

namespace {

constexpr size_t kStatusOps = 8;

}  // namespace

uint64_t UploadPool::new_id(const Upload& upload) {
  const auto at = static_cast<uint64_t>(&upload - begin());
  return (++serial_ << 16) | at;
}

Upload* UploadPool::find(uint64_t id) {
  const uint64_t at = id & 0xffff;
  if (id == 0 || at >= size()) return nullptr;
  Upload& upload = begin()[at];
  return upload.id == id ? &upload : nullptr;
}

WorkerPools::WorkerPools(const WorkerOptions& options)
    : ops(options.ops_max),
      ops_frames(options.ops_max),
      uploads(options.uploads_max),
      reply_frames(options.frames_max),
      list_ops(kListOps),
      exists_ops(kExistsOps),
      status_ops(kStatusOps),
      prefetches(kPrefetches) {}

uint64_t WorkerPools::bytes(const WorkerOptions& options) {
  constexpr uint64_t kReactorBytes = 4 << 20;  // rings, heap of timers, table of descriptors
  return options.ops_max * (sizeof(Op) + sizeof(OpsFrame)) + options.uploads_max * sizeof(Upload) +
         options.frames_max * sizeof(ReplyFrame) + kListOps * sizeof(ListOp) + kExistsOps * sizeof(ExistsOp) +
         kStatusOps * sizeof(StatusOp) + kPrefetches * sizeof(Prefetch) + kMailboxCapacity * sizeof(WorkerMessage) +
         kChunkBytesMax + kReactorBytes;
}

bool WorkerPools::whole() const {
  return ops.in_use() == 0 && ops_frames.in_use() == 0 && uploads.in_use() == 0 && reply_frames.in_use() == 0 &&
         list_ops.in_use() == 0 && exists_ops.in_use() == 0 && status_ops.in_use() == 0 && prefetches.in_use() == 0;
}

}  // namespace memkv::shard
