#include "base/clock.h"

#include <gtest/gtest.h>

namespace memkv::base {
namespace {

TEST(Clock, system_clock_moves_forward) {
  SystemClock clock;
  const uint64_t first = clock.now_ns();
  EXPECT_GE(clock.now_ns(), first);
  EXPECT_GT(clock.wall_s(), 1'700'000'000u);
}

TEST(Clock, manual_clock_moves_only_when_told) {
  ManualClock clock(5, 100);
  EXPECT_EQ(clock.now_ns(), 5u);
  clock.advance_ns(10);
  EXPECT_EQ(clock.now_ns(), 15u);
  EXPECT_EQ(clock.wall_s(), 100u);
  clock.advance_s(3);
  EXPECT_EQ(clock.wall_s(), 103u);
  clock.set_wall_s(7);
  clock.advance_s(1);
  EXPECT_EQ(clock.wall_s(), 8u);
}

}  // namespace
}  // namespace memkv::base
