/// One test for each rule of the RAM tier's policy.

#include "engine/tier_policy.h"

#include <gtest/gtest.h>

namespace memkv::engine {
namespace {

TEST(TierPolicy, WhatIsReadWholeComesIntoTheFirstQueue) {
  EXPECT_EQ(decide_entrance({.whole = true}), TierEntrance::kFirst);
}

TEST(TierPolicy, APartComesInWhenItsRecordIsReadAgain) {
  EXPECT_EQ(decide_entrance({.whole = false}), TierEntrance::kPass);
  EXPECT_EQ(decide_entrance({.whole = false, .remembered = true}), TierEntrance::kMain);
}

TEST(TierPolicy, WhatLeftTooSoonComesIntoTheMainQueue) {
  EXPECT_EQ(decide_entrance({.whole = true, .remembered = true}), TierEntrance::kMain);
}

TEST(TierPolicy, WhatNobodyReadAgainLeavesTheFirstQueueAndIsRemembered) {
  EXPECT_EQ(decide_turn({.queue = TierQueue::kFirst}), TierVerdict::kRemember);
}

TEST(TierPolicy, WhatWasReadAgainGoesToTheMainQueue) {
  EXPECT_EQ(decide_turn({.queue = TierQueue::kFirst, .reads = 1}), TierVerdict::kPromote);
}

TEST(TierPolicy, InTheMainQueueEachReadIsATurn) {
  EXPECT_EQ(decide_turn({.queue = TierQueue::kMain, .reads = 1}), TierVerdict::kStay);
  EXPECT_EQ(decide_turn({.queue = TierQueue::kMain, .reads = 0}), TierVerdict::kForget);
}

TEST(TierPolicy, WhatIsInUseStays) {
  EXPECT_EQ(decide_turn({.queue = TierQueue::kFirst, .in_use = true}), TierVerdict::kStay);
  EXPECT_EQ(decide_turn({.queue = TierQueue::kMain, .in_use = true}), TierVerdict::kStay);
}

TEST(TierPolicy, WhatAPrefetchBringsComesIntoTheFirstQueue) {
  EXPECT_EQ(decide_entrance({.whole = true, .ahead = true}), TierEntrance::kFirst);
  EXPECT_EQ(decide_entrance({.whole = true, .remembered = true, .ahead = true}), TierEntrance::kFirst);
}

TEST(TierPolicy, WhatAPrefetchBroughtAndNobodyReadIsForgotten) {
  EXPECT_EQ(decide_turn({.queue = TierQueue::kFirst, .ahead = true}), TierVerdict::kForget);
  EXPECT_EQ(decide_turn({.queue = TierQueue::kFirst, .in_use = true, .ahead = true}), TierVerdict::kStay);
}

TEST(TierPolicy, TheFirstReadOfWhatAPrefetchBroughtCountsIfItHadBeenReadBefore) {
  EXPECT_FALSE(first_read_counts(/*remembered=*/false));
  EXPECT_TRUE(first_read_counts(/*remembered=*/true));
}

TEST(TierPolicy, TheFirstQueueKeepsHalf) {
  EXPECT_EQ(queue_to_shrink(50, 50), TierQueue::kFirst);
  EXPECT_EQ(queue_to_shrink(49, 51), TierQueue::kMain);
  EXPECT_EQ(queue_to_shrink(0, 0), TierQueue::kFirst);
}

}  // namespace
}  // namespace memkv::engine
