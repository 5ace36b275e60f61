/// Faults that were met when the product ran (cases A2, A3, A5): nothing older than what was acknowledged may ever be
/// found.

#include <gtest/gtest.h>

#include "engine/damage_testing.h"

namespace memkv::engine {
namespace {

constexpr size_t kLone = 200'000;

/// Writes keys into one segment, then overwrites and removes them in the next. Returns the place of that segment's
/// header.
uint64_t two_segments(DamageRig& d) {
  for (int i = 0; i < 12; ++i) d.put("key" + std::to_string(i), kLone);  // a segment holds ten of them
  d.put("key0", kLone);
  d.remove("key1");
  d.rest();
  d.rig.close();
  return d.find_blocks(0).at(BlockOf::kSegmentHeader).back();
}

TEST(CaseA2, AFlippedBitInTheNewestSegmentHeaderRollsNothingBack) {
  DamageRig d(1);
  const uint64_t header = two_segments(d);
  *(d.block(0, header) + 100) ^= std::byte{4};
  d.rig.open();
  EXPECT_EQ(d.check(), 0u);
  EXPECT_EQ(d.rig.store().counters().recovered_rot, 1u);
  EXPECT_EQ(d.rig.store().counters().recovered_lost, 0u);
}

TEST(CaseA2, AReadThatFailsOnceIsTriedAgain) {
  DamageRig d(1);
  const uint64_t header = two_segments(d);
  d.rig.before_open_ = [=](Rig& rig) { rig.device(0).fail_reads(header, base::kSectorBytes, 1); };
  d.rig.open();
  EXPECT_EQ(d.check(), 0u);
  EXPECT_EQ(d.rig.store().counters().recovered_rot, 0u);
}

TEST(CaseA2, ABlockThatCannotBeReadIsNoBlockThatWasNeverWritten) {
  DamageRig d(1);
  const uint64_t header = two_segments(d);
  d.rig.before_open_ = [=](Rig& rig) { rig.device(0).fail_reads(header, base::kSectorBytes); };
  d.rig.open();
  EXPECT_EQ(d.check(), 0u);
  EXPECT_EQ(d.rig.store().counters().recovered_rot, 1u);
}

/// Nothing of the drive can be read. If it is the only drive the start is refused; otherwise it goes out.
TEST(CaseA2, ADriveThatCannotBeReadGoesOut) {
  {
    DamageRig d(1);
    two_segments(d);
    d.rig.before_open_ = [](Rig& rig) { rig.device(0).fail_reads(0, 24 * kMi); };
    EXPECT_EQ(d.rig.try_open(), Status::kIo);
    d.rig.before_open_ = {};
    d.rig.open();
    EXPECT_EQ(d.check(), 0u);
  }
  DamageRig d(2);
  d.fill(1);
  d.rest();
  d.rig.close();
  uint64_t out = 0;
  d.rig.on_drive_out_context_ = &out;
  d.rig.on_drive_out_ = [](void* context, uint8_t drive, const char*) {
    *static_cast<uint64_t*>(context) |= 1u << drive;
  };
  d.rig.before_open_ = [](Rig& rig) { rig.device(1).fail_reads(0, 24 * kMi); };
  d.rig.open();
  EXPECT_EQ(out, 2u);
  d.rig.store().take_drives_out(2);
  EXPECT_GT(d.check(), 0u);
}

/// The newest segment is lost whole. Anchors know that it existed, so what it held is missed.
TEST(CaseA2, ALostNewestSegmentIsNoticed) {
  DamageRig d(1);
  const uint64_t header = two_segments(d);
  std::memset(d.block(0, header), 0, format::segment_bytes_for(1));
  d.rig.open();
  EXPECT_GT(d.check(), 0u);
  EXPECT_EQ(d.rig.store().counters().recovered_lost, 1u);
  d.go_on_and_check();
}

/// One start has an index that is too small; at the next one it holds everything.
TEST(CaseA3, WhatTheIndexHadNoRoomForStaysDropped) {
  DamageRig d(2);
  for (int i = 0; i < 1000; ++i) d.put("key" + std::to_string(i), 300);
  d.rig.close();
  d.rig.index_entries_max = 400;
  d.rig.open();
  EXPECT_GT(d.check(), 500u);
  EXPECT_GT(d.rig.store().counters().dropped_index_full, 500u);
  std::vector<std::string> kept;
  for (auto& [key, version] : d.content) {
    if (d.rig.store().exists(d.rig.key(key)))
      kept.push_back(key);
    else
      version = 0;
  }
  EXPECT_GT(kept.size(), 300u);
  for (int i = 0; i < 1000; i += 2) d.remove("key" + std::to_string(i));
  for (int i = 0; i < 1000; i += 14) d.put("key" + std::to_string(i), 300);
  d.rig.close();
  d.rig.index_entries_max = 20000;
  d.rig.open();
  (void)d.check();
}

/// Without both anchors nobody knows which sequences were reserved. Those that records hold must not be used again.
TEST(CaseA5, SequencesDoNotBeginAgainWhenBothAnchorsAreLost) {
  for (const bool stopped : {false, true}) {
    SCOPED_TRACE(stopped);
    Rig rig(1, 24 * kMi);
    Generation highest = 0;
    const auto put = [&](const std::string& key) {
      PreparedPut prepared(rig, key, 1, 1000);
      prepared.start();
      rig.reactor().advance(1'000'000);
      EXPECT_TRUE(prepared.acknowledged());
      EXPECT_GT(prepared.op.generation, highest);
      highest = prepared.op.generation;
    };
    for (int i = 0; i < 20; ++i) put("key" + std::to_string(i));
    stopped ? rig.close() : rig.power_cut();
    std::memset(rig.image(0)->data() + format::kSlicesOffset, 0, 2 * base::kSectorBytes);
    rig.open();
    for (int i = 0; i < 20; ++i) put("key" + std::to_string(i));
  }
}

/// The second half of a drive is zeroed while no server runs, once after a stop and once after a crash.
TEST(CaseA5, HalfADriveZeroedMakesMissesNeverOlderVersions) {
  for (const uint64_t seed : {1, 2, 3, 4}) {
    for (const int drives : {1, 2}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed << " drives " << drives);
      DamageRig d(drives);
      d.fill(seed);
      if (seed % 2 == 0) d.rest();
      seed % 2 == 0 ? d.rig.power_cut() : d.rig.close();
      std::memset(d.block(0, 12 * kMi), 0, 12 * kMi);
      d.rig.open();
      (void)d.check();
      d.go_on_and_check();
    }
  }
}

TEST(CaseA5, AnyStretchZeroedMakesMissesNeverOlderVersions) {
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    DamageRig d(1);
    d.fill(seed);
    d.rest();
    d.save();
    base::Random random(seed);
    for (int i = 0; i < 20; ++i) {
      const uint64_t begin = format::kSlicesOffset + random.below(23 * kMi / base::kSectorBytes) * base::kSectorBytes;
      const uint64_t bytes = std::min(24 * kMi - begin, (1 + random.below(2000)) * base::kSectorBytes);
      SCOPED_TRACE(testing::Message() << "seed " << seed << " from " << begin << " bytes " << bytes);
      d.restore();
      std::memset(d.block(0, begin), 0, bytes);
      d.rig.open();
      (void)d.check();
      d.go_on_and_check();
      if (testing::Test::HasFailure()) return;
    }
  }
}

/// A key is evicted from one log, put into another and removed there. Then the server restarts before the first log
/// says that its segment is free.
TEST(Eviction, WhatWasEvictedAndRemovedDoesNotReturn) {
  for (const uint64_t seed : {1, 2, 3}) {
    SCOPED_TRACE(seed);
    DamageRig d(2);
    base::Random random(seed);
    for (int i = 0; i < 400; ++i) {
      d.put("key" + std::to_string(random.below(60)), 100'000 + random.below(100'000));
      if (i % 10 != 9) continue;
      for (auto& [key, version] : std::map<std::string, uint64_t>(d.content)) {
        if (d.rig.store().exists(d.rig.key(key))) continue;
        d.put(key, 500);
        if (random.below(2) == 0) d.remove(key);
      }
      d.rig.power_cut_and_open();
      (void)d.check();
      if (testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace memkv::engine
