#include "engine/ops/read.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/chunk_seed.h"
#include "base/log.h"
#include "engine/ops/remove.h"
#include "engine/test_rules.h"

namespace memkv::engine {

/// Which record holds the range, and which part of it. A block that is looked for counts as read.
Read::Target Read::find_target(Parts& parts, const BlockKey& key, uint64_t offset, uint32_t length,
                               Generation if_generation) {
  Target t;
  Entry* e = parts.blocks.find_usable(key.digest);
  if (e == nullptr) return t;
  t.generation = e->sequence();
  t.block_bytes = Blocks::block_bytes_of(*e);
  if (if_generation != 0 && if_generation != t.generation) {
    t.status = Status::kChanged;
    return t;
  }
  e->set(kHit);
  t.status = Status::kOk;
  t.empty = length == 0 || offset >= t.block_bytes;
  const uint64_t end = std::min<uint64_t>(t.block_bytes, offset + length);
  if (!e->has(kHead)) {
    t.record = Blocks::ref_of(*e);
    t.from = std::min(offset, t.block_bytes);
    t.to = std::max(t.from, end);
    if (parts.drives.at_lagging_limit(t.record.place.drive)) t.status = Status::kMiss;
    return t;
  }
  if (t.empty) return t;
  t.chunk = static_cast<uint32_t>(offset / base::kChunkBytes);
  t.from = offset % base::kChunkBytes;
  t.to = t.from + (end - offset);
  Entry* c = parts.blocks.find_usable_chunk(key.digest, t.chunk);
  if (c == nullptr || c->length() < t.to) {
    t.status = Status::kMiss;  // a hole
    return t;
  }
  c->set(kHit);
  t.record = Blocks::ref_of(*c);
  if (parts.drives.at_lagging_limit(t.record.place.drive)) t.status = Status::kMiss;
  return t;
}

Lookup look_up(Parts& parts, const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation) {
  const Read::Target t = Read::find_target(parts, key, offset, length, if_generation);
  Lookup out;
  out.status = t.status;
  out.generation = t.generation;
  out.block_bytes = t.block_bytes;
  if (t.status != Status::kOk) return out;
  out.bytes = t.empty ? 0 : static_cast<uint32_t>(t.to - t.from);
  if (out.bytes == 0 || parts.options.memory_mode) return out;
  if (parts.tier.on() && !t.record.has_holes && parts.tier.serves(t.record, t.is_whole())) return out;
  out.buffer_bytes = static_cast<uint32_t>(load_bytes(t.record, grains_covering(t.from, t.to, t.record.length)));
  return out;
}

void Read::start(Parts& parts, ReadOp& op, bool over_holes) {
  ++parts.counters.gets;
  op.bytes = 0;
  op.data = nullptr;
  op.sum_count = 0;
  op.whole_chunk = false;
  op.dropped = false;
  op.renewable = op.seen_by_others = false;
  op.pinned_epoch = 0;
  op.pinned_entry = nullptr;
  const Target t = find_target(parts, op.key, op.offset, op.length, op.if_generation);
  op.generation = t.generation;
  op.block_bytes = t.block_bytes;
  ++(t.status == Status::kOk ? parts.counters.hits : parts.counters.misses);
  if (t.status != Status::kOk || t.to == t.from) return parts.completions.add(op, t.status);
  Read* read = parts.pool.make<Read>(op, parts, op, t, over_holes);
  if (read == nullptr) return;
  if (parts.options.memory_mode) return read->read_in_place();
  if (!parts.tier.on() || t.record.has_holes) return read->read_from_drive();
  if (!over_holes) return read->read_through_tier();
  parts.tier.forget(t.record);  // somebody saw damage, and what the drive has is what counts
  read->read_from_drive();
}

void Read::read_in_place() {
  MEMKV_ASSERT(step_ == Step::kStarted);
  if (!load_.pin_in_place(parts_.drives, target_.record)) return record_is_gone();
  step_ = Step::kLoading;
  loaded();
}

void Read::read_from_drive() {
  MEMKV_ASSERT(step_ == Step::kStarted);
  parts_.tick.start();
  const RecordRef& record = target_.record;
  const GrainSpan span = grains_covering(target_.from, target_.to, record.length);
  if (op_.buffer == nullptr || op_.buffer_bytes < load_bytes(record, span)) return finish(Status::kBusy);
  step_ = Step::kLoading;
  const bool with_header = record.lone() && (!target_.is_whole() || op_.verify);
  const auto started =
      load_.start(parts_.drives, record, span, op_.buffer, with_header, Then::of<&Read::loaded>(*this));
  if (started == RecordLoad::Started::kBusy) return finish(Status::kBusy);
  if (started == RecordLoad::Started::kNowhere) record_is_gone();
}

/// What the tier has is used where it lies. What is on its way to it is waited for: one device read serves all gets of
/// a record. What it takes in is read into its memory, and goes out from there.
void Read::read_through_tier() {
  MEMKV_ASSERT(step_ == Step::kStarted);
  entry_ = parts_.tier.find(target_.record);
  if (entry_ == nullptr) return fill_tier();
  parts_.tier.hold(*entry_);
  load_.use_copy(parts_.drives, target_.record);
  step_ = Step::kLoading;
  if (entry_->state == TierEntry::State::kResident) {
    ++parts_.counters.tier_hits;
    return loaded();
  }
  ++parts_.counters.tier_shared;
  wait_.then = Then::of<&Read::loaded>(*this);
  parts_.tier.wait(*entry_, wait_);
}

void Read::fill_tier() {
  ++parts_.counters.tier_misses;
  entry_ = parts_.tier.take(target_.record, target_.is_whole());
  if (entry_ == nullptr) return read_from_drive();
  parts_.tick.start();
  step_ = Step::kLoading;
  fills_ = true;
  const RecordRef& record = target_.record;
  const auto started = load_.start(parts_.drives, record, grains_covering(0, record.length, record.length),
                                   parts_.tier.buffer_of(*entry_), record.lone(), Then::of<&Read::filled>(*this));
  if (started == RecordLoad::Started::kYes) return;
  parts_.tier.end_read(*entry_, /*good=*/false);
  leave_entry();
  started == RecordLoad::Started::kBusy ? finish(Status::kBusy) : record_is_gone();
}

void Read::filled() {
  MEMKV_ASSERT(step_ == Step::kLoading && fills_);
  parts_.tier.end_read(*entry_, load_.succeeded());
  loaded();
}

void Read::leave_entry() { parts_.tier.release(*std::exchange(entry_, nullptr)); }

/// The record's segment is gone, and did not take the entry with it: that would be busy, or another's bytes, for ever.
void Read::record_is_gone() {
  parts_.blocks.evict(op_.key.digest, *parts_.drives.log_of(target_.record.place.drive));
  finish(Status::kMiss);
}

void Read::loaded() {
  MEMKV_ASSERT(step_ == Step::kLoading);
  step_ = Step::kLoaded;
  const bool failed = reads_itself() && !load_.succeeded() && !load_.was_busy();
  Status status = !bytes_came() ? Status::kBusy : deliver();
  if (status == Status::kCorrupt && entry_ != nullptr) parts_.tier.forget(target_.record);
  if (status == Status::kCorrupt && !reads_itself()) status = Status::kBusy;  // of memory: the drive has the last word
  if (failed || status == Status::kCorrupt)
    status = drop_damaged(failed ? "a read failed" : "a record failed its checksum");
  if (status != Status::kOk) {
    op_.data = nullptr;
    op_.bytes = 0;
  }
  keep_bytes(status == Status::kOk);
  finish(status);
}

/// Another read brought the bytes, or had brought them: then it is its business what a failure means for the block.
bool Read::reads_itself() const { return entry_ == nullptr || fills_; }

bool Read::bytes_came() const {
  return reads_itself() ? load_.succeeded() : entry_->state == TierEntry::State::kResident;
}

/// What is used where it lies stays until release().
void Read::keep_bytes(bool delivered) {
  if (reads_itself() && !(delivered && parts_.options.memory_mode)) load_.release();
  if (entry_ != nullptr && !(delivered && rules().tier_held)) leave_entry();
  if (!delivered) return;
  op_.pinned_entry = entry_;
  op_.renewable = entry_ == nullptr;
  if (!parts_.options.memory_mode) return;
  op_.pinned_epoch = load_.epoch();
  op_.pinned_drive = target_.record.place.drive;
}

Status Read::drop_damaged(const char* why) {
  const Entry* e = parts_.blocks.find(op_.key.digest);
  // Meanwhile there is a newer one, or none: this says nothing of it.
  if (e == nullptr || e->sequence() != op_.generation) return Status::kBusy;
  MEMKV_LOG_EVERY(1, kWarn, "drive {}: {}; the block is dropped", target_.record.place.drive, why);
  Remove::drop_durably(parts_, op_.key.digest, op_.key.namespace_id, op_.generation, &StoreCounters::dropped_corrupt);
  op_.dropped = true;
  return Status::kMiss;
}

void Read::finish(Status status) {
  Parts& parts = parts_;
  ReadOp& op = op_;
  parts.pool.free(*this);
  parts.completions.add(op, status);
}

Read::Loaded Read::where_loaded() const {
  if (parts_.options.memory_mode) {
    const std::byte* bytes = load_.log().device().view(load_.offset(), target_.record.length);
    return {bytes, 0, bytes - base::kSectorBytes};
  }
  const std::byte* buffer = entry_ != nullptr ? parts_.tier.buffer_of(*entry_) : op_.buffer;
  if (!target_.record.lone()) return {buffer + load_.offset() % base::kSectorBytes, 0, nullptr};
  const uint64_t begin = entry_ != nullptr ? 0 : base::align_down(target_.from, base::kGrainBytes);
  return {buffer, begin, buffer - base::kSectorBytes};
}

/// Fills in data, bytes and sums; kCorrupt: the bytes are not what was written.
Status Read::deliver() {
  const Loaded at = where_loaded();
  MEMKV_ASSERT(at.begin <= target_.from && target_.from < target_.to);
  op_.data = at.bytes + (target_.from - at.begin);
  op_.bytes = static_cast<uint32_t>(target_.to - target_.from);
  if (target_.is_whole() && !op_.verify) {
    op_.whole_chunk = true;
    op_.sum_count = 1;
    op_.sums[0] = target_.record.checksum;
    return Status::kOk;
  }
  const uint64_t seed = base::chunk_seed(op_.key.namespace_id, op_.key.key, target_.chunk);
  uint64_t sums[base::kGrainsPerChunk] = {};
  if (const Status status = read_sums(at, seed, sums); status != Status::kOk) return status;
  return deliver_pieces(at, seed, sums);
}

/// The record's grain sums, once the checksum that the index has says that they are the right ones. A lone record's
/// stand in its header; of others the one sum is made here.
Status Read::read_sums(const Loaded& loaded, uint64_t seed, uint64_t* sums) const {
  const RecordRef& r = target_.record;
  const size_t count = base::grain_count(r.length);
  if (!r.lone()) {
    sums[0] = base::xxh3({loaded.bytes, r.length}, seed);
    return base::chunk_checksum(sums, count, r.length, seed) == r.checksum ? Status::kOk : Status::kCorrupt;
  }
  format::RecordView view;
  const bool own = load_.read_header(loaded.header, op_.key.digest, target_.chunk, view);
  if (!own || view.header.grain_count != count) return Status::kCorrupt;
  for (size_t i = 0; i < count; ++i) sums[i] = view.grain_sum(i);
  if (base::chunk_checksum(sums, count, r.length, seed) != r.checksum) return Status::kCorrupt;
  if (!r.has_holes || over_holes_) return Status::kOk;
  for (size_t i = 0; i < view.header.range_count; ++i) {
    const format::PresentRange p = view.range(i);
    if (p.begin <= target_.from && target_.to <= p.end) return Status::kOk;
  }
  return Status::kMiss;
}

/// One sum a piece: the stored one for whole grains, made here over the cut edges once their grain was verified.
Status Read::deliver_pieces(const Loaded& loaded, uint64_t seed, const uint64_t* sums) {
  const uint64_t from = target_.from, to = target_.to;
  for (uint64_t g = from / base::kGrainBytes; g * base::kGrainBytes < to; ++g) {
    const uint64_t begin = g * base::kGrainBytes;
    const uint64_t end = std::min<uint64_t>(begin + base::kGrainBytes, target_.record.length);
    const uint64_t piece_from = std::max(begin, from), piece_to = std::min(end, to);
    const std::byte* grain = loaded.bytes + (begin - loaded.begin);
    const bool cut = piece_from != begin || piece_to != end;
    if ((cut || op_.verify) && base::xxh3({grain, end - begin}, seed + g) != sums[g]) return Status::kCorrupt;
    MEMKV_ASSERT(op_.sum_count < std::size(op_.sums));
    op_.sums[op_.sum_count++] =
        cut ? base::xxh3({grain + (piece_from - begin), piece_to - piece_from}, seed + g) : sums[g];
  }
  return Status::kOk;
}

void release_read(Parts& parts, ReadOp& op) {
  if (op.pinned_entry != nullptr) return parts.tier.release(*std::exchange(op.pinned_entry, nullptr));
  if (op.pinned_epoch == 0) return;
  Log& log = *parts.drives.log_of(op.pinned_drive);
  if (op.seen_by_others) log.segments().renew(op.pinned_epoch);
  log.unpin(std::exchange(op.pinned_epoch, 0));
}

}  // namespace memkv::engine
