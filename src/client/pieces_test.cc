#include "client/pieces.h"

#include <gtest/gtest.h>

#include "base/checksum.h"
#include "base/hash.h"
#include "base/random.h"
#include "wire/messages.h"

namespace memkv::client {
namespace {

using Sums = std::array<uint64_t, wire::kSumsMax>;

/// Cuts `data` into pieces of random lengths, some of them empty.
std::vector<iovec> cut(std::vector<std::byte>& data, base::Random& random) {
  std::vector<iovec> pieces;
  for (size_t at = 0; at < data.size();) {
    const size_t bytes = std::min<size_t>(random.below(5) == 0 ? 0 : random.below(150'000), data.size() - at);
    pieces.push_back({data.data() + at, bytes});
    at += bytes;
  }
  return pieces;
}

TEST(RangeHasher, SumsDoNotDependOnPiecesNorOnHowTheBytesArrive) {
  base::Random random(20);
  for (int round = 0; round < 50; round++) {
    const auto offset = static_cast<uint32_t>(random.below(3) == 0 ? 0 : random.below(1'000'000));
    std::vector<std::byte> data(1 + random.below(1'000'000));
    random.fill(data);
    Sums expected{}, whole{}, stepwise{};
    size_t count = 0;
    for (size_t at = 0; at < data.size();) {
      const uint64_t grain = (offset + at) / base::kGrainBytes;
      const size_t bytes = std::min<size_t>((grain + 1) * base::kGrainBytes - offset - at, data.size() - at);
      expected[count++] = base::xxh3({data.data() + at, bytes}, 7 + grain);
      at += bytes;
    }
    const std::vector<iovec> pieces = cut(data, random);
    EXPECT_EQ(range_sums(pieces, offset, 7, whole.data()), count);
    EXPECT_EQ(whole, expected);
    RangeHasher hasher(offset, data.size(), 7);
    for (size_t arrived = 0; arrived < data.size();) {
      arrived = std::min<size_t>(arrived + 1 + random.below(200'000), data.size());
      hasher.hash(pieces, arrived, stepwise.data());
    }
    EXPECT_EQ(hasher.hash(pieces, data.size(), stepwise.data()), count) << "nothing is left to do";
    EXPECT_EQ(stepwise, expected) << "round " << round;
  }
}

TEST(RangeHasher, HashesOnlyWholeGrains) {
  std::vector<std::byte> data(2 * base::kGrainBytes);
  const iovec piece{data.data(), data.size()};
  Sums sums{};
  RangeHasher hasher(0, data.size(), 1);
  EXPECT_EQ(hasher.hash({&piece, 1}, base::kGrainBytes - 1, sums.data()), 0u);
  EXPECT_EQ(hasher.hash({&piece, 1}, 2 * base::kGrainBytes - 1, sums.data()), 1u);
  EXPECT_EQ(hasher.hash({&piece, 1}, 2 * base::kGrainBytes, sums.data()), 2u);
}

}  // namespace
}  // namespace memkv::client
