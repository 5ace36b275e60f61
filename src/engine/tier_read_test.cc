/// Gets through the RAM tier: which of them read a drive, and what they may never be answered with.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <list>
#include <string>

#include "engine/tier_rig_testing.h"

namespace memkv::engine {
namespace {

using TierRead = TierRig;

TEST_F(TierRead, TheSecondGetReadsNoDrive) {
  for (const auto& [name, bytes] : {std::pair("large", large_), std::pair("small", small_)}) {
    rig_.expect(name, bytes);
    const uint64_t before = reads();
    rig_.expect(name, bytes);
    EXPECT_EQ(reads(), before) << name;
  }
  EXPECT_EQ(counters().tier_hits, 2u);
  EXPECT_EQ(counters().tier_misses, 2u);
  EXPECT_GT(counters().tier_bytes, kLarge);
}

TEST_F(TierRead, ARangeOfWhatIsThereReadsNoDrive) {
  std::string out;
  for (const auto& [name, bytes] : {std::pair("large", large_), std::pair("small", small_)}) {
    rig_.expect(name, bytes);
    const uint64_t before = reads();
    for (const uint32_t at : {0u, 1u, 65'536u, 100'000u, 699'999u}) {
      if (at >= bytes.size()) continue;
      ASSERT_EQ(rig_.get_unit(name, at, 70'000, out), Status::kOk);
      EXPECT_TRUE(out == bytes.substr(at, 70'000)) << name << " at " << at;
    }
    EXPECT_EQ(reads(), before) << name;
  }
}

TEST_F(TierRead, ARangeComesInWithItsWholeRecordWhenItIsReadAgain) {
  std::string out;
  ASSERT_EQ(rig_.get_unit("large", 100'000, 1000, out), Status::kOk);
  EXPECT_EQ(counters().tier_bytes, 0u);
  ASSERT_EQ(rig_.get_unit("large", 300'000, 1000, out), Status::kOk);
  EXPECT_TRUE(out == large_.substr(300'000, 1000));
  const uint64_t before = reads();
  rig_.expect("large", large_);
  EXPECT_EQ(reads(), before);
}

TEST_F(TierRead, GetsOfOneRecordShareOneRead) {
  hold_reads();
  const uint64_t before = reads();
  std::list<PendingGet> gets;
  for (int i = 0; i < 5; ++i) gets.emplace_back(rig_, "large", 0, kLarge, i == 3);
  gets.emplace_back(rig_, "large", 70'000, 1000);
  let_go();
  EXPECT_EQ(reads(), before + 1);
  EXPECT_EQ(counters().tier_shared, 5u);
  for (PendingGet& get : gets) {
    ASSERT_EQ(get.done, 1);
    ASSERT_EQ(get.op.status, Status::kOk);
    EXPECT_TRUE(get.bytes() == large_.substr(get.op.offset, get.op.length));
    rig_.check_sums(get.op, "large", get.op.offset);
    rig_.store().release(get.op);
  }
}

TEST_F(TierRead, WhoSharesAReadThatFailsIsBusyAndThenMisses) {
  hold_reads();
  PendingGet first(rig_, "large", 0, kLarge), second(rig_, "large", 0, kLarge);
  rig_.device(0).fail_reads(0, ~uint64_t{0});
  settle();
  let_go();
  EXPECT_EQ(first.op.status, Status::kMiss);
  EXPECT_TRUE(first.op.dropped);
  EXPECT_EQ(second.op.status, Status::kBusy);
  PendingGet third(rig_, "large", 0, kLarge);
  settle();
  EXPECT_EQ(third.op.status, Status::kMiss);
}

TEST_F(TierRead, WhatWasReplacedIsNeverReadAgain) {
  rig_.expect("large", large_);
  rig_.expect("large", large_);
  const std::string second = bytes_of("large", 2, kLarge);
  ASSERT_EQ(rig_.put("large", second), Status::kOk);
  rig_.expect("large", second);
  rig_.expect("large", second);
  std::string third = second;
  third.replace(1000, 5, "patch");
  ASSERT_EQ(rig_.write("large", 1000, "patch"), Status::kOk);
  rig_.expect("large", third);
  ASSERT_EQ(rig_.remove("large"), Status::kOk);
  std::string out;
  EXPECT_EQ(rig_.get("large", out), Status::kMiss);
}

TEST_F(TierRead, AFlushedBlockIsAMiss) {
  rig_.expect("large", large_);
  FlushOp op;
  op.namespace_id = kNamespace;
  ASSERT_EQ(rig_.run(op, [&] { rig_.store().flush_namespace(op); }), Status::kOk);
  std::string out;
  EXPECT_EQ(rig_.get("large", out), Status::kMiss);
}

TEST_F(TierRead, WhileAPutIsUnderWayTheVersionBeforeIsRead) {
  rig_.expect("large", large_);
  rig_.device(0).set_gate([](const auto& op) { return op.kind == io::FaultyDevice::OpKind::kWrite; });
  PendingPut put(rig_, "large", 2, kLarge);
  rig_.expect("large", large_);
  EXPECT_FALSE(put.acknowledged());
  let_go();
  ASSERT_TRUE(put.acknowledged());
  rig_.expect("large", put.bytes);
}

TEST_F(TierRead, BytesStayWhileTheyAreHeld) {
  PendingGet get(rig_, "large", 0, kLarge);
  settle();
  ASSERT_EQ(get.op.status, Status::kOk);
  EXPECT_EQ(rig_.remove("large"), Status::kOk);
  scan(40);  // more than the tier holds
  EXPECT_GT(counters().tier_evictions, 20u);
  EXPECT_TRUE(get.bytes() == large_);
  rig_.store().release(get.op);
}

TEST_F(TierRead, WhatIsReadOftenOutlivesAScan) {
  for (int i = 0; i < 2; ++i) rig_.expect("large", large_);
  scan(40);
  const uint64_t before = reads();
  rig_.expect("large", large_);
  EXPECT_EQ(reads(), before);
}

TEST_F(TierRead, WhereNothingFitsAGetTakesItsOwnBuffer) {
  std::list<PendingGet> held;
  scan(20);
  for (int i = 0; i < 20; ++i) {
    held.emplace_back(rig_, "scan" + std::to_string(i), 0, 1'000'000);
    settle();
    ASSERT_EQ(held.back().op.status, Status::kOk);
    EXPECT_TRUE(held.back().bytes() == bytes_of(held.back().key, 1, 1'000'000));
  }
  const auto outside =
      std::count_if(held.begin(), held.end(), [](const auto& get) { return get.op.buffer != nullptr; });
  EXPECT_EQ(outside, 4);  // 16 of 1 MB are in the tier, and held
  for (PendingGet& get : held) rig_.store().release(get.op);
}

TEST_F(TierRead, DamageInMemoryIsReadAgainFromTheDrive) {
  PendingGet get(rig_, "large", 0, kLarge);
  settle();
  const_cast<std::byte*>(get.op.data)[100] ^= std::byte{1};
  rig_.store().release(get.op);
  PendingGet ranged(rig_, "large", 50, 100);  // an edge is verified
  settle();
  EXPECT_EQ(ranged.op.status, Status::kBusy);
  rig_.expect("large", large_);
  EXPECT_EQ(counters().dropped_corrupt, 0u);
}

TEST_F(TierRead, WhatIsSuspectedIsReadAgainFromTheDrive) {
  PendingGet get(rig_, "large", 0, kLarge);
  settle();
  const_cast<std::byte*>(get.op.data)[100] ^= std::byte{1};
  rig_.store().release(get.op);
  const std::string name = "large";
  RemoveOp op;
  op.key = rig_.key(name);
  EXPECT_EQ(rig_.run(op, [&] { rig_.store().suspect(op, 0); }), Status::kOk);
  rig_.expect("large", large_);
}

TEST_F(TierRead, ChunksOfALargeBlockAreThere) {
  const std::string bytes = bytes_of("huge", 1, 5 * kMi);
  ASSERT_EQ(rig_.put_large("huge", bytes), Status::kOk);
  rig_.expect("huge", bytes);
  const uint64_t before = reads();
  rig_.expect("huge", bytes);
  EXPECT_EQ(reads(), before);
}

TEST_F(TierRead, WithoutATierEachGetReadsTheDrive) {
  rig_.tier_bytes = 0;
  rig_.reopen();
  EXPECT_TRUE(rig_.store().tier_memory().empty());
  for (int i = 0; i < 3; ++i) {
    const uint64_t before = reads();
    rig_.expect("large", large_);
    EXPECT_GT(reads(), before);
  }
}

}  // namespace
}  // namespace memkv::engine
