#include "client/remote/breaker.h"

#include <gtest/gtest.h>

namespace memkv::client {
namespace {

constexpr uint64_t kMs = 1'000'000;

TEST(Breaker, IsClosedUntilSomethingIsWrong) {
  const Breaker breaker;
  EXPECT_FALSE(breaker.is_open());
  EXPECT_EQ(breaker.refusal(), Status::kOk);
  EXPECT_EQ(breaker.why(), kNotUsedYet);
}

TEST(Breaker, EachProbeThatFailsMakesTheNextOneLater) {
  Breaker breaker;
  uint64_t before = 0;
  for (int i = 0; i < 10; i++) {
    breaker.open(Status::kUnavailable, "refused");
    EXPECT_GE(breaker.backoff_ns(), 100 * kMs);
    EXPECT_TRUE(breaker.backoff_ns() == std::min(2 * before, 5000 * kMs) || before == 0);
    before = breaker.backoff_ns();
  }
  EXPECT_EQ(before, 5000 * kMs);
  EXPECT_TRUE(breaker.close());
  breaker.open(Status::kUnavailable, "refused");
  EXPECT_EQ(breaker.backoff_ns(), 100 * kMs) << "a server that was back begins anew";
}

TEST(Breaker, TellsOnceWhyItIsOpen) {
  Breaker breaker;
  EXPECT_TRUE(breaker.is_news(Status::kUnavailable, "refused"));
  breaker.open(Status::kUnavailable, "refused");
  EXPECT_FALSE(breaker.is_news(Status::kUnavailable, "refused"));
  EXPECT_TRUE(breaker.is_news(Status::kUnavailable, "timed out"));
  EXPECT_TRUE(breaker.is_news(Status::kUnauthorized, "refused"));
  EXPECT_TRUE(breaker.close());
  EXPECT_FALSE(breaker.close());
  EXPECT_TRUE(breaker.why().empty());
}

TEST(Breaker, AllAddressesAreTriedFirst) {
  Breaker breaker;
  EXPECT_TRUE(breaker.tries_another(Status::kUnavailable, 3));
  EXPECT_TRUE(breaker.tries_another(Status::kUnavailable, 3));
  EXPECT_FALSE(breaker.tries_another(Status::kUnavailable, 3));
  EXPECT_TRUE(breaker.tries_another(Status::kUnavailable, 3)) << "the next round";
  breaker.on_address_works();
  EXPECT_TRUE(breaker.tries_another(Status::kUnavailable, 3));
  EXPECT_TRUE(breaker.tries_another(Status::kUnavailable, 3));
}

TEST(Breaker, ARefusalNeedsNoOtherAddressAndAProbeTriesOne) {
  Breaker breaker;
  EXPECT_FALSE(breaker.tries_another(Status::kUnauthorized, 3));
  breaker.open(Status::kUnavailable, "refused");
  EXPECT_FALSE(breaker.tries_another(Status::kUnavailable, 3));
}

TEST(Breaker, AServerThatEndsItsConnectionsAtOnceIsAskedLessOften) {
  Breaker breaker;
  uint64_t now = 1000 * kMs;
  uint64_t gap = 0;
  for (int i = 0; i < 6; i++) {
    breaker.on_lost("closed", 5 * kMs, now);
    EXPECT_GT(breaker.not_before_ns(), now);
    EXPECT_GE(breaker.not_before_ns() - now, gap);
    gap = breaker.not_before_ns() - now;
  }
  EXPECT_EQ(gap, 200 * kMs);
  breaker.on_lost("closed", 2000 * kMs, now);
  EXPECT_EQ(breaker.not_before_ns(), now) << "one that lived may be opened again at once";
  EXPECT_FALSE(breaker.is_open()) << "a lost connection alone opens nothing";
}

TEST(Breaker, AFailureBesideOpenConnectionsIsAPause) {
  Breaker breaker;
  breaker.on_failed_beside_others("timed out", 1000 * kMs);
  EXPECT_EQ(breaker.not_before_ns(), 1020 * kMs);
  EXPECT_EQ(breaker.why(), "timed out");
  EXPECT_FALSE(breaker.is_open());
}

}  // namespace
}  // namespace memkv::client
