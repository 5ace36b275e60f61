#include "base/poll_policy.h"

#include <gtest/gtest.h>

namespace memkv::base {
namespace {

constexpr uint64_t kUs = 1000, kMs = 1'000'000;
constexpr uint64_t kLeastNs = 50 * kUs;

/// A thread's time, and how often it lost its CPU. Each test begins at 0 switches.
struct Rig {
  Rig() { switches = 0; }
  static uint64_t told() { return switches; }

  /// A wait that ends `after_ns` after it began, polled every 2 us as long as the policy polls. How long that was.
  uint64_t wait(uint64_t after_ns) {
    policy.expect(now);
    const uint64_t began = now, end = now + after_ns;
    while (now < end && policy.polls(now)) now += 2 * kUs;
    const uint64_t polled = std::min(now - began, after_ns);
    now = std::max(now, end);
    policy.moved(now);
    return polled;
  }
  /// Polls, and has no CPU for `lost_ns` between two polls.
  void lose_cpu(uint64_t lost_ns) {
    policy.expect(now);
    ASSERT_TRUE(policy.polls(now));
    now += lost_ns;
    policy.polls(now);
  }

  /// Finds something to do at once, and does it.
  void work(uint64_t busy_ns) {
    pays();
    now += busy_ns;
    policy.moved(now);
  }
  /// A wait that begins now is polled for.
  bool pays() {
    policy.expect(now);
    return policy.polls(now);
  }

  uint64_t now = 1000 * kMs;
  PollPolicy policy{kLeastNs, &told};
  static uint64_t switches;
};
uint64_t Rig::switches = 0;

TEST(PollPolicy, polls_for_a_moment_then_sleeps) {
  Rig rig;
  rig.policy.expect(rig.now);
  EXPECT_TRUE(rig.policy.polls(rig.now));
  EXPECT_TRUE(rig.policy.polls(rig.now + kLeastNs - 1));
  EXPECT_FALSE(rig.policy.polls(rig.now + kLeastNs));
}

TEST(PollPolicy, does_not_poll_before_anything_was_expected) {
  PollPolicy policy(kLeastNs);
  EXPECT_FALSE(policy.polls(1000 * kMs));
}

TEST(PollPolicy, never_polls_where_it_must_not) {
  PollPolicy policy(0);
  for (uint64_t now = 1; now < 10 * kUs; now += kUs) {
    policy.expect(now);
    EXPECT_FALSE(policy.polls(now));
    policy.moved(now);
  }
}

TEST(PollPolicy, polls_longer_where_that_makes_a_sleep_needless) {
  Rig rig;
  EXPECT_EQ(rig.wait(150 * kUs), 50 * kUs);
  EXPECT_EQ(rig.wait(150 * kUs), 100 * kUs);
  EXPECT_EQ(rig.wait(150 * kUs), 150 * kUs);
  EXPECT_EQ(rig.wait(1 * kMs), PollPolicy::kGrowth * kLeastNs) << "no longer than that";
  EXPECT_EQ(rig.wait(1 * kMs), kLeastNs) << "a long sleep makes it short again";
}

TEST(PollPolicy, leaves_off_where_polls_find_nothing_and_begins_again_when_waits_are_short) {
  Rig rig;
  for (uint32_t i = 0; i < PollPolicy::kVainMax; i++) EXPECT_EQ(rig.wait(1 * kMs), kLeastNs);
  for (int i = 0; i < 100; i++) EXPECT_EQ(rig.wait(1 * kMs), 0u);
  EXPECT_EQ(rig.wait(30 * kUs), 0u);
  EXPECT_EQ(rig.wait(30 * kUs), 30 * kUs);
}

TEST(PollPolicy, an_idle_wait_begun_again_and_again_is_not_polled_for) {
  Rig rig;
  uint64_t polled = 0;
  for (int i = 0; i < 1000; i++) {
    rig.policy.expect(rig.now);
    const uint64_t began = rig.now;
    while (rig.policy.polls(rig.now)) rig.now += 2 * kUs;
    polled += rig.now - began;
    rig.now += kMs;
  }
  EXPECT_EQ(polled, PollPolicy::kVainMax * kLeastNs);
}

TEST(PollPolicy, a_jump_of_the_clock_between_two_polls_ends_polling) {
  Rig rig;
  rig.lose_cpu(PollPolicy::kLateNs - 1);
  EXPECT_TRUE(rig.pays());
  rig.lose_cpu(PollPolicy::kLateNs);
  EXPECT_FALSE(rig.pays());
  EXPECT_EQ(rig.wait(30 * kUs), 0u);
}

TEST(PollPolicy, work_that_takes_long_is_no_evidence) {
  Rig rig;
  for (int i = 0; i < 10; i++) rig.work(3 * kMs);
  EXPECT_TRUE(rig.pays());
}

TEST(PollPolicy, the_pause_doubles_while_tries_fail_and_is_short_again_after_calm) {
  Rig rig;
  for (uint64_t pause = PollPolicy::kPauseNsMin; pause < PollPolicy::kPauseNsMax; pause *= 2) {
    rig.lose_cpu(PollPolicy::kLateNs);
    rig.now += pause - 1;
    EXPECT_EQ(rig.wait(0), 0u);
    EXPECT_FALSE(rig.policy.polls(rig.now));
    rig.now++;
  }
  rig.lose_cpu(PollPolicy::kLateNs);
  rig.now += PollPolicy::kPauseNsMax;
  for (uint64_t calm = 0; calm < PollPolicy::kCalmNs + PollPolicy::kSampleNs; calm += 20 * kUs) {
    ASSERT_EQ(rig.wait(20 * kUs), 20 * kUs) << "tries again after the longest pause, and goes on";
  }
  rig.lose_cpu(PollPolicy::kLateNs);
  rig.now += PollPolicy::kPauseNsMin;
  EXPECT_EQ(rig.wait(20 * kUs), 20 * kUs);
}

TEST(PollPolicy, a_thread_that_loses_its_cpu_often_does_not_poll) {
  Rig rig;
  for (int i = 0; i < 1000; i++) {
    rig.wait(20 * kUs);
    if (i == 0) rig.switches += 100;  // before the first look: of a life before
  }
  rig.now += 1000 * kMs;
  rig.switches += 100;
  EXPECT_EQ(rig.wait(20 * kUs), 20 * kUs) << "in a second that is not often";
  EXPECT_TRUE(rig.pays());
  rig.switches += 1;
  rig.work(PollPolicy::kSampleNs);
  EXPECT_TRUE(rig.pays()) << "once";
  rig.switches += 2;
  rig.work(PollPolicy::kSampleNs);
  EXPECT_FALSE(rig.pays());
}

TEST(PollPolicy, evidence_during_a_pause_makes_it_last_and_not_longer_each_time) {
  Rig rig;
  rig.lose_cpu(PollPolicy::kLateNs);
  for (int i = 0; i < 10; i++) {
    rig.now += PollPolicy::kSampleNs - 1;
    rig.switches += 10;
    rig.policy.moved(rig.now);
    EXPECT_FALSE(rig.pays());
    rig.now++;
  }
  rig.now += PollPolicy::kPauseNsMin;
  EXPECT_TRUE(rig.pays());
}

}  // namespace
}  // namespace memkv::base
