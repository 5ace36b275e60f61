#include "base/siphash.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "base/hex.h"
#include "base/random.h"

namespace memkv::base {
namespace {

constexpr SipKey kPaperKey{0x0706050403020100u, 0x0f0e0d0c0b0a0908u};

// The authors' test vectors: key 00 01 .. 0f, input 00 01 .. (size - 1).
struct Vector {
  size_t size;
  const char* out;
};
constexpr Vector kVectors[] = {
    {0, "a3817f04ba25a8e66df67214c7550293"},  {1, "da87c1d86b99af44347659119b22fc45"},
    {7, "a1f1ebbed8dbc153c0b84aa61ff08239"},  {8, "3b62a9ba6258f5610f83e264f31497b4"},
    {9, "264499060ad9baabc47f8b02bb6d71ed"},  {15, "5493e99933b0a8117e08ec0f97cfc3d9"},
    {16, "6ee2a4ca67b054bbfd3315bf85230577"}, {31, "2939b0183223fafc1723de4f52c43d35"},
    {63, "5150d1772f50834a503e069a973fbd7c"},
};

std::vector<std::byte> counting_bytes(size_t size) {
  std::vector<std::byte> data(size);
  for (size_t i = 0; i < size; ++i) data[i] = static_cast<std::byte>(i);
  return data;
}

Hash128 hash_of(Bytes data) {
  SipStream stream(kPaperKey);
  stream.update(data);
  return stream.finish128();
}

TEST(SipHash, reference_vectors) {
  for (const Vector& vector : kVectors) {
    const auto data = counting_bytes(vector.size);
    std::byte out[16];
    const Hash128 hash = hash_of(data);
    store_u64(out, hash.lo);
    store_u64(out + 8, hash.hi);
    EXPECT_EQ(hex_encode(out), vector.out) << vector.size;
  }
}

TEST(SipHash, pieces_give_the_same_as_the_whole) {
  Random random(1);
  for (size_t size = 0; size < 200; ++size) {
    std::vector<std::byte> data(size);
    random.fill(data);
    SipStream stream(kPaperKey);
    for (size_t at = 0; at < size;) {
      const size_t piece = std::min<size_t>(size - at, random.below(12));
      stream.update(Bytes(data).subspan(at, piece));
      at += piece;
    }
    EXPECT_EQ(stream.finish128(), hash_of(data));
  }
}

TEST(SipHash, hash128_orders_by_lo_then_hi) {
  EXPECT_LT((Hash128{1, 9}), (Hash128{2, 0}));
  EXPECT_LT((Hash128{1, 1}), (Hash128{1, 2}));
}

}  // namespace
}  // namespace memkv::base
