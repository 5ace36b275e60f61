#include "engine/sequences.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "format/format_check.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kAnchorEveryNs = 1'000'000'000;

}  // namespace

Sequences::Sequences(io::Reactor& reactor, const StoreOptions& options, Drives& drives, Tick& tick)
    : reactor_(reactor), options_(options), drives_(drives), tick_(tick), anchors_(drives.count()) {}

uint64_t Sequences::next() {
  MEMKV_ASSERT(next_ < format::kSequenceMax && next_ < end_, "the sequence reservation ran out");
  return next_++;
}

void Sequences::skip(uint64_t count) {
  MEMKV_ASSERT(count <= end_ - next_);
  next_ += count;
}

void Sequences::begin_at(uint64_t first) {
  MEMKV_ASSERT(end_ == 0 && first > 0, "recovery begins once");
  next_ = first;
  wanted_ = first + format::kSequenceReservation;
}

void Sequences::reserve_all() {
  MEMKV_ASSERT(options_.memory_mode);
  end_ = format::kSequenceMax;
}

/// Rule 6, long before the range runs out: the next range is durable before its first number is used, in both anchors
/// of a log, so that no lost block takes it back. One drive that has it is enough: recovery goes on above the highest
/// anchor and all records. Looked at every tick: while none has it, drives that would not take it are asked again; one
/// that hangs is not waited for.
void Sequences::extend_reservation() {
  if (options_.memory_mode || end_ - next_ > format::kSequenceReservation / 2) return;
  wanted_ = end_ + format::kSequenceReservation;
  for (size_t d = 0; d < anchors_.size(); ++d) {
    Log* log = drives_.usable_log(static_cast<uint8_t>(d));
    if (log != nullptr && !anchors_[d].io.pending()) write_anchor(*log);
  }
}

/// Anchors that do not know yet how far their log is complete hear of it, once a second at most.
void Sequences::anchor_logs() {
  const uint64_t now = reactor_.now_ns();
  for (size_t d = 0; d < anchors_.size(); ++d) {
    Log* log = drives_.usable_log(static_cast<uint8_t>(d));
    const bool due = log != nullptr && log->wants_anchor() && now - anchors_[d].written_ns >= kAnchorEveryNs;
    if (due && !anchors_[d].io.pending()) write_anchor(*log);
  }
}

format::Anchor Sequences::next_anchor(Log& log) {
  AnchorWrite& write = anchors_of(log);
  MEMKV_ASSERT(!write.io.pending(), "its memory is with the drive");
  write.sequences = this;
  write.log = &log;
  write.facts = log.facts();
  write.sequence_end = wanted_;
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

void Sequences::write_anchor(Log& log) {
  const format::Anchor a = next_anchor(log);
  AnchorWrite& write = anchors_of(log);
  std::memcpy(write.sector, &a, sizeof a);
  write.piece = {write.sector, base::kSectorBytes};
  write.io.context = &write;
  write.io.on_done = on_anchor;
  const uint64_t offset = log.config().slice.offset_bytes + write.counter % 2 * base::kSectorBytes;
  if (!log.device().write(write.io, offset, {&write.piece, 1}, log.config().slice.dsync)) --write.counter;  // next tick
}

void Sequences::on_anchor(io::IoOp& op, int32_t result) {
  AnchorWrite& write = *static_cast<AnchorWrite*>(op.context);
  Sequences& s = *write.sequences;
  s.tick_.ended();
  if (result < 0) {
    --write.counter;  // that copy may be torn now: the next one goes there as well
    MEMKV_LOG_EVERY(1, kError, "shard {}: a drive does not take the sequence reservation", s.options_.shard);
    return;
  }
  write.ends[write.counter % 2] = write.sequence_end;
  s.end_ = std::max(s.end_, std::min(write.ends[0], write.ends[1]));
  write.log->anchored(write.facts);
}

bool Sequences::anchors_pending() const {
  return std::any_of(anchors_.begin(), anchors_.end(), [](const AnchorWrite& write) { return write.io.pending(); });
}

}  // namespace memkv::engine
