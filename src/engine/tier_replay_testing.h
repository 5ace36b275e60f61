#pragma once
/// Replays reads of records through the RAM tier, and through an LRU of the same size beside it.

#include <cstdint>
#include <list>
#include <unordered_map>

#include "engine/tier.h"
#include "format/format.h"

namespace memkv::engine {

/// The least recently used leaves. All that is read comes in.
class Lru {
 public:
  explicit Lru(size_t entries) : entries_(entries) {}
  /// True: it was there.
  bool read(uint64_t id) {
    const auto found = at_.find(id);
    if (found != at_.end()) {
      order_.splice(order_.begin(), order_, found->second);
      return true;
    }
    order_.push_front(id);
    at_[id] = order_.begin();
    if (order_.size() <= entries_) return false;
    at_.erase(order_.back());
    order_.pop_back();
    return false;
  }

 private:
  const size_t entries_;
  std::list<uint64_t> order_;
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> at_;
};

/// Blocks of one size, by number. The first access to a block is its put; the later ones are gets, which count. Drives
/// keep all.
class TierReplay {
 public:
  static constexpr uint64_t kBlockBytes = 8192;

  explicit TierReplay(size_t blocks)
      : tier_(tier_bytes(blocks), counters_), lru_(tier_.memory().size() / kBlockBytes) {}

  void access(uint64_t id) {
    if (!known_.emplace(id, true).second) get(id);
  }
  void get(uint64_t id) {
    ++gets_;
    lru_hits_ += lru_.read(id) ? 1 : 0;
    const RecordRef record{{0, id * (kBlockBytes / format::kPackBytes)}, id + 1, 0, kBlockBytes, false};
    if (TierEntry* entry = tier_.find(record)) {
      ++hits_;
      tier_.hold(*entry);
      tier_.release(*entry);
    } else if (TierEntry* fresh = tier_.take(record, /*whole=*/true)) {
      tier_.end_read(*fresh, true);
      tier_.release(*fresh);
    }
  }
  double hit_rate() const { return static_cast<double>(hits_) / static_cast<double>(gets_); }
  double lru_hit_rate() const { return static_cast<double>(lru_hits_) / static_cast<double>(gets_); }
  uint64_t hits() const { return hits_; }
  uint64_t lru_hits() const { return lru_hits_; }

 private:
  static uint64_t tier_bytes(size_t blocks) { return blocks * kBlockBytes / 97 * 100; }

  StoreCounters counters_{};
  Tier tier_;
  Lru lru_;
  std::unordered_map<uint64_t, bool> known_;
  uint64_t gets_ = 0, hits_ = 0, lru_hits_ = 0;
};

}  // namespace memkv::engine
