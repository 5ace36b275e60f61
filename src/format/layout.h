#pragma once
/// How a drive is cut into slices and segments (docs/data-file.md).

#include <cstdint>
#include <optional>

#include "format/format.h"

namespace memkv::format {

inline constexpr uint64_t kSegmentsWanted = 64;  ///< how many a log should have; fewer on small drives
inline constexpr uint64_t kSegmentsMin = 8;      ///< how many a log must have; a drive too small for that is refused

/// The two sizes that a drive is cut by.
struct Layout {
  uint64_t slice_bytes = 0;
  uint64_t segment_bytes = 0;
};

/// How many segments fit into a slice, behind its two anchors.
constexpr uint64_t segment_count(uint64_t slice_bytes, uint64_t segment_bytes) {
  return slice_bytes < 2 * base::kSectorBytes ? 0 : (slice_bytes - 2 * base::kSectorBytes) / segment_bytes;
}
/// Where a segment begins, from the slice's start.
constexpr uint64_t segment_offset(uint64_t segment_bytes, uint64_t segment_index) {
  return 2 * base::kSectorBytes + segment_index * segment_bytes;
}
/// Size of the smallest drive that can hold this many shards.
constexpr uint64_t drive_bytes_min(uint32_t shards) {
  return kSlicesOffset + shards * (2 * base::kSectorBytes + kSegmentsMin * segment_bytes_for(1));
}

/// Cuts a drive into slices and segments. Nothing if the drive is too small for this many shards.
std::optional<Layout> choose_layout(uint64_t drive_bytes, uint32_t shards);

/// How many shards a new store gets: one for each 4 GiB of all drives together, as a power of two from 1 to kShardsMax,
/// and no more than the smallest drive can hold.
uint32_t default_shards(uint64_t bytes_together, uint64_t smallest_drive_bytes);

}  // namespace memkv::format
