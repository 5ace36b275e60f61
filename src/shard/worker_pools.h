#pragma once
/// The objects that a worker lends to what its clients ask for.

#include <cstdint>

#include "shard/op.h"
#include "shard/pool.h"
#include "shard/reply_frame.h"
#include "shard/request_ops.h"
#include "shard/worker_types.h"

namespace memkv::shard {

/// Uploads by the ids that clients know them by. Thread: worker.
class UploadPool : public Pool<Upload> {
 public:
  using Pool<Upload>::Pool;
  /// Never the same twice, so that a late chunk does not find the next upload in its place.
  uint64_t new_id(const Upload& upload);
  Upload* find(uint64_t id);

 private:
  uint64_t serial_ = 0;
};

/// Fixed pools, all taken at start. What each client may have of them says Tenants. Thread: worker.
struct WorkerPools {
  explicit WorkerPools(const WorkerOptions& options);
  /// What a worker takes of memory at start for these and its mailbox, beside its slots.
  static uint64_t bytes(const WorkerOptions& options);
  /// Nothing is lent.
  bool whole() const;

  Pool<Op> ops;
  Pool<OpsFrame> ops_frames;
  UploadPool uploads;
  Pool<ReplyFrame> reply_frames;
  Pool<ListOp> list_ops;
  Pool<ExistsOp> exists_ops;
  Pool<StatusOp> status_ops;
  Pool<Prefetch> prefetches;
};

}  // namespace memkv::shard
