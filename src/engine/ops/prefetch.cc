#include "engine/ops/prefetch.h"

namespace memkv::engine {
namespace {

/// The record behind a chunk, or why there is none to be read. Unlike a get it leaves no sign that the block was used.
Status find_record(Parts& parts, const PrefetchOp& op, RecordRef& record) {
  const Entry* e = parts.blocks.find_usable(op.digest);
  if (e == nullptr) return Status::kMiss;
  if (e->has(kHead)) e = parts.blocks.find_usable_chunk(op.digest, op.chunk);
  if (e == nullptr || (op.chunk > 0 && !e->has(kChunk))) return Status::kMiss;
  record = Blocks::ref_of(*e);
  const bool fits = parts.tier.on() && !record.has_holes && record.length > 0;
  return fits && !parts.drives.at_lagging_limit(record.place.drive) ? Status::kOk : Status::kRefused;
}

}  // namespace

void Prefetch::start(Parts& parts, PrefetchOp& op) {
  RecordRef record;
  const Status status = find_record(parts, op, record);
  const bool there = status == Status::kOk && parts.tier.find(record) != nullptr;
  if (status != Status::kOk || there) return parts.completions.add(op, status);
  TierEntry* entry = parts.tier.take_ahead(record);
  if (entry == nullptr) return parts.completions.add(op, Status::kRefused);
  Prefetch* prefetch = parts.pool.make<Prefetch>(op, parts, op, *entry);
  if (prefetch != nullptr) return prefetch->read();
  parts.tier.end_read(*entry, /*good=*/false);
  parts.tier.release(*entry);
}

void Prefetch::read() {
  parts_.tick.start();
  const RecordRef& record = entry_.record;
  const auto started = load_.start(parts_.drives, record, grains_covering(0, record.length, record.length),
                                   parts_.tier.buffer_of(entry_), record.lone(), Then::of<&Prefetch::loaded>(*this));
  if (started == RecordLoad::Started::kYes) {
    ++parts_.counters.tier_prefetches;
    return;
  }
  parts_.tier.end_read(entry_, /*good=*/false);
  end(started == RecordLoad::Started::kBusy ? Status::kBusy : Status::kMiss);
}

void Prefetch::loaded() {
  parts_.tier.end_read(entry_, load_.succeeded());
  load_.release();
  end(load_.succeeded() ? Status::kOk : load_.was_busy() ? Status::kBusy : Status::kIo);
}

void Prefetch::end(Status status) {
  Parts& parts = parts_;
  PrefetchOp& op = op_;
  parts.tier.release(entry_);
  parts.pool.free(*this);
  parts.completions.add(op, status);
}

}  // namespace memkv::engine
