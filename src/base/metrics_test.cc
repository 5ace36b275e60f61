#include "base/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "base/random.h"

namespace memkv::base {
namespace {

TEST(Counter, adds) {
  Counter counter;
  counter.add();
  counter.add(41);
  EXPECT_EQ(counter.value(), 42u);
}

TEST(Histogram, without_records_all_is_zero) {
  Histogram histogram;
  EXPECT_EQ(histogram.percentile_ns(50), 0u);
}

TEST(Histogram, one_value_is_known_to_three_percent) {
  for (uint64_t value = 1; value <= Histogram::kValueMax; value = value * 3 / 2 + 1) {
    Histogram histogram;
    histogram.record(value);
    histogram.record(Histogram::kValueMax);  // or the maximum would hide the bucket's width
    const double seen = static_cast<double>(histogram.percentile_ns(50));
    EXPECT_GE(seen, static_cast<double>(value));
    EXPECT_LE(seen, static_cast<double>(value) * 1.032) << value;
  }
}

TEST(Histogram, percentiles_follow_the_sorted_values) {
  Random random(3);
  Histogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 20000; ++i) {
    const uint64_t value = 1000 + random.below(1000) * random.below(1000) * random.below(100);
    values.push_back(value);
    histogram.record(value);
  }
  std::sort(values.begin(), values.end());
  for (double percent : {1.0, 50.0, 90.0, 99.0, 99.9}) {
    const double exact = static_cast<double>(values[static_cast<size_t>(percent / 100 * 20000) - 1]);
    EXPECT_NEAR(static_cast<double>(histogram.percentile_ns(percent)), exact, exact * 0.033) << percent;
  }
  EXPECT_EQ(histogram.percentile_ns(100), values.back());
  EXPECT_EQ(histogram.max_ns(), values.back());
}

TEST(Histogram, too_long_counts_as_the_longest) {
  Histogram histogram;
  histogram.record(~uint64_t{0});
  EXPECT_EQ(histogram.max_ns(), Histogram::kValueMax);
  EXPECT_EQ(histogram.count(), 1u);
}

TEST(Histogram, merge_adds_and_reset_forgets) {
  Histogram a, b;
  a.record(100);
  b.record(200);
  b.record(300);
  a.merge(b);
  EXPECT_EQ(a.count(), 3u);
  EXPECT_EQ(a.sum_ns(), 600u);
  EXPECT_EQ(a.max_ns(), 300u);
  a.reset();
  EXPECT_EQ(a.count(), 0u);
  EXPECT_EQ(a.percentile_ns(99), 0u);
}

TEST(MetricsThreads, many_writers_lose_nothing) {
  Counter counter;
  Histogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (uint64_t i = 0; i < 10000; ++i) {
        counter.add();
        histogram.record(i);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 40000u);
  EXPECT_EQ(histogram.count(), 40000u);
  EXPECT_EQ(histogram.max_ns(), 9999u);
}

}  // namespace
}  // namespace memkv::base
