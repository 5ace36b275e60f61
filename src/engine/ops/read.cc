#include "engine/ops/read.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/chunk_seed.h"
#include "base/log.h"
#include "engine/ops/remove.h"

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
  op.pinned_epoch = 0;
  op.seen_by_others = false;
  const Target t = find_target(parts, op.key, op.offset, op.length, op.if_generation);
  op.generation = t.generation;
  op.block_bytes = t.block_bytes;
  ++(t.status == Status::kOk ? parts.counters.hits : parts.counters.misses);
  if (t.status != Status::kOk || t.to == t.from) return parts.completions.add(op, t.status);
  Read* read = parts.pool.make<Read>(op, parts, op, t, over_holes);
  if (read == nullptr) return;
  parts.options.memory_mode ? read->read_in_place() : read->read_from_drive();
}

bool Read::is_whole() const {
  return target_.from == 0 && target_.to == target_.record.length && !target_.record.has_holes;
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
  const bool with_header = record.lone() && (!is_whole() || op_.verify);
  const auto started =
      load_.start(parts_.drives, record, span, op_.buffer, with_header, Then::of<&Read::loaded>(*this));
  if (started == RecordLoad::Started::kBusy) return finish(Status::kBusy);
  if (started == RecordLoad::Started::kNowhere) record_is_gone();
}

/// The record's segment is gone, and did not take the entry with it: that would be busy, or another's bytes, for ever.
void Read::record_is_gone() {
  parts_.blocks.evict(op_.key.digest, *parts_.drives.log_of(target_.record.place.drive));
  finish(Status::kMiss);
}

void Read::loaded() {
  MEMKV_ASSERT(step_ == Step::kLoading);
  step_ = Step::kLoaded;
  const bool failed = !load_.succeeded() && !load_.was_busy();
  Status status = load_.was_busy() ? Status::kBusy : failed ? Status::kIo : deliver();
  if (failed || status == Status::kCorrupt)
    status = drop_damaged(failed ? "a read failed" : "a record failed its checksum");
  if (status != Status::kOk) {
    op_.data = nullptr;
    op_.bytes = 0;
  }
  if (status == Status::kOk && parts_.options.memory_mode) {
    op_.pinned_epoch = load_.epoch();  // its bytes are used where they lie, until release()
    op_.pinned_drive = target_.record.place.drive;
  } else {
    load_.release();
  }
  finish(status);
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
  if (target_.record.lone())
    return {op_.buffer, base::align_down(target_.from, base::kGrainBytes), op_.buffer - base::kSectorBytes};
  return {op_.buffer + load_.offset() % base::kSectorBytes, 0, nullptr};
}

/// Fills in data, bytes and sums; kCorrupt: the bytes are not what was written.
Status Read::deliver() {
  const Loaded at = where_loaded();
  MEMKV_ASSERT(at.begin <= target_.from && target_.from < target_.to);
  op_.data = at.bytes + (target_.from - at.begin);
  op_.bytes = static_cast<uint32_t>(target_.to - target_.from);
  if (is_whole() && !op_.verify) {
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
  std::vector<uint64_t> stored;  // a ranged read: off the fastest path
  std::vector<format::PresentRange> ranges;
  const bool own = load_.read_header(loaded.header, op_.key.digest, target_.chunk, &stored, &ranges);
  if (!own || stored.size() != count) return Status::kCorrupt;
  std::copy(stored.begin(), stored.end(), sums);
  if (base::chunk_checksum(sums, count, r.length, seed) != r.checksum) return Status::kCorrupt;
  if (!r.has_holes || over_holes_) return Status::kOk;
  const bool present = std::any_of(ranges.begin(), ranges.end(), [this](const format::PresentRange& p) {
    return p.begin <= target_.from && target_.to <= p.end;
  });
  return present ? Status::kOk : Status::kMiss;
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
  if (op.pinned_epoch == 0) return;
  Log& log = *parts.drives.log_of(op.pinned_drive);
  if (op.seen_by_others) log.segments().renew(op.pinned_epoch);
  log.unpin(std::exchange(op.pinned_epoch, 0));
}

}  // namespace memkv::engine
