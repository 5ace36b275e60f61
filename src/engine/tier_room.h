#pragma once
/// Runs of sectors in a piece of memory.

#include <array>
#include <cstdint>
#include <vector>

#include "base/sizes.h"

namespace memkv::engine {

/// The longest run: a chunk with its header in front.
inline constexpr uint32_t kTierRunMax = base::kChunkBytes / base::kSectorBytes + 1;

/// Hands out runs of neighbouring sectors, each in the shortest free run that has room for it. Runs that come back join
/// their free neighbours. It takes no memory after its start.
///
/// Owns what is known of each sector, not the sectors. Thread: worker.
class TierRoom {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint64_t kBytesEach = 12;  ///< of memory for each sector

  explicit TierRoom(uint32_t sectors);
  /// take() would find a run.
  bool fits(uint32_t sectors) const { return bin_for(sectors) != kNone; }
  /// The run's first sector; kNone: no free run is so long.
  uint32_t take(uint32_t sectors);
  void give(uint32_t first);
  uint32_t used() const { return used_; }  ///< sectors
  uint32_t run_at(uint32_t first) const { return marks_[first].tag >> 1; }

 private:
  static constexpr uint32_t kBins = kTierRunMax + 2;  // by length; the last one has all that is longer
  struct Mark {
    uint32_t tag = 0;  // of a run's first and last sector: its length, and a bit that says that it is free
    uint32_t previous = kNone, next = kNone;  // of a free run's first sector: in its bin
  };
  static_assert(sizeof(Mark) == kBytesEach);
  static uint32_t bin_of(uint32_t sectors) { return sectors < kBins ? sectors : kBins - 1; }
  uint32_t bin_for(uint32_t sectors) const;
  bool is_free(uint32_t sector) const { return (marks_[sector].tag & 1) != 0; }
  void mark(uint32_t first, uint32_t sectors, bool free);
  void link(uint32_t first, uint32_t sectors);
  void unlink(uint32_t first);

  std::vector<Mark> marks_;
  std::array<uint32_t, kBins> bins_;
  std::array<uint64_t, kBins / 64 + 1> filled_{};  // a bit for each bin that is not empty
  uint32_t used_ = 0;
};

}  // namespace memkv::engine
