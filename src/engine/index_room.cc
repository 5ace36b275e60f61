/// What gives way when the index is full: the oldest segments, or, among several tenants, the one above its share.

#include <algorithm>

#include "engine/store_impl.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kSampleEntries = 64;  // neighbours in the index are neighbours by hash: any few are a fair sample
constexpr uint64_t kSlotsMax = 1024;     // looked at in one call
constexpr size_t kVictimsMax = 8;        // and as many dropped

}  // namespace

/// A full index reclaims early: the op is told kBusy and comes again. The last entries are for namespaces that are
/// within their share.
bool StoreImpl::index_has_room(uint64_t ns, uint64_t entries) {
  const uint64_t reserve = states_used_ + entries + 16;
  if (index_.size() + reserve <= index_.entries_max()) return true;
  const IndexSample sample = sample_index(ns);
  if (sample.namespaces > 1) {
    evict_from_index(sample.largest);
    return !sample.above_share && index_.size() + states_used_ + entries <= index_.entries_max();
  }
  for (auto& log : logs_) {
    if (log && !log->out()) on_segment_needed(log->config().slice.drive_index);
  }
  return index_.size() + states_used_ + entries <= index_.entries_max();
}

/// The next few entries, by namespace: shares are equal parts for those that have entries, and for the one that asks.
StoreImpl::IndexSample StoreImpl::sample_index(uint64_t ns) {
  index_counts_.assign(namespaces_.size() + 1, 0);
  const uint16_t asks = namespace_index(ns);
  index_counts_.resize(namespaces_.size(), 0);
  uint64_t cursor = index_hand_, seen = 0;
  const uint64_t end = std::min(index_.slot_count(), cursor + kSlotsMax);
  for (const Entry* e; seen < kSampleEntries && (e = index_.next(cursor, end)) != nullptr; seen++) {
    index_counts_[e->namespace_index()]++;
  }
  IndexSample sample;
  for (size_t i = 0; i < index_counts_.size(); i++) {
    if (index_counts_[i] == 0 && i != asks) continue;
    sample.namespaces++;
    if (index_counts_[i] > index_counts_[sample.largest]) sample.largest = static_cast<uint16_t>(i);
  }
  sample.above_share = uint64_t{index_counts_[asks]} * sample.namespaces > seen;
  return sample;
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
  eviction.on_done = [](StoreOp& done) {
    auto& over = static_cast<IndexEviction&>(done);
    over.under_way = false;
    if (over.status == Status::kOk) static_cast<StoreImpl*>(over.context)->counters_.dropped_index_full++;
  };
  start_remove(eviction, e.sequence());
}

}  // namespace memkv::engine
