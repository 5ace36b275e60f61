/// What gives way when the index is full: the oldest segments, or, among several tenants, the one above its share.

#include <algorithm>

#include "engine/store_impl.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kSlotsMax = 1024;  // looked at in one call
constexpr size_t kVictimsMax = 8;     // and as many dropped

}  // namespace

/// A full index reclaims early: the op is told kBusy and comes again. The last entries are for namespaces that are
/// within their share.
bool StoreImpl::index_has_room(uint64_t ns, uint64_t entries) {
  const uint64_t reserve = states_used_ + entries + 16;
  if (index_.size() + reserve <= index_.entries_max()) return true;
  const IndexShares shares = index_shares(ns);
  if (shares.namespaces > 1 || !has_sealed_segment()) {
    evict_from_index(shares.largest);
    return !shares.above_share && index_.size() + states_used_ + entries <= index_.entries_max();
  }
  for (auto& log : logs_) {
    if (log && !log->out()) on_segment_needed(log->config().slice.drive_index);
  }
  return index_.size() + states_used_ + entries <= index_.entries_max();
}

/// Reclaim takes sealed segments. A small index may be full of what lies in open ones.
bool StoreImpl::has_sealed_segment() const {
  return std::any_of(logs_.begin(), logs_.end(),
                     [](const auto& log) { return log && !log->out() && log->oldest_epoch() < log->newest_epoch(); });
}

/// Shares are equal parts for the namespaces that have entries, and for the one that asks.
StoreImpl::IndexShares StoreImpl::index_shares(uint64_t ns) {
  const uint16_t asks = namespace_index(ns);
  IndexShares shares;
  for (uint16_t i = 0; i < namespaces_.size(); i++) {
    if (index_.size_of(i) > 0 || i == asks) shares.namespaces++;
    if (index_.size_of(i) > index_.size_of(shares.largest)) shares.largest = i;
  }
  shares.above_share = index_.size_of(asks) * shares.namespaces > index_.size();
  return shares;
}

/// Reclaim goes by age of segments, whosever they are: it makes room in the index only where all entries are of one
/// namespace.
bool StoreImpl::reclaim_helps_index() const {
  if (index_.size() + states_used_ + 64 <= index_.entries_max() - index_.entries_max() / 32) return false;
  uint64_t namespaces = 0;
  for (uint16_t i = 0; i < namespaces_.size(); i++) namespaces += index_.size_of(i) > 0 ? 1 : 0;
  return namespaces <= 1;
}

/// Drops a few blocks of one namespace, those not read since they were written first, with tombstones: what is dropped
/// stays dropped.
void StoreImpl::evict_from_index(uint16_t victim) {
  size_t evictions = 0;
  uint64_t cursor = index_hand_;
  const uint64_t end = std::min(index_.slot_count(), cursor + kSlotsMax);
  while (evictions < kVictimsMax) {
    Entry* e = index_.next(cursor, end);
    if (e == nullptr) break;
    if (e->namespace_index() != victim || e->has(kChunk)) continue;
    if (e->has(kHit)) {
      e->set(kHit, false);  // a second chance
      continue;
    }
    IndexEviction* free = nullptr;
    for (IndexEviction& eviction : index_evictions_) {
      if (!eviction.under_way) free = &eviction;
    }
    if (free == nullptr) break;
    evictions++;
    start_eviction(*free, *e);
  }
  index_hand_ = cursor >= index_.slot_count() ? 0 : cursor;
}

void StoreImpl::start_eviction(IndexEviction& eviction, const Entry& e) {
  static_cast<RemoveOp&>(eviction) = {};
  eviction.under_way = true;
  eviction.context = this;
  eviction.key.digest = e.digest();
  eviction.key.namespace_id = namespaces_[e.namespace_index()];
  eviction.on_done = [](StoreOp& done) { static_cast<IndexEviction&>(done).under_way = false; };
  counters_.dropped_index_full++;  // a kill may come between its tombstone and its end
  start_remove(eviction, e.sequence());
}

}  // namespace memkv::engine
