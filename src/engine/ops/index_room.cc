#include "engine/ops/index_room.h"

#include <algorithm>

#include "engine/ops/remove.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kSlotsMax = 1024;  // looked at in one call
constexpr size_t kVictimsMax = 8;     // and as many dropped
// Entries kept for namespaces within their share: one in so many, at least the second number. A tenant within its share
// may put a batch at once while another one fills the index.
constexpr uint64_t kSpareShare = 64;
constexpr uint64_t kSpareEntriesMin = 16;

}  // namespace

/// Besides what the ops under way may add. Reads and removes add nothing: a tenant that reads much, or the removes that
/// make room here, leave the last entries to others.
bool IndexRoom::fits(uint64_t entries) const {
  return parts_.blocks.entries() + parts_.pool.new_entries() + entries <= parts_.blocks.entries_max();
}

bool IndexRoom::has_room(uint64_t namespace_id, uint64_t entries) {
  const uint64_t spare = std::max(parts_.blocks.entries_max() / kSpareShare, kSpareEntriesMin);
  if (fits(entries + spare)) return true;
  const Shares shares = shares_for(namespace_id);
  if (shares.namespaces > 1 || !has_sealed_segment()) {
    evict_from(shares.largest);
    return !shares.above_share && fits(entries);
  }
  for (const auto& log : parts_.drives.logs()) {
    if (log && !log->out()) reclaimer_.want(log->config().slice.drive_index);
  }
  return fits(entries);
}

/// Reclaim takes sealed segments. A small index may be full of what lies in open ones.
bool IndexRoom::has_sealed_segment() const {
  const auto logs = parts_.drives.logs();
  return std::any_of(logs.begin(), logs.end(), [](const auto& log) {
    return log && !log->out() && log->segments().oldest() < log->segments().newest();
  });
}

/// Shares are equal parts for the namespaces that have entries, and for the one that asks.
IndexRoom::Shares IndexRoom::shares_for(uint64_t namespace_id) const {
  Blocks& blocks = parts_.blocks;
  const uint16_t asks = blocks.namespace_index(namespace_id);
  Shares shares;
  for (uint16_t i = 0; i < blocks.namespace_count(); ++i) {
    if (blocks.entries_of(i) > 0 || i == asks) ++shares.namespaces;
    if (blocks.entries_of(i) > blocks.entries_of(shares.largest)) shares.largest = i;
  }
  shares.above_share = blocks.entries_of(asks) * shares.namespaces > blocks.entries();
  return shares;
}

/// Drops a few blocks of one namespace, those not read since they were written first, with tombstones: what is dropped
/// stays dropped.
void IndexRoom::evict_from(uint16_t victim) {
  Blocks& blocks = parts_.blocks;
  size_t evictions = 0;
  uint64_t cursor = hand_;
  const uint64_t end = std::min(blocks.slot_count(), cursor + kSlotsMax);
  while (evictions < kVictimsMax) {
    Entry* e = blocks.next(cursor, end);
    if (e == nullptr) break;
    if (e->namespace_index() != victim || e->has(kChunk)) continue;
    if (e->has(kHit)) {
      e->set(kHit, false);  // a second chance
      continue;
    }
    Eviction* eviction = free_eviction();
    if (eviction == nullptr) break;
    ++evictions;
    start(*eviction, *e);
  }
  hand_ = cursor >= blocks.slot_count() ? 0 : cursor;
}

IndexRoom::Eviction* IndexRoom::free_eviction() {
  for (Eviction& eviction : evictions_) {
    if (!eviction.under_way) return &eviction;
  }
  return nullptr;
}

void IndexRoom::start(Eviction& eviction, const Entry& e) {
  MEMKV_ASSERT(!eviction.under_way && !e.has(kChunk));
  static_cast<RemoveOp&>(eviction) = {};
  eviction.under_way = true;
  eviction.key.digest = e.digest();
  eviction.key.namespace_id = parts_.blocks.namespace_id(e.namespace_index());
  eviction.on_done = [](StoreOp& done) { static_cast<Eviction&>(done).under_way = false; };
  ++parts_.counters.dropped_index_full;  // a kill may come between its tombstone and its end
  Remove::start(parts_, eviction, e.sequence());
}

}  // namespace memkv::engine
