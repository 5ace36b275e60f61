#pragma once
/// How a drive is cut into slices and segments (docs/data-file.md).

#include <cstdint>
#include <optional>

#include "format/format.h"

namespace memkv::format {

inline constexpr uint64_t kSegmentsWanted = 64;  ///< a log, where the drive allows
inline constexpr uint64_t kSegmentsMin = 8;      ///< a log; a drive that gives less is refused

struct Layout {
  uint64_t slice_bytes = 0;
  uint64_t segment_bytes = 0;
};

/// The segments of a slice's log, behind its two anchors.
constexpr uint64_t segment_count(uint64_t slice_bytes, uint64_t segment_bytes) {
  return slice_bytes < 2 * base::kSectorBytes ? 0 : (slice_bytes - 2 * base::kSectorBytes) / segment_bytes;
}
/// Place of a segment, from the slice's start.
constexpr uint64_t segment_offset(uint64_t segment_bytes, uint64_t segment_index) {
  return 2 * base::kSectorBytes + segment_index * segment_bytes;
}
/// The smallest drive that can hold so many shards.
constexpr uint64_t drive_bytes_min(uint32_t shards) {
  return kSlicesOffset + shards * (2 * base::kSectorBytes + kSegmentsMin * segment_bytes_for(1));
}

/// Nothing when the drive is too small for so many shards.
std::optional<Layout> choose_layout(uint64_t drive_bytes, uint32_t shards);

/// One shard per 4 GiB of all drives together, a power of two, 1 to kShardsMax, and no more than the smallest drive can
/// hold.
uint32_t default_shards(uint64_t bytes_together, uint64_t smallest_drive_bytes);

}  // namespace memkv::format
