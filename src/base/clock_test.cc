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

}  // namespace
}  // namespace memkv::base
