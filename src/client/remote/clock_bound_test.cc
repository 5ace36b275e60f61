#include "client/remote/clock_bound.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace memkv::client {
namespace {

constexpr uint64_t kUs = 1000, kMs = 1'000'000, kSecond = 1'000'000'000;

/// A server whose clock has another start and runs up to 500 ppm fast or slow, as ours may. Its machine can be
/// suspended.
struct FarClock {
  int64_t start = 0;
  int64_t ppm = 0;
  uint64_t read(uint64_t now_ns) const {
    return static_cast<uint64_t>(static_cast<int64_t>(now_ns) + start + static_cast<int64_t>(now_ns) * ppm / 1'000'000);
  }
};

TEST(CaseA1ClockBound, IsEarlyByMicrosecondsOnAQuietMachine) {
  const FarClock server{.start = 77 * static_cast<int64_t>(kSecond)};
  ClockBound clock;
  const uint64_t asked = kSecond, heard = asked + 40 * kUs;
  clock.heard(server.read(asked + 25 * kUs), asked, heard);
  EXPECT_EQ(clock.on_server(heard), server.read(heard) - 15 * kUs);
  EXPECT_LE(clock.slack_ns(heard), 41 * kUs);
  EXPECT_FALSE(clock.should_ask(heard));
}

TEST(CaseA1ClockBound, IsNeverLateWhateverClocksAndDelaysDo) {
  base::Random random(20261128);
  for (int round = 0; round < 300; round++) {
    FarClock server{.start = static_cast<int64_t>(random.below(1000 * kSecond)) - static_cast<int64_t>(kSecond),
                    .ppm = static_cast<int64_t>(random.below(2001)) - 1000};
    if (round % 3 == 0) server.ppm = 0;
    ClockBound clock;
    uint64_t now = 1000 * kSecond;
    for (int step = 0; step < 200; step++) {
      const auto delay = [&] { return random.chance(1, 10) ? random.below(5 * kSecond) : random.below(200 * kUs); };
      const uint64_t asked = now, stamped = asked + delay(), heard = stamped + delay();
      clock.heard(server.read(stamped), random.chance(1, 8) ? 0 : asked, heard);
      now = heard + delay();
      ASSERT_LE(clock.on_server(now), server.read(now)) << "round " << round << " step " << step;
      ASSERT_GE(clock.on_server(now) + clock.slack_ns(now), server.read(now));
    }
  }
}

TEST(CaseA1ClockBound, OneSlowAnswerIsMendedByTheNext) {
  const FarClock server{.start = -5};
  ClockBound clock;
  clock.heard(server.read(kSecond), kSecond - kMs, 4 * kSecond);  // we slept before we read it
  EXPECT_TRUE(clock.should_ask(4 * kSecond));
  EXPECT_LE(clock.on_server(4 * kSecond), server.read(4 * kSecond) - 3 * kSecond);
  clock.on_asked(4 * kSecond);
  EXPECT_FALSE(clock.should_ask(4 * kSecond)) << "it is asked already";
  clock.heard(server.read(4 * kSecond + 10 * kUs), 4 * kSecond, 4 * kSecond + 30 * kUs);
  EXPECT_GE(clock.on_server(4 * kSecond + 30 * kUs), server.read(4 * kSecond));
  // A slow answer afterwards does not make the bound worse.
  clock.heard(server.read(5 * kSecond), 5 * kSecond - kMs, 9 * kSecond);
  EXPECT_LE(clock.slack_ns(9 * kSecond), 31 * kUs + 2 * (5 * kSecond >> ClockBound::kDriftShift));
}

TEST(CaseA1ClockBound, AClockThatStoodStillIsNoticed) {
  FarClock server{.start = 50 * static_cast<int64_t>(kSecond)};
  ClockBound clock;
  clock.heard(server.read(kSecond), kSecond - 10 * kUs, kSecond + 10 * kUs);
  server.start -= 10 * static_cast<int64_t>(kSecond);  // the server's machine was suspended
  const uint64_t now = 12 * kSecond;
  clock.heard(server.read(now - 10 * kUs), now - 20 * kUs, now);
  EXPECT_LE(clock.on_server(now), server.read(now));
  EXPECT_LE(clock.slack_ns(now), 21 * kUs);
}

TEST(CaseA1ClockBound, BearsAServerThatTellsRubbish) {
  ClockBound clock;
  for (const uint64_t rubbish : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{0}, uint64_t{7}}) {
    clock.heard(rubbish, kSecond, 2 * kSecond);
    EXPECT_LE(clock.on_server(2 * kSecond), uint64_t{1} << 61);
    EXPECT_GT(clock.slack_ns(2 * kSecond), 0u);
    clock.heard(rubbish, 0, 2 * kSecond);
  }
}

TEST(CaseA1ClockBound, IsAskedAgainWhenTheClocksMayHaveDriftedApart) {
  const FarClock server;
  ClockBound clock;
  clock.heard(server.read(kSecond), kSecond, kSecond + 20 * kUs);
  EXPECT_FALSE(clock.should_ask(kSecond + 400 * kMs));
  EXPECT_TRUE(clock.should_ask(2 * kSecond));
}

}  // namespace
}  // namespace memkv::client
