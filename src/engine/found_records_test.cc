#include "engine/found_records.h"

#include <gtest/gtest.h>

#include <map>
#include <utility>
#include <vector>

#include "base/random.h"

namespace memkv::engine {
namespace {

using Key = std::pair<uint64_t, uint64_t>;

Key key_of(Digest d) { return {d.lo, d.hi}; }

/// Few and many partitions; some digests with many records, and some that differ in their last bits only.
TEST(FoundRecords, StandByDigestAndThenAsTheyWereAdded) {
  for (const size_t count : {0, 1, 63, 64, 65, 5'000, 100'000}) {
    SCOPED_TRACE(count);
    base::Random random(count);
    FoundRecords found;
    found.expect(count);
    std::map<Key, std::vector<uint64_t>> expected;  // sequences
    for (size_t i = 0; i < count; ++i) {
      Digest digest{random(), random()};
      if (random.below(4) == 0) digest = {random.below(3) << 62, random.below(3)};
      const uint64_t sequence = 1 + random.below(uint64_t{1} << 48) / 2;
      found.add({digest, FoundRecord::Kind::kWhole, sequence, {3, i}});
      expected[key_of(digest)].push_back(sequence);
    }
    auto it = expected.begin();
    found.for_each_block([&](FoundRecords::Block records) {
      ASSERT_NE(it, expected.end());
      ASSERT_EQ(key_of(records[0]->digest()), it->first);
      std::vector<uint64_t> sequences;
      for (const FoundRecord* r : records) sequences.push_back(r->sequence());
      ASSERT_EQ(sequences, it->second);
      ++it;
    });
    EXPECT_EQ(it, expected.end());
    EXPECT_EQ(found.blocks_and_chunks(), count);
  }
}

TEST(FoundRecord, KeepsEachFieldAtItsLimit) {
  format::RecordHeader h{};
  h.digest[0] = ~uint64_t{0};
  h.digest[1] = 1;
  h.sequence = format::kSequenceMax;
  h.payload_bytes = base::kChunkBytes;
  h.checksum = ~uint64_t{0};
  h.chunk_number = ~0u;
  h.kind = format::RecordKind::kChunk;
  h.flags = format::kRecordMoved;
  h.range_count = 1;
  const FoundRecord r(h, {47, kPlacePackMax}, FoundRecord::kNamespaceMax);
  EXPECT_EQ(r.digest(), (Digest{~uint64_t{0}, 1}));
  EXPECT_EQ(r.kind(), FoundRecord::Kind::kChunk);
  EXPECT_EQ(r.sequence(), format::kSequenceMax);
  EXPECT_EQ(r.place(), (Place{47, kPlacePackMax}));
  EXPECT_EQ(r.length(), base::kChunkBytes);
  EXPECT_EQ(r.checksum(), ~uint64_t{0});
  EXPECT_EQ(r.chunk_number(), ~0u);
  EXPECT_EQ(r.namespace_number(), FoundRecord::kNamespaceMax);
  EXPECT_TRUE(r.moved() && r.has_holes());
  const FoundRecord plain({2, 3}, FoundRecord::Kind::kTombstone, 1, {0, 0});
  EXPECT_FALSE(plain.moved() || plain.has_holes() || plain.is_commit());
  EXPECT_TRUE(plain.is_tombstone());
}

}  // namespace
}  // namespace memkv::engine
