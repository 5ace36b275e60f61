#pragma once
/// Evicted blocks that a restart might find again.

#include <cstdint>
#include <vector>

#include "engine/index.h"

namespace memkv::engine {

/// What reclaim drops leaves the index alone: its record stands in its segment until that is known to be free. The
/// log's headers, extents and anchors say from which epoch on it holds records; what two of the three say survives the
/// loss of any one sector. Until they do, an evicted block may return.
///
/// Owns a filter of the digests that went. Part of a Log. Thread: worker.
class RecentEvictions {
 public:
  RecentEvictions() : filter_(kFilterBits / 64) {}
  /// Recovery writes both anchors before it is done.
  void start(uint64_t oldest_epoch);

  /// Reclaim drops what is in this epoch, the oldest.
  void begin(uint64_t epoch);
  /// A block with a record there was dropped from the index, and no tombstone says so.
  void note(Digest digest) { filter_[bit_of(digest) / 64] |= uint64_t{1} << bit_of(digest) % 64; }
  /// It is not yet written in two places that the segments are free.
  bool any_may_return() const { return evicted_ > durable_; }
  /// The block may be one of those. Wrong in a few cases of a hundred, one way only.
  bool may_return(Digest digest) const {
    return any_may_return() && (filter_[bit_of(digest) / 64] >> bit_of(digest) % 64 & 1) != 0;
  }

  // What is durable: the oldest epoch that holds records.
  void header_says(uint64_t oldest_epoch);
  void extent_says(uint64_t oldest_epoch);
  void anchor_says(uint64_t oldest_epoch);

 private:
  static constexpr size_t kFilterBits = 1 << 17;
  static size_t bit_of(Digest digest) { return digest.lo % kFilterBits; }
  void update();

  uint64_t evicted_ = 1;  // epochs below it were dropped from the index
  uint64_t header_ = 1, extent_ = 1, anchor_ = 1;
  uint64_t durable_ = 1;
  std::vector<uint64_t> filter_;
};

}  // namespace memkv::engine
