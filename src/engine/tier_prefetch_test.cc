/// Prefetches into the RAM tier: what they read, what they share, and what they leave alone.

#include <gtest/gtest.h>

#include <list>
#include <string>

#include "engine/tier_rig_testing.h"

namespace memkv::engine {
namespace {

/// A prefetch that can stay under way while the test goes on.
struct PendingPrefetch {
  PendingPrefetch(Rig& rig, const std::string& key, uint32_t chunk = 0) {
    op.digest = rig.key(key).digest;
    op.chunk = chunk;
    op.context = &done;
    op.on_done = [](StoreOp& o) { ++*static_cast<int*>(o.context); };
    rig.store().prefetch(op);
  }
  PrefetchOp op;
  int done = 0;
};

class TierPrefetch : public TierRig {
 protected:
  Status prefetch(const std::string& key, uint32_t chunk = 0) {
    PendingPrefetch pending(rig_, key, chunk);
    EXPECT_EQ(pending.done, 0) << "never inside the call";
    settle();
    EXPECT_EQ(pending.done, 1);
    return pending.op.status;
  }
  void put(const std::string& name, uint32_t bytes = 1'000'000) {
    ASSERT_EQ(rig_.put(name, bytes_of(name, 1, bytes)), Status::kOk);
  }
  void prefetch_scan(int blocks) {
    for (int i = 0; i < blocks; ++i) {
      const std::string name = "ahead" + std::to_string(i);
      if (!rig_.store().exists(rig_.key(name))) put(name);
      EXPECT_EQ(prefetch(name), Status::kOk);
    }
  }
};

TEST_F(TierPrefetch, TheGetAfterItReadsNoDrive) {
  for (const auto& [name, bytes] : {std::pair("large", large_), std::pair("small", small_)}) {
    EXPECT_EQ(prefetch(name), Status::kOk);
    const uint64_t before = reads();
    rig_.expect(name, bytes);
    EXPECT_EQ(reads(), before) << name;
  }
  EXPECT_EQ(counters().tier_prefetches, 2u);
  EXPECT_EQ(counters().tier_prefetches_used, 2u);
  EXPECT_EQ(counters().tier_hits, 2u);
  EXPECT_EQ(counters().tier_misses, 0u);
}

TEST_F(TierPrefetch, APartOfTheBlockIsServedToo) {
  ASSERT_EQ(prefetch("large"), Status::kOk);
  const uint64_t before = reads();
  std::string out;
  ASSERT_EQ(rig_.get_unit("large", 100'000, 1000, out), Status::kOk);
  EXPECT_TRUE(out == large_.substr(100'000, 1000));
  EXPECT_EQ(reads(), before);
}

TEST_F(TierPrefetch, WhatIsThereIsNotReadAgain) {
  rig_.expect("large", large_);
  const uint64_t before = reads();
  EXPECT_EQ(prefetch("large"), Status::kOk);
  EXPECT_EQ(prefetch("large"), Status::kOk);
  EXPECT_EQ(reads(), before);
  EXPECT_EQ(counters().tier_prefetches, 0u);
}

TEST_F(TierPrefetch, ChunksOfALargeBlockComeOneByOne) {
  const std::string bytes = bytes_of("huge", 1, 5 * kMi);
  ASSERT_EQ(rig_.put_large("huge", bytes), Status::kOk);
  for (uint32_t chunk = 0; chunk < 3; ++chunk) EXPECT_EQ(prefetch("huge", chunk), Status::kOk);
  EXPECT_EQ(prefetch("huge", 3), Status::kMiss);
  const uint64_t before = reads();
  rig_.expect("huge", bytes);
  EXPECT_EQ(reads(), before);
}

TEST_F(TierPrefetch, WhatIsNotThereIsAMiss) {
  EXPECT_EQ(prefetch("nobody"), Status::kMiss);
  EXPECT_EQ(prefetch("large", 1), Status::kMiss);
  ASSERT_EQ(rig_.remove("large"), Status::kOk);
  EXPECT_EQ(prefetch("large"), Status::kMiss);
}

TEST_F(TierPrefetch, GetsThatComeMeanwhileShareItsRead) {
  hold_reads();
  const uint64_t before = reads();
  PendingPrefetch first(rig_, "large");
  std::list<PendingGet> gets;
  for (int i = 0; i < 3; ++i) gets.emplace_back(rig_, "large", 0, kLarge);
  gets.emplace_back(rig_, "large", 70'000, 1000);
  PendingPrefetch second(rig_, "large");
  let_go();
  EXPECT_EQ(reads(), before + 1);
  EXPECT_EQ(first.op.status, Status::kOk);
  EXPECT_EQ(second.op.status, Status::kOk);
  for (PendingGet& get : gets) {
    ASSERT_EQ(get.op.status, Status::kOk);
    EXPECT_TRUE(get.bytes() == large_.substr(get.op.offset, get.op.length));
    rig_.store().release(get.op);
  }
  EXPECT_EQ(counters().tier_prefetches_used, 1u);
}

TEST_F(TierPrefetch, ItSharesTheReadOfAGet) {
  hold_reads();
  const uint64_t before = reads();
  PendingGet get(rig_, "large", 0, kLarge);
  PendingPrefetch prefetch(rig_, "large");
  settle();
  EXPECT_EQ(prefetch.done, 1) << "it waits for nothing";
  let_go();
  EXPECT_EQ(reads(), before + 1);
  rig_.store().release(get.op);
}

TEST_F(TierPrefetch, AReadThatFailsSaysNothingOfTheBlock) {
  hold_reads();
  PendingPrefetch prefetch(rig_, "large");
  PendingGet get(rig_, "large", 0, kLarge);
  rig_.device(0).fail_reads(0, ~uint64_t{0});
  settle();
  let_go();
  EXPECT_EQ(prefetch.op.status, Status::kIo);
  EXPECT_EQ(get.op.status, Status::kBusy);
  EXPECT_TRUE(rig_.store().exists(rig_.key("large")));
  rig_.device(0).heal();
  rig_.expect("large", large_);
}

TEST_F(TierPrefetch, WhatIsReplacedMeanwhileIsNeverServed) {
  hold_reads();
  PendingPrefetch prefetch(rig_, "large");
  const std::string second = bytes_of("large", 2, kLarge);
  ASSERT_EQ(rig_.put("large", second), Status::kOk);
  let_go();
  rig_.expect("large", second);
  rig_.expect("large", second);
}

/// Blocks that are read again and again stay, however much is prefetched and never read.
TEST_F(TierPrefetch, AScanOfPrefetchesLeavesHotBlocks) {
  for (int i = 0; i < 2; ++i) rig_.expect("large", large_);
  for (int round = 0; round < 3; ++round) prefetch_scan(40);
  const uint64_t before = reads();
  rig_.expect("large", large_);
  EXPECT_EQ(reads(), before);
  EXPECT_GT(counters().tier_prefetches_wasted, 80u);
}

/// A prefetch and its get are one use, not two: a scan of such pairs stays in the first queue.
TEST_F(TierPrefetch, APrefetchAndItsGetAreOneUse) {
  for (int i = 0; i < 2; ++i) rig_.expect("large", large_);
  for (int i = 0; i < 40; ++i) {
    const std::string name = "pair" + std::to_string(i);
    put(name);
    ASSERT_EQ(prefetch(name), Status::kOk);
    rig_.expect(name, bytes_of(name, 1, 1'000'000));
  }
  const uint64_t before = reads();
  rig_.expect("large", large_);
  EXPECT_EQ(reads(), before);
  rig_.expect("pair0", bytes_of("pair0", 1, 1'000'000));
  EXPECT_EQ(reads(), before + 1) << "it left";
}

TEST_F(TierPrefetch, ItPinsNothing) {
  ASSERT_EQ(prefetch("large"), Status::kOk);
  EXPECT_EQ(rig_.store().ops_in_flight(), 0u);
  prefetch_scan(40);
  EXPECT_GT(counters().tier_prefetches_wasted, 20u);
}

/// All of the tier is held by gets whose bytes have not left: there is no room for a hint.
TEST_F(TierPrefetch, WhereNothingFitsItIsRefused) {
  std::list<PendingGet> held;
  for (int i = 0; i < 16; ++i) {
    const std::string name = "held" + std::to_string(i);
    put(name);
    held.emplace_back(rig_, name, 0, 1'000'000);
    settle();
  }
  const uint64_t before = reads();
  EXPECT_EQ(prefetch("large"), Status::kRefused);
  EXPECT_EQ(reads(), before);
  for (PendingGet& get : held) rig_.store().release(get.op);
  EXPECT_EQ(prefetch("large"), Status::kOk);
}

TEST_F(TierPrefetch, WithoutATierNothingIsRead) {
  rig_.tier_bytes = 0;
  rig_.reopen();
  const uint64_t before = reads();
  EXPECT_EQ(prefetch("large"), Status::kRefused);
  EXPECT_EQ(prefetch("nobody"), Status::kMiss);
  EXPECT_EQ(reads(), before);
}

TEST_F(TierPrefetch, ABlockWithHolesIsLeftAlone) {
  ASSERT_EQ(rig_.write("holes", 1000, "in the middle"), Status::kOk);
  EXPECT_EQ(prefetch("holes"), Status::kRefused);
}

}  // namespace
}  // namespace memkv::engine
