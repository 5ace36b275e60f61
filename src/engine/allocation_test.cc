/// Memory mode serves from memory that it took at start, and so does the RAM tier: the tests count what puts and gets
/// allocate. And opening a store takes little memory for each block.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "base/allocation_counter_testing.h"
#include "engine/rig_testing.h"

namespace memkv::engine {
namespace {

constexpr size_t kKeys = 100;

/// Puts and reads blocks again and again, with the test's own memory taken before. Counts what the store allocates
/// meanwhile.
class MemoryMode : public testing::TestWithParam<uint32_t> {
 protected:
  MemoryMode() {
    for (size_t i = 0; i < kKeys; ++i) names_.push_back("key" + std::to_string(i));
    for (const std::string& name : names_) keys_.push_back(rig_.key(name));
    base::grain_sums(base::as_bytes(content_), 0, sums_.data());
  }

  /// The sums do not fit the key. The store passes them on, and nobody checks them here.
  bool put(size_t i) {
    const Reservation room = rig_.store().reserve(bytes_, names_[i].size());
    if (room.data == nullptr) return false;
    std::memcpy(room.data, content_.data(), bytes_);
    PutOp op;
    op.key = keys_[i];
    op.payload = {room.data, bytes_, sums_.data()};
    return rig_.run(op, [&] { rig_.store().put(op); }) == Status::kOk;
  }

  bool get(size_t i) {
    const Lookup found = rig_.store().lookup(keys_[i], 0, bytes_, 0);
    if (found.status != Status::kOk) return false;
    ReadOp op;
    op.key = keys_[i];
    op.length = bytes_;
    const bool read = rig_.run(op, [&] { rig_.store().read(op); }) == Status::kOk;
    if (read) rig_.store().release(op);
    return read;
  }

  size_t allocations_of(size_t rounds) {
    const base::AllocationCounter counter;
    for (size_t n = 0; n < rounds; ++n) {
      for (int tries = 0; tries < 100 && !put(n % kKeys); ++tries) rig_.reactor().run_once(1'000'000);
      hits_ += get(n % kKeys) ? 1 : 0;
    }
    return counter.count();
  }

  const uint32_t bytes_ = GetParam();
  const size_t rounds_ = 600'000'000 / bytes_;  // several rounds through the log
  Rig rig_{1, 128 * kMi, true};
  const std::string content_ = std::string(bytes_, 'x');
  std::vector<uint64_t> sums_ = std::vector<uint64_t>(base::grain_count(bytes_));
  std::vector<std::string> names_;
  std::vector<BlockKey> keys_;
  size_t hits_ = 0;
};

/// The most memory that is taken at one time while a store with so many blocks is opened.
size_t opening_bytes(size_t blocks) {
  Rig rig(1, 64 * kMi);
  rig.index_entries_max = 200'000;
  rig.reopen();
  put_many(rig, blocks);
  rig.close();
  const base::AllocationCounter counter;
  rig.open();
  const size_t bytes = counter.peak_bytes();
  EXPECT_EQ(rig.store().counters().blocks, blocks);
  return bytes;
}

TEST(Opening, TakesAtMost64BytesABlock) {
  constexpr size_t kFew = 50'000, kMany = 150'000;
  const size_t few = opening_bytes(kFew), many = opening_bytes(kMany);
  EXPECT_LE(many - few, 64 * (kMany - kFew)) << "beside what it always takes: " << few << " and " << many;
}

TEST_P(MemoryMode, AnAllocationIsCounted) {
  const base::AllocationCounter counter;
  names_.push_back(std::string(100, 'k'));
  EXPECT_GT(counter.count(), 0u);
}

TEST_P(MemoryMode, PutsGetsAndReclaimAllocateNothing) {
  allocations_of(rounds_);
  hits_ = 0;
  const uint64_t reclaimed = rig_.store().counters().segments_reclaimed;
  EXPECT_EQ(allocations_of(rounds_), 0u);
  EXPECT_EQ(hits_, rounds_);
  EXPECT_GT(rig_.store().counters().segments_reclaimed, reclaimed + 2) << "reclaim was part of it";
}

class RamTier : public testing::TestWithParam<uint32_t> {};

TEST_P(RamTier, AHitAllocatesNothing) {
  Rig rig(1, 128 * kMi);
  rig.tier_bytes = 16 * kMi;
  rig.reopen();
  const std::string name = "key", bytes = bytes_of(name, 1, GetParam());
  ASSERT_EQ(rig.put(name, bytes), Status::kOk);
  rig.expect(name, bytes);
  const BlockKey key = rig.key(name);
  const auto get = [&](uint64_t offset, uint32_t length, bool verify) {
    ReadOp op;
    op.key = key;
    op.offset = offset;
    op.length = length;
    op.verify = verify;
    ASSERT_EQ(rig.store().lookup(key, offset, length, 0).buffer_bytes, 0u);
    ASSERT_EQ(rig.run(op, [&] { rig.store().read(op); }), Status::kOk);
    rig.store().release(op);
  };
  get(0, GetParam(), false);
  const base::AllocationCounter counter;
  for (int i = 0; i < 100; ++i) {
    get(0, GetParam(), i % 2 == 0);
    get(3000, 1000, i % 2 == 0);
  }
  EXPECT_EQ(counter.count(), 0u);
  EXPECT_EQ(rig.store().counters().tier_hits, 201u);
}

INSTANTIATE_TEST_SUITE_P(Sizes, RamTier, testing::Values(300'000, 4096));

INSTANTIATE_TEST_SUITE_P(Sizes, MemoryMode, testing::Values(300'000, 4096));

}  // namespace
}  // namespace memkv::engine
