#include "engine/verdicts.h"

#include <algorithm>
#include <tuple>

#include "base/assert.h"

namespace memkv::engine {

void Verdicts::Tomb::add(uint64_t sequence, LogPlace at) {
  highest = std::max(highest, sequence);
  if (at < last_at) return;
  last = sequence;
  last_at = at;
}

void Verdicts::saw_segment(const Log& log, uint64_t epoch) {
  OfLog& of = logs_[log.config().slice.drive_index];
  of.segments = &log.segments();
  of.epochs.resize(log.segments().count());
  of.epochs[epoch % of.epochs.size()] = epoch;
}

LogPlace Verdicts::at(const FoundRecord& f) const {
  const OfLog& of = logs_[f.drive()];
  const uint64_t number = of.segments->number_of(f.offset());
  return {number < of.epochs.size() ? of.epochs[number] : 0, f.offset()};
}

const FoundRecord* Verdicts::decide(FoundRecords::Block records) {
  missing_.clear();
  if (records.size() == 1 && logs_[records[0]->drive()].plain()) return records[0]->is_commit() ? records[0] : nullptr;
  sum_up_tombstones(records);
  bury_suspects(records);
  const FoundRecord* best = nullptr;
  for (const FoundRecord* f : records) {
    if (!counts(*f) || is_suspect(*f) || is_killed(*f)) continue;
    if (best == nullptr || replaces(*f, *best)) best = f;
  }
  bury_dead(records, best);
  return best;
}

/// The same record may stand in two places, since reclaim moved it, or a failed write was done again elsewhere.
bool Verdicts::replaces(const FoundRecord& f, const FoundRecord& other) const {
  if (f.sequence() != other.sequence()) return f.sequence() > other.sequence();
  const uint64_t epoch = at(f).epoch, other_epoch = at(other).epoch;
  return epoch != other_epoch ? epoch > other_epoch : f.drive() < other.drive();
}

// --- tombstones ------------------------------------------------------------------------------------------------------

Verdicts::Tomb& Verdicts::tomb_of(uint8_t drive) {
  for (DriveTomb& t : tombs_) {
    if (t.drive == drive) return t.tomb;
  }
  return tombs_.emplace_back(DriveTomb{drive, {}}).tomb;
}

void Verdicts::sum_up_tombstones(FoundRecords::Block records) {
  tombs_.clear();
  for (const FoundRecord* r : records) {
    if (!r->is_tombstone()) continue;
    Tomb& tomb = tomb_of(r->drive());
    if (r->kind() == FoundRecord::Kind::kTombstone)
      tomb.add(r->sequence(), at(*r));
    else
      tomb.highest = std::max(tomb.highest, r->sequence());
  }
}

/// Of the tombstones that may concern the record: those of its digest and those of its namespace, in its log.
template <typename Is>
bool Verdicts::any_tomb(const FoundRecord& f, Is&& is) const {
  for (const DriveTomb& t : tombs_) {
    if (t.drive == f.drive() && is(t.tomb)) return true;
  }
  const auto& flushes = logs_[f.drive()].flushes;
  if (flushes.empty()) return false;
  const auto it = flushes.find(f.namespace_number());
  return it != flushes.end() && is(it->second);
}

bool Verdicts::is_killed(const FoundRecord& f) const {
  return any_tomb(f, [&](const Tomb& tomb) { return f.sequence() < tomb.highest; });
}

/// A log keeps its last tombstone longest: what lies behind it needs another.
bool Verdicts::outlives_its_tombs(const FoundRecord& f) const {
  return !any_tomb(f, [&](const Tomb& tomb) { return tomb.last > f.sequence() && tomb.last_at >= at(f); });
}

/// A record that reclaim moved may lie behind what replaced it, though never far: where that was perhaps cut away just
/// now, nobody knows.
bool Verdicts::is_suspect(const FoundRecord& f) const {
  const LogPlace cut = logs_[f.drive()].cut;
  if (cut.epoch == 0) return false;
  const LogPlace place = at(f);
  return place < cut || (f.moved() && place.epoch <= cut.epoch + 1);
}

void Verdicts::bury_suspects(FoundRecords::Block records) {
  for (const FoundRecord* f : records) {
    if (!counts(*f) || !is_suspect(*f)) continue;
    if (!is_killed(*f) || outlives_its_tombs(*f)) missing_.push_back({f->drive(), f->digest(), f->sequence() + 1});
  }
}

void Verdicts::bury_dead(FoundRecords::Block records, const FoundRecord* best) {
  for (const FoundRecord* f : records) {
    if (!counts(*f) || is_suspect(*f)) continue;
    if (is_killed(*f)) {
      if (outlives_its_tombs(*f)) missing_.push_back({f->drive(), f->digest(), f->sequence() + 1});
      continue;
    }
    MEMKV_ASSERT(best != nullptr, "this one at least is living");
    if (best->sequence() <= f->sequence()) continue;
    const bool elsewhere = best->drive() != f->drive() || at(*f) > at(*best);
    if (elsewhere) missing_.push_back({f->drive(), f->digest(), best->sequence()});
  }
}

// --- chunks ----------------------------------------------------------------------------------------------------------

bool Verdicts::find_chunks(FoundRecords::Block records, const FoundRecords::Head& head, ChunkRefs& chunks) {
  chunks_.clear();
  for (const FoundRecord* r : records) {
    if (r->kind() == FoundRecord::Kind::kChunk && logs_[r->drive()].usable) chunks_.push_back(r);
  }
  const auto rank = [](const FoundRecord& r) { return std::tuple(r.chunk_number(), r.sequence()); };
  std::stable_sort(chunks_.begin(), chunks_.end(), [&](const FoundRecord* a, const FoundRecord* b) {
    return rank(*a) != rank(*b) ? rank(*a) < rank(*b) : replaces(*a, *b);
  });
  for (uint32_t n = 0; n < head.chunks.size(); ++n) {
    if (head.chunks[n] == 0) continue;
    const auto wanted = std::tuple(n, head.chunks[n]);
    const auto it = std::lower_bound(chunks_.begin(), chunks_.end(), wanted,
                                     [&](const FoundRecord* r, const auto& key) { return rank(*r) < key; });
    if (it == chunks_.end() || rank(**it) != wanted) return false;
    const FoundRecord& c = **it;
    chunks.emplace_back(n, RecordRef{c.place(), c.sequence(), c.checksum(), c.length(), c.has_holes()});
  }
  return !head.damaged;
}

}  // namespace memkv::engine
