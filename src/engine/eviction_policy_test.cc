/// One test for each rule of the eviction policy.

#include "engine/eviction_policy.h"

#include <gtest/gtest.h>

namespace memkv::engine {
namespace {

constexpr uint64_t kSegment = 64 << 20;

/// A block that was read since it was written. Its record is the first in its segment.
EvictionCase hit_block() {
  EvictionCase c;
  c.in_index = true;
  c.hit = true;
  c.payload_bytes = 1 << 20;
  c.drive_bytes = (1 << 20) + 4096;
  c.segment_bytes = kSegment;
  return c;
}

TEST(EvictionPolicy, WhatWasReadGetsAnotherTurn) {
  EXPECT_EQ(decide_eviction(hit_block()), Eviction::kKeepHit);
  EXPECT_TRUE(keeps(Eviction::kKeepHit));
}

TEST(EvictionPolicy, WhatNobodyReadGoes) {
  EvictionCase c = hit_block();
  c.hit = false;
  EXPECT_EQ(decide_eviction(c), Eviction::kDropUnread);
  EXPECT_FALSE(keeps(Eviction::kDropUnread));
}

TEST(EvictionPolicy, WhatTheIndexDoesNotNameIsDead) {
  EvictionCase c = hit_block();
  c.in_index = false;
  EXPECT_EQ(decide_eviction(c), Eviction::kDropDead);
  EXPECT_FALSE(keeps(Eviction::kDropDead));
}

TEST(EvictionPolicy, ChunksOfAnUploadUnderWayStay) {
  EvictionCase c = hit_block();
  c.in_index = c.hit = false;
  c.uncommitted = true;
  EXPECT_EQ(decide_eviction(c), Eviction::kKeepUncommitted);
  EXPECT_TRUE(keeps(Eviction::kKeepUncommitted));
}

TEST(EvictionPolicy, HalfASegmentOfPayloadIsKeptAndNoByteMore) {
  EvictionCase c = hit_block();
  c.kept_payload_bytes = kSegment / 2 - c.payload_bytes;
  EXPECT_EQ(decide_eviction(c), Eviction::kKeepHit);
  ++c.kept_payload_bytes;
  EXPECT_EQ(decide_eviction(c), Eviction::kDropNoRoom);
  EXPECT_FALSE(keeps(Eviction::kDropNoRoom));
}

TEST(EvictionPolicy, SmallRecordsCountWithWhatGoesAroundThem) {
  EvictionCase c = hit_block();
  c.payload_bytes = 1;
  c.drive_bytes = 8192;
  c.kept_drive_bytes = kSegment / 4 * 3 - c.drive_bytes;
  EXPECT_EQ(decide_eviction(c), Eviction::kKeepHit);
  ++c.kept_drive_bytes;
  EXPECT_EQ(decide_eviction(c), Eviction::kDropNoRoom);
}

TEST(EvictionPolicy, NoRoomGoesBeforeAnUpload) {
  EvictionCase c = hit_block();
  c.in_index = c.hit = false;
  c.uncommitted = true;
  c.kept_payload_bytes = kSegment / 2;
  EXPECT_EQ(decide_eviction(c), Eviction::kDropNoRoom);
}

}  // namespace
}  // namespace memkv::engine
