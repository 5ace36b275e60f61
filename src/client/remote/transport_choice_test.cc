/// How a transport is chosen: the best one that works; it is left at once when it fails, and taken again later.

#include "client/remote/transport_choice.h"

#include <gtest/gtest.h>

namespace memkv::client {
namespace {

constexpr uint64_t kMs = 1'000'000;
uint64_t longest(uint64_t, uint64_t high) { return high; }

TEST(TransportChoice, AutoTakesTheBestThatWorks) {
  TransportChoice choice(Transport::kAuto);
  EXPECT_EQ(choice.now(), Transport::kTcp);
  EXPECT_FALSE(choice.due(Transport::kShm, 1)) << "nothing is known of the server yet";
  choice.start_anew(1);
  EXPECT_TRUE(choice.due(Transport::kShm, 1));
  EXPECT_TRUE(choice.due(Transport::kRdma, 1));
  EXPECT_TRUE(choice.set_up(Transport::kRdma));
  EXPECT_EQ(choice.now(), Transport::kRdma);
  EXPECT_TRUE(choice.set_up(Transport::kShm));
  EXPECT_EQ(choice.now(), Transport::kShm);
  EXPECT_TRUE(choice.set_down(Transport::kShm, "gone", 2, longest));
  EXPECT_EQ(choice.now(), Transport::kRdma);
  EXPECT_EQ(choice.switches(), 3u);
}

TEST(TransportChoice, WhatFailedIsProbedAfterABackOffAndTakenBack) {
  TransportChoice choice(Transport::kAuto);
  choice.start_anew(0);
  choice.set_up(Transport::kShm);
  uint64_t now = 1000 * kMs, wait = 100 * kMs;
  for (int i = 0; i < 10; i++) {
    EXPECT_EQ(choice.set_down(Transport::kShm, "no socket", now, longest), i == 0);
    EXPECT_EQ(choice.now(), Transport::kTcp);
    EXPECT_FALSE(choice.due(Transport::kShm, now + wait - 1));
    EXPECT_TRUE(choice.due(Transport::kShm, now + wait));
    now += wait;
    wait = std::min(2 * wait, 5000 * kMs);
  }
  EXPECT_TRUE(choice.set_up(Transport::kShm)) << "it never latches";
  EXPECT_EQ(choice.now(), Transport::kShm);
  EXPECT_TRUE(choice.set_down(Transport::kShm, "again", now, longest));
  EXPECT_TRUE(choice.due(Transport::kShm, now + 100 * kMs)) << "a success resets the back-off";
}

TEST(TransportChoice, AnExplicitOneIsTheOnlyOne) {
  TransportChoice shm(Transport::kShm);
  shm.start_anew(5);
  EXPECT_EQ(shm.now(), Transport::kShm) << "never tcp, even while it is down";
  EXPECT_FALSE(shm.due(Transport::kRdma, 5));
  EXPECT_FALSE(shm.set_down(Transport::kShm, "no socket", 5, longest));
  EXPECT_EQ(shm.now(), Transport::kShm);
  TransportChoice tcp(Transport::kTcp);
  tcp.start_anew(5);
  EXPECT_FALSE(tcp.due(Transport::kShm, 5));
  EXPECT_FALSE(tcp.only_one_sided());
}

TEST(TransportChoice, IsUntriedUntilTheFirstProbeIsOver) {
  TransportChoice choice(Transport::kAuto);
  EXPECT_FALSE(choice.untried(Transport::kRdma)) << "nothing is known of the server yet";
  choice.start_anew(1);
  EXPECT_TRUE(choice.untried(Transport::kRdma));
  choice.set_down(Transport::kRdma, "no rail", 2, longest);
  EXPECT_FALSE(choice.untried(Transport::kRdma));
  choice.start_anew(3);
  EXPECT_TRUE(choice.untried(Transport::kRdma)) << "another server process";
  choice.set_up(Transport::kRdma);
  EXPECT_FALSE(choice.untried(Transport::kRdma));
  choice.set_down(Transport::kRdma, "gone", 4, longest);
  EXPECT_FALSE(choice.untried(Transport::kRdma));
  choice.rule_out(Transport::kRdma, "no device");
  choice.start_anew(5);
  EXPECT_FALSE(choice.untried(Transport::kRdma));
  TransportChoice tcp(Transport::kTcp);
  tcp.start_anew(1);
  EXPECT_FALSE(tcp.untried(Transport::kRdma));
}

TEST(TransportChoice, WhatIsRuledOutIsNeverProbed) {
  TransportChoice choice(Transport::kAuto);
  choice.rule_out(Transport::kRdma, "not built in");
  choice.start_anew(5);
  EXPECT_FALSE(choice.due(Transport::kRdma, UINT64_MAX - 1));
  EXPECT_TRUE(choice.due(Transport::kShm, 5));
}

TEST(TransportChoice, TellsWhy) {
  TransportChoice choice(Transport::kAuto);
  EXPECT_EQ(choice.describe(), "tcp");
  choice.set_down(Transport::kShm, "no socket", 0, longest);
  choice.set_down(Transport::kRdma, "no device", 0, longest);
  EXPECT_EQ(choice.describe(), "tcp (shm: no socket; rdma: no device)");
  choice.set_up(Transport::kShm);
  EXPECT_EQ(choice.describe(), "shm");
}

}  // namespace
}  // namespace memkv::client
