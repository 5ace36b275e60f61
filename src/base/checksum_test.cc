#include "base/checksum.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/hash.h"
#include "base/random.h"

namespace memkv::base {
namespace {

std::vector<std::byte> random_bytes(size_t size) {
  std::vector<std::byte> data(size);
  Random(size).fill(data);
  return data;
}

TEST(Checksum, grain_count_rounds_up) {
  EXPECT_EQ(grain_count(0), 0u);
  EXPECT_EQ(grain_count(1), 1u);
  EXPECT_EQ(grain_count(65536), 1u);
  EXPECT_EQ(grain_count(65537), 2u);
  EXPECT_EQ(grain_count(kChunkBytes), kGrainsPerChunk);
}

TEST(Checksum, each_grain_has_its_own_seed) {
  const std::vector<std::byte> zeros(3 * kGrainBytes + 5);
  uint64_t sums[4];
  grain_sums(zeros, 100, sums);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(sums[i], xxh3(Bytes(zeros).first(kGrainBytes), 100 + i));
  EXPECT_EQ(sums[3], xxh3(Bytes(zeros).first(5), 103));
  EXPECT_NE(sums[0], sums[1]);
}

TEST(Checksum, chunk_checksum_is_over_sums_then_length) {
  const auto data = random_bytes(70000);
  uint64_t sums[2];
  grain_sums(data, 9, sums);
  std::byte words[24];
  store_u64(words, sums[0]);
  store_u64(words + 8, sums[1]);
  store_u64(words + 16, 70000);
  EXPECT_EQ(chunk_checksum(sums, 2, 70000, 9), xxh3(Bytes(words), 9));
  EXPECT_EQ(chunk_checksum_of(data, 9), xxh3(Bytes(words), 9));
}

TEST(Checksum, one_grain_follows_the_same_rule) {
  const auto data = random_bytes(100);
  const uint64_t sum = xxh3(data, 9);
  EXPECT_EQ(chunk_checksum_of(data, 9), chunk_checksum(&sum, 1, 100, 9));
  EXPECT_NE(chunk_checksum_of(data, 9), sum);
}

TEST(Checksum, no_bytes_still_depend_on_the_seed) { EXPECT_NE(chunk_checksum_of({}, 1), chunk_checksum_of({}, 2)); }

TEST(Checksum, golden) {  // stands on drives and on the wire: must never change
  std::vector<std::byte> data(100000);
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7);
  EXPECT_EQ(chunk_checksum_of(data, 0x1122334455667788u), 0xd22e62701d1386cu);
}

TEST(ChecksumDeathTest, sums_must_match_the_length) {
  const uint64_t sums[2] = {};
  EXPECT_DEATH((void)chunk_checksum(sums, 2, 100, 0), "grain_count");
}

}  // namespace
}  // namespace memkv::base
