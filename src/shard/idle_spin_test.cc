#include "shard/idle_spin.h"

#include <gtest/gtest.h>

namespace memkv::shard {
namespace {

TEST(IdleSpin, PollsForAMomentAfterAnEventThenSleeps) {
  IdleSpin spin(50);
  EXPECT_FALSE(spin.polls(1000)) << "nothing has happened yet";
  spin.moved(9000);
  EXPECT_TRUE(spin.polls(9049));
  EXPECT_FALSE(spin.polls(9050));
}

TEST(IdleSpin, PollsLongerWhileSleepIsCutShort) {
  IdleSpin spin(50);
  spin.polls(0);
  spin.moved(60);  // slept for 60 only
  EXPECT_TRUE(spin.polls(159));
  EXPECT_FALSE(spin.polls(160));
  spin.moved(200);
  EXPECT_TRUE(spin.polls(399));
  EXPECT_FALSE(spin.polls(400));
  spin.moved(410);
  EXPECT_FALSE(spin.polls(610)) << "no more than four times as long";
}

TEST(IdleSpin, IsShortAgainAfterALongSleep) {
  IdleSpin spin(50);
  spin.polls(0);
  spin.moved(60);
  EXPECT_FALSE(spin.polls(1000));
  spin.moved(1200);
  EXPECT_FALSE(spin.polls(1250));
}

TEST(IdleSpin, NeverPollsOnOneCpu) {
  IdleSpin spin(0);
  spin.polls(0);
  spin.moved(1);
  EXPECT_FALSE(spin.polls(1));
}

}  // namespace
}  // namespace memkv::shard
