#include "engine/ops/write.h"

namespace memkv::engine {
namespace {

/// Nothing would be written by an empty one, but it would make zeros out of a hole.
Status check(const WriteOp& op, uint64_t block_bytes_max) {
  const uint64_t in_chunk = op.offset % base::kChunkBytes;
  const bool good = !op.key.key.empty() && op.key.key.size() <= kKeyBytesMax && op.payload.size > 0 &&
                    in_chunk + op.payload.size <= base::kChunkBytes;
  if (!good) return Status::kInvalid;
  return op.offset + op.payload.size > block_bytes_max ? Status::kTooLarge : Status::kOk;
}

}  // namespace

void Write::start(Parts& parts, IndexRoom& room, RangeWriter& writer, WriteOp& op) {
  if (const Status bad = check(op, parts.drives.block_bytes_max()); bad != Status::kOk)
    return parts.completions.add(op, bad);
  if (!room.has_room(op.key.namespace_id, kNewEntriesMax)) return parts.completions.add(op, Status::kBusy);
  Write* write = parts.pool.make<Write>(op, parts, writer, op);
  if (write == nullptr) return;
  parts.tick.start();
  write->lock(op.key.digest);
}

void Write::on_locked() {
  MEMKV_ASSERT(step_ == Step::kWaiting);
  if (const Status no = refusal(); no != Status::kOk) return finish(no);
  if (parts_.blocks.waits_for_drive(write_.key.digest)) return finish(Status::kBusy);
  step_ = Step::kQueued;
  writer_.queue(*this, write_.deadline_ns);
}

void Write::on_turn(Merge& merge) {
  MEMKV_ASSERT(step_ == Step::kQueued && holds_lock());
  step_ = Step::kMerging;
  merge.write(write_);
}

void Write::on_range_written(Status status) {
  MEMKV_ASSERT(step_ == Step::kMerging || status == Status::kDeadline || status == Status::kBusy);
  finish(status);
}

}  // namespace memkv::engine
