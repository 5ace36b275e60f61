/// Sequence numbers and their durable reservation (rule 6).

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "engine/recovery.h"
#include "engine/store_impl.h"

namespace memkv::engine {

uint64_t StoreImpl::next_sequence() {
  MEMKV_ASSERT(sequence_ < kSequenceMax && sequence_ < sequence_end_, "the sequence reservation ran out");
  return sequence_++;
}

void StoreImpl::skip_sequences(uint64_t count) {
  MEMKV_ASSERT(count <= sequence_end_ - sequence_);
  sequence_ += count;
}

/// Rule 6, long before the range runs out: the next range is durable before its first number is used. One drive that
/// has it is enough: recovery goes on above the highest anchor and all records. Looked at every tick: while none has
/// it, drives that would not take it are asked again; one that hangs is not waited for.
void StoreImpl::extend_reservation() {
  if (options_.memory_mode || sequence_end_ - sequence_ > kSequenceReservation / 2) return;
  for (size_t d = 0; d < logs_.size(); ++d) {
    if (usable_log(static_cast<uint8_t>(d)) != nullptr && !anchors_[d].io.pending())
      write_anchor(*logs_[d], anchors_[d]);
  }
}

void StoreImpl::write_anchor(Log& log, AnchorWrite& write) {
  write.store = this;
  write.sequence_end = sequence_end_ + kSequenceReservation;
  const Anchor a = Recovery(*this).make_anchor(log, write.sequence_end);
  std::memcpy(write.block, &a, sizeof a);
  write.piece = {write.block, kBlockBytes};
  write.io.context = &write;
  write.io.on_done = on_anchor;
  const uint64_t offset = Recovery::anchor_offset(log, write.sequence_end);
  (void)log.device().write(write.io, offset, {&write.piece, 1}, log.config().slice.dsync);  // refused: at the next tick
}

void StoreImpl::on_anchor(io::IoOp& op, int32_t result) {
  const AnchorWrite& write = *static_cast<AnchorWrite*>(op.context);
  StoreImpl& s = *write.store;
  if (result >= 0)
    s.sequence_end_ = std::max(s.sequence_end_, write.sequence_end);
  else
    MEMKV_LOG_EVERY(1, kError, "shard {}: a drive does not take the sequence reservation", s.options_.shard);
}

bool StoreImpl::anchors_pending() const {
  return std::any_of(anchors_.begin(), anchors_.end(), [](const AnchorWrite& write) { return write.io.pending(); });
}

}  // namespace memkv::engine
