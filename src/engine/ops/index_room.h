#pragma once
/// What gives way when the index is full: the oldest segments, or, among several tenants, the one above its share.

#include <array>

#include "engine/parts.h"
#include "engine/reclaimer.h"

namespace memkv::engine {

/// Asked before anything is added to the index.
///
/// Owns the removes that make room. Knows the reclaimer and Remove. Thread: worker.
class IndexRoom {
 public:
  IndexRoom(Parts& parts, Reclaimer& reclaimer) : parts_(parts), reclaimer_(reclaimer) {}
  /// A full index reclaims early: the op is told kBusy and comes again. The last entries are for namespaces that are
  /// within their share.
  bool has_room(uint64_t namespace_id, uint64_t entries);

 private:
  struct Shares {
    uint32_t namespaces = 0;   // that have entries, and the one that asks
    uint16_t largest = 0;      // the one with most entries
    bool above_share = false;  // the one that asks has more than an equal part
  };
  struct Eviction : RemoveOp {
    bool under_way = false;
  };
  bool fits(uint64_t entries) const;
  Shares shares_for(uint64_t namespace_id) const;
  bool has_sealed_segment() const;
  void evict_from(uint16_t victim);
  Eviction* free_eviction();
  void start(Eviction& eviction, const Entry& e);

  Parts& parts_;
  Reclaimer& reclaimer_;
  uint64_t hand_ = 0;  // the slot whose turn it is to give way
  std::array<Eviction, 16> evictions_;
};

}  // namespace memkv::engine
