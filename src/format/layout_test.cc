#include "format/layout.h"

#include <gtest/gtest.h>

namespace memkv::format {
namespace {

TEST(Layout, LargestSegmentsThatLeave64ALog) {
  for (const uint64_t gib : {1, 2, 4, 16, 100, 1000, 15'000}) {
    for (uint32_t shards = 1; shards <= kShardsMax; shards *= 2) {
      const auto layout = choose_layout(gib << 30, shards);
      if (!layout) continue;
      const uint64_t segments = segment_count(layout->slice_bytes, layout->segment_bytes);
      EXPECT_GE(segments, kSegmentsMin);
      EXPECT_TRUE(segments >= kSegmentsWanted || layout->segment_bytes == segment_bytes_for(1));
      if (layout->segment_bytes < segment_bytes_for(kSegmentChunksMax)) {
        const uint64_t larger = layout->segment_bytes - segment_bytes_for(0) + segment_bytes_for(1);
        EXPECT_LT(segment_count(layout->slice_bytes, larger), kSegmentsWanted);
      }
      EXPECT_LE(kSlicesOffset + shards * layout->slice_bytes, gib << 30);
    }
  }
}

TEST(Layout, SmallestDriveIsJustTaken) {
  for (const uint32_t shards : {1u, 8u, 32u}) {
    EXPECT_TRUE(choose_layout(drive_bytes_min(shards), shards).has_value());
    EXPECT_FALSE(choose_layout(drive_bytes_min(shards) - base::kSectorBytes, shards).has_value());
  }
}

TEST(Layout, OneShardPer4GiBAsFarAsTheSmallestDriveGoes) {
  EXPECT_EQ(default_shards(uint64_t{1} << 30, uint64_t{1} << 30), 1u);
  EXPECT_EQ(default_shards(uint64_t{12} << 30, uint64_t{4} << 30), 2u);
  EXPECT_EQ(default_shards(uint64_t{16} << 30, uint64_t{4} << 30), 4u);
  EXPECT_EQ(default_shards(uint64_t{4} << 40, uint64_t{1} << 40), kShardsMax);
  EXPECT_EQ(default_shards(uint64_t{4} << 40, uint64_t{64} << 20), 2u);
}

}  // namespace
}  // namespace memkv::format
