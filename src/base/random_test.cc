#include "base/random.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace memkv::base {
namespace {

TEST(Random, replays_from_its_seed) {
  Random a(42), b(42), c(43);
  for (int i = 0; i < 100; ++i) {
    const uint64_t value = a.next_u64();
    EXPECT_EQ(value, b.next_u64());
    EXPECT_NE(value, c.next_u64());
  }
}

TEST(Random, splitmix64_reference_values) {  // the generator with seed 0: its state advances by the golden ratio
  EXPECT_EQ(mix64(0), 0xe220a8397b1dcdafu);
  EXPECT_EQ(mix64(0x9e3779b97f4a7c15u), 0x6e789e6aa1b965f4u);
}

TEST(Random, below_stays_below_and_reaches_all) {
  Random random(1);
  std::set<uint64_t> seen;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t value = random.below(10);
    ASSERT_LT(value, 10u);
    seen.insert(value);
  }
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_EQ(random.below(1), 0u);
  for (int i = 0; i < 100; ++i) EXPECT_LT(random.below(~uint64_t{0}), ~uint64_t{0});
}

TEST(Random, chance_is_about_right) {
  Random random(2);
  int hits = 0;
  for (int i = 0; i < 10000; ++i) hits += random.chance(1, 4);
  EXPECT_NEAR(hits, 2500, 200);
  EXPECT_FALSE(random.chance(0, 4));
  EXPECT_TRUE(random.chance(4, 4));
}

TEST(Random, fill_covers_every_size) {
  for (size_t size = 0; size < 40; ++size) {
    std::vector<std::byte> data(size + 1, std::byte{0xee});
    Random(size).fill(MutBytes(data).first(size));
    EXPECT_EQ(data[size], std::byte{0xee}) << "wrote past the end";
  }
}

TEST(OsRandom, differs_each_time) {
  std::vector<std::byte> a(1000), b(1000);
  os_random(a);
  os_random(b);
  EXPECT_NE(a, b);
}

}  // namespace
}  // namespace memkv::base
