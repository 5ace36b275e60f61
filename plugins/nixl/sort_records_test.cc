#include "sort_records.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace memkv::nixl {
namespace {

/// Records that differ in a few random bytes only, as offsets and addresses do.
std::vector<SortRecord> make_records(std::mt19937_64& random) {
  const uint64_t low_bits = random() & random();
  const auto high_bits = static_cast<uint32_t>(random() & random() & random());
  std::vector<SortRecord> records(random() % 300);
  for (uint32_t i = 0; i < records.size(); ++i) {
    records[i] = {.low = random() & low_bits, .high = static_cast<uint32_t>(random()) & high_bits, .index = i};
  }
  return records;
}

std::vector<uint32_t> indices(const std::vector<SortRecord>& records) {
  std::vector<uint32_t> list;
  for (const SortRecord& record : records) list.push_back(record.index);
  return list;
}

TEST(SortRecords, sorts_as_a_stable_sort_does) {
  std::vector<SortRecord> scratch;
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    std::mt19937_64 random(seed);
    auto records = make_records(random);
    auto expected = records;
    std::stable_sort(expected.begin(), expected.end());
    const bool sorted_already = indices(expected) == indices(records);
    EXPECT_EQ(sort_records(records, scratch), !sorted_already) << "seed " << seed;
    ASSERT_EQ(indices(records), indices(expected)) << "seed " << seed;
  }
}

TEST(SortRecords, nothing_to_sort) {
  std::vector<SortRecord> records, scratch;
  EXPECT_FALSE(sort_records(records, scratch));
  records.push_back({.low = 1, .high = 2, .index = 0});
  EXPECT_FALSE(sort_records(records, scratch));
}

}  // namespace
}  // namespace memkv::nixl
