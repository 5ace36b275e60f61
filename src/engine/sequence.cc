/// Sequence numbers and their durable reservation (rule 6).

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "engine/store_impl.h"
#include "format/format_check.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kAnchorEveryNs = 1'000'000'000;

}  // namespace

uint64_t StoreImpl::next_sequence() {
  MEMKV_ASSERT(sequence_ < format::kSequenceMax && sequence_ < sequence_end_, "the sequence reservation ran out");
  return sequence_++;
}

void StoreImpl::skip_sequences(uint64_t count) {
  MEMKV_ASSERT(count <= sequence_end_ - sequence_);
  sequence_ += count;
}

/// Rule 6, long before the range runs out: the next range is durable before its first number is used, in both anchors
/// of a log, so that no lost block takes it back. One drive that has it is enough: recovery goes on above the highest
/// anchor and all records. Looked at every tick: while none has it, drives that would not take it are asked again; one
/// that hangs is not waited for.
void StoreImpl::extend_reservation() {
  if (options_.memory_mode || sequence_end_ - sequence_ > format::kSequenceReservation / 2) return;
  sequence_wanted_ = sequence_end_ + format::kSequenceReservation;
  for (size_t d = 0; d < logs_.size(); ++d) {
    if (usable_log(static_cast<uint8_t>(d)) != nullptr && !anchors_[d].io.pending())
      write_anchor(*logs_[d], anchors_[d]);
  }
}

/// Every tick: anchors that do not know yet how far their log is complete hear of it, once a second at most.
void StoreImpl::anchor_logs() {
  const uint64_t now = reactor_.now_ns();
  for (size_t d = 0; d < logs_.size(); ++d) {
    const Log* log = usable_log(static_cast<uint8_t>(d));
    AnchorWrite& write = anchors_[d];
    const bool due = log != nullptr && log->wants_anchor() && now - write.written_ns >= kAnchorEveryNs;
    if (due && !write.io.pending()) write_anchor(*logs_[d], write);
  }
}

/// The anchor to be written next, and its facts in `write`.
format::Anchor StoreImpl::next_anchor(Log& log, AnchorWrite& write) {
  write.store = this;
  write.log = &log;
  write.facts = log.facts();
  write.sequence_end = sequence_wanted_;
  write.written_ns = reactor_.now_ns();
  format::Anchor a{};
  std::memcpy(a.store_id, options_.store_id, sizeof a.store_id);
  a.drive_index = log.config().slice.drive_index;
  a.shard = options_.shard;
  a.write_counter = ++write.counter;
  a.sequence_end = write.sequence_end;
  a.life = log.config().slice.life;
  a.complete_epoch = write.facts.complete_epoch;
  a.complete_sector = write.facts.complete_sector;
  a.oldest_epoch = write.facts.oldest_epoch;
  a.cut_epoch = write.facts.cut_epoch;
  a.cut_sector = write.facts.cut_sector;
  seal(a);
  return a;
}

void StoreImpl::write_anchor(Log& log, AnchorWrite& write) {
  const format::Anchor a = next_anchor(log, write);
  std::memcpy(write.sector, &a, sizeof a);
  write.piece = {write.sector, base::kSectorBytes};
  write.io.context = &write;
  write.io.on_done = on_anchor;
  const uint64_t offset = log.config().slice.offset_bytes + write.counter % 2 * base::kSectorBytes;
  if (!log.device().write(write.io, offset, {&write.piece, 1}, log.config().slice.dsync)) --write.counter;  // next tick
}

void StoreImpl::on_anchor(io::IoOp& op, int32_t result) {
  AnchorWrite& write = *static_cast<AnchorWrite*>(op.context);
  StoreImpl& s = *write.store;
  if (result < 0) {
    --write.counter;  // that copy may be torn now: the next one goes there as well
    MEMKV_LOG_EVERY(1, kError, "shard {}: a drive does not take the sequence reservation", s.options_.shard);
    return;
  }
  write.ends[write.counter % 2] = write.sequence_end;
  s.sequence_end_ = std::max(s.sequence_end_, std::min(write.ends[0], write.ends[1]));
  write.log->anchored(write.facts);
}

bool StoreImpl::anchors_pending() const {
  return std::any_of(anchors_.begin(), anchors_.end(), [](const AnchorWrite& write) { return write.io.pending(); });
}

}  // namespace memkv::engine
