#include "base/hash.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <string_view>
#include <vector>

#include "base/hash_kernel.h"
#include "base/random.h"

namespace memkv::base {
namespace {

std::vector<std::byte> random_bytes(size_t size, uint64_t seed) {
  std::vector<std::byte> data(size);
  Random(seed).fill(data);
  return data;
}

const size_t kSizes[] = {0,   1,   3,   4,   8,    9,    16,   17,    64,    128,   129,   240,    241,
                         255, 256, 257, 512, 1023, 1024, 1025, 16383, 16384, 16385, 65536, 100001, 2097152};
const uint64_t kSeeds[] = {0, 1, 0x9E3779B185EBCA87u, ~uint64_t{0}};

std::vector<const HashKernel*> usable_kernels() {
  std::vector<const HashKernel*> kernels{&kHashKernelV2};
  const std::string_view best = hash_isa();
  if (best != "v2") kernels.push_back(&kHashKernelAvx2);
  if (best == "avx512") kernels.push_back(&kHashKernelAvx512);
  return kernels;
}

TEST(Hash, known_value_never_changes) {
  EXPECT_EQ(xxh3({}, 0), 0x2d06800538d394c2u);  // the value that xxHash documents for no bytes
}

TEST(Hash, every_kernel_equals_the_library) {
  const auto data = random_bytes(2097152, 1);
  for (const HashKernel* kernel : usable_kernels()) {
    for (size_t size : kSizes) {
      for (uint64_t seed : kSeeds) {
        const uint64_t expected = XXH3_64bits_withSeed(data.data(), size, seed);
        EXPECT_EQ(kernel->hash(data.data(), size, seed), expected) << kernel->isa << " size " << size;
        std::vector<std::byte> copy(size);
        EXPECT_EQ(kernel->copy(copy.data(), data.data(), size, seed), expected) << kernel->isa << " size " << size;
        EXPECT_TRUE(std::equal(copy.begin(), copy.end(), data.begin()));
      }
    }
  }
}

TEST(Hash, unaligned_input) {
  const auto data = random_bytes(70000, 2);
  for (size_t shift = 0; shift < 65; ++shift) {
    const Bytes part = Bytes(data).subspan(shift, 65536);
    EXPECT_EQ(xxh3(part, 7), XXH3_64bits_withSeed(part.data(), part.size(), 7));
  }
}

TEST(Xxh3Stream, pieces_give_the_same_as_the_whole) {
  const auto data = random_bytes(100000, 3);
  Random random(4);
  for (uint64_t seed : kSeeds) {
    Xxh3Stream stream(seed);
    size_t at = 0;
    while (at < data.size()) {
      const size_t piece = std::min<size_t>(data.size() - at, random.below(3000));
      stream.update(Bytes(data).subspan(at, piece));
      at += piece;
      EXPECT_EQ(stream.digest(), xxh3(Bytes(data).first(at), seed));
    }
  }
}

TEST(Xxh3Stream, reset_forgets_all) {
  Xxh3Stream stream(5);
  stream.update(as_bytes(std::string_view("something")));
  stream.reset(9);
  stream.update(as_bytes(std::string_view("abc")));
  EXPECT_EQ(stream.digest(), xxh3(as_bytes(std::string_view("abc")), 9));
  stream.reset(0);
  EXPECT_EQ(stream.digest(), xxh3({}, 0));
}

}  // namespace
}  // namespace memkv::base
