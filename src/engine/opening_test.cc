/// How a store is opened: what is read, how much at a time, and what becomes of it.

#include <gtest/gtest.h>

#include <string>

#include "engine/damage_testing.h"

namespace memkv::engine {
namespace {

/// Counts the reads of a start.
struct Reads {
  void watch(Rig& rig, size_t drives) {
    for (size_t d = 0; d < drives; ++d) {
      rig.device(d).set_gate([this, &rig, drives](const io::FaultyDevice::OpView& view) {
        if (view.kind != io::FaultyDevice::OpKind::kRead) return false;
        ++count;
        size_t flying = 0, busy = 0;
        for (size_t i = 0; i < drives; ++i) {
          flying += rig.device(i).in_flight();
          busy += rig.device(i).in_flight() > 0 ? 1 : 0;
        }
        at_once_max = std::max(at_once_max, flying);
        drives_max = std::max(drives_max, busy);
        return false;
      });
    }
  }
  size_t count = 0;
  size_t at_once_max = 0;  ///< under way
  size_t drives_max = 0;   ///< that had some under way at the same time
};

TEST(Opening, ReadsFootersWholeAndManyAtOnce) {
  for (const size_t drives : {1, 3}) {
    Rig rig(static_cast<int>(drives), 64 * kMi);
    rig.index_entries_max = 200'000;
    rig.reopen();
    put_many(rig, 60'000 * drives);
    rig.close();
    Reads reads;
    rig.before_open_ = [&](Rig& r) { reads.watch(r, drives); };
    rig.open();
    EXPECT_EQ(rig.store().counters().blocks, 60'000 * drives);
    const auto layout = format::choose_layout(64 * kMi, 1);
    const uint64_t segments = format::segment_count(layout->slice_bytes, layout->segment_bytes);
    // Of each log: one for each segment's end and the next one's beginning, one for each of about nine footers, and a
    // few for the newest segment.
    EXPECT_LE(reads.count, drives * (segments + 20));
    EXPECT_GE(reads.at_once_max, 16u);
    EXPECT_EQ(reads.drives_max, drives);
  }
}

TEST(Opening, ReadsTheNewestSegmentInLargePieces) {
  constexpr int kBlocks = 200;  // each in an extent of its own; they fill most of the first segment
  Rig rig(1, 24 * kMi);
  for (int i = 0; i < kBlocks; ++i)
    ASSERT_EQ(rig.put("key" + std::to_string(i), bytes_of("key", 1, base::kSectorBytes)), Status::kOk);
  rig.close();
  Reads reads;
  rig.before_open_ = [&](Rig& r) { reads.watch(r, 1); };
  rig.open();
  EXPECT_EQ(rig.store().counters().blocks, uint64_t{kBlocks});
  EXPECT_LE(reads.count, 12u + 10u) << "12: of eleven segments, their ends and beginnings";
}

/// Payloads that nobody looks at are read ahead with the extents before and behind them. More of them cannot be read than
/// a drive may have to stay in.
TEST(Opening, WhatOnlyReadingAheadTouchesMayBeUnreadable) {
  constexpr int kBlocks = 200;
  DamageRig d(1);
  for (int i = 0; i < kBlocks; ++i) d.put("key" + std::to_string(i), base::kSectorBytes);
  d.rig.close();
  const std::vector<uint64_t> payloads = d.find_blocks(0).at(BlockOf::kPayload);
  ASSERT_EQ(payloads.size(), size_t{kBlocks});
  d.rig.before_open_ = [&](Rig& rig) {
    for (size_t i = 0; i < payloads.size(); i += 4) rig.device(0).fail_reads(payloads[i], base::kSectorBytes);
  };
  d.rig.open();
  EXPECT_EQ(d.rig.store().counters().blocks, uint64_t{kBlocks});
  EXPECT_EQ(d.rig.store().counters().recovered_rot, 0u);
  EXPECT_EQ(d.rig.store().counters().recovered_torn, 0u);
}

/// Every read of a start that can go wrong goes wrong once.
TEST(Opening, WhatComesWrongOnceIsReadAgain) {
  DamageRig d(1);
  for (int i = 0; i < 60; ++i) d.put("key" + std::to_string(i % 40), 200'000);
  for (int i = 0; i < 100; ++i) d.put("small" + std::to_string(i), 3000);
  d.rig.close();
  std::vector<uint64_t> sectors;
  for (const auto& [kind, places] : d.find_blocks(0)) sectors.insert(sectors.end(), places.begin(), places.end());
  d.rig.before_open_ = [&](Rig& rig) {
    for (const uint64_t sector : sectors) rig.device(0).fail_reads(sector, base::kSectorBytes, 1);
  };
  d.rig.open();
  EXPECT_EQ(d.rig.store().counters().recovered_rot, 0u);
  EXPECT_EQ(d.rig.store().counters().recovered_lost, 0u);
  d.rig.device(0).heal();
  EXPECT_EQ(d.check(), 0u);
}

/// More records than the index has room for, and yet room for all blocks, since most records are of older versions.
TEST(Opening, OldVersionsTakeNoRoomInTheIndex) {
  DamageRig d(2);
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < 300; ++i) d.put("key" + std::to_string(i), 300);
  }
  d.rig.close();
  d.rig.index_entries_max = 300;
  d.rig.open();
  EXPECT_EQ(d.check(), 0u);
  EXPECT_EQ(d.rig.store().counters().blocks, 300u);
  EXPECT_EQ(d.rig.store().counters().dropped_index_full, 0u);
}

/// A block of several chunks takes several entries: it is dropped for lack of them, and smaller and older ones stay.
TEST(Opening, ABlockThatDoesNotFitIntoTheIndexLeavesRoomForSmallerOnes) {
  DamageRig d(1, 64 * kMi);
  for (int i = 0; i < 62; ++i) d.put("old" + std::to_string(i), 300);
  d.put("large", 5 * kMi);  // four entries
  d.put("new", 300);
  d.rig.close();
  d.rig.index_entries_max = 64;
  d.rig.open();
  EXPECT_EQ(d.rig.store().counters().dropped_index_full, 3u);
  EXPECT_EQ(d.check(), 3u) << "large and new take five entries: the three oldest of the others go";
  EXPECT_TRUE(d.rig.store().exists(d.rig.key("large")));
}

}  // namespace
}  // namespace memkv::engine
