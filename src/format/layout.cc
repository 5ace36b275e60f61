#include "format/layout.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/bytes.h"

namespace memkv::format {

std::optional<Layout> choose_layout(uint64_t drive_bytes, uint32_t shards) {
  MEMKV_ASSERT(std::has_single_bit(shards) && shards <= kShardsMax);
  if (drive_bytes < drive_bytes_min(shards)) return std::nullopt;
  const uint64_t slice_bytes = base::align_down((drive_bytes - kSlicesOffset) / shards, base::kSectorBytes);
  uint64_t chunks = kSegmentChunksMax;
  while (chunks > 1 && segment_count(slice_bytes, segment_bytes_for(chunks)) < kSegmentsWanted) --chunks;
  return Layout{slice_bytes, segment_bytes_for(chunks)};
}

uint32_t default_shards(uint64_t bytes_together, uint64_t smallest_drive_bytes) {
  const uint64_t wanted = std::clamp<uint64_t>(bytes_together / (4 * base::kGiB), 1, kShardsMax);
  auto shards = static_cast<uint32_t>(std::bit_floor(wanted));
  while (shards > 1 && smallest_drive_bytes < drive_bytes_min(shards)) shards /= 2;
  return shards;
}

}  // namespace memkv::format
