#include "engine/index.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <vector>

namespace memkv::engine {
namespace {

Digest random_digest(std::mt19937_64& random) { return {random(), random()}; }

TEST(Index, CountsTheEntriesOfEachNamespace) {
  Index index(10);
  Entry* const entry = index.insert({1, 2}, 3).value();
  (void)index.insert({1, 3}, 3).value();
  (void)index.insert({1, 4}, 0).value();
  EXPECT_EQ(index.size_of(3), 2u);
  EXPECT_EQ(index.size_of(0), 1u);
  EXPECT_EQ(index.size_of(4), 0u);
  index.erase(entry);
  EXPECT_EQ(index.size_of(3), 1u);
}

TEST(Index, EntryFieldsKeepTheirBits) {
  Index index(10);
  Entry* entry = index.insert({1, 2}, 9).value();
  EXPECT_EQ(entry->sequence(), 0u);
  EXPECT_EQ(entry->place(), (Place{0, 0}));
  entry->set_checksum(~uint64_t{0});
  entry->set_sequence((uint64_t{1} << 48) - 1);
  entry->set_place({63, kPlacePackMax});
  entry->set_length(7);
  entry->set_expiry_s(8);
  entry->set(kHead);
  entry->set(kHit);
  entry->set(kHit, false);
  EXPECT_EQ(entry->digest(), (Digest{1, 2}));
  EXPECT_EQ(entry->checksum(), ~uint64_t{0});
  EXPECT_EQ(entry->sequence(), (uint64_t{1} << 48) - 1);
  EXPECT_EQ(entry->place(), (Place{63, kPlacePackMax}));
  EXPECT_EQ(entry->length(), 7u);
  EXPECT_EQ(entry->expiry_s(), 8u);
  EXPECT_EQ(entry->namespace_index(), 9u);
  EXPECT_TRUE(entry->has(kHead));
  EXPECT_FALSE(entry->has(kHit));
  EXPECT_FALSE(entry->has(kChunk));
}

TEST(Index, PlaceKeepsDriveAndUnitApart) {
  Index index(1);
  Entry* entry = index.insert({1, 2}).value();
  for (const uint8_t drive : std::initializer_list<uint8_t>{0, 1, 32, 63}) {
    for (const uint64_t unit : {uint64_t{0}, uint64_t{1}, kPlacePackMax}) {
      entry->set_place({drive, unit});
      EXPECT_EQ(entry->place(), (Place{drive, unit}));
    }
  }
}

TEST(Index, RefusesBeyondItsLimitAndTakesAgainAfterAnErase) {
  Index index(3);
  for (uint64_t i = 0; i < 3; ++i) ASSERT_TRUE(index.insert({i, i}).ok());
  EXPECT_EQ(index.insert({9, 9}).error().status, Status::kNoSpace);
  index.erase(index.find({1, 1}));
  EXPECT_EQ(index.size(), 2u);
  EXPECT_TRUE(index.insert({9, 9}).ok());
  EXPECT_EQ(index.find({1, 1}), nullptr);
}

TEST(Index, TakesAtMost64BytesAnEntry) {
  for (const uint64_t entries : {100'000u, 1'000'001u}) {
    EXPECT_LE(Index(entries).bytes(), entries * 64 + 128);
  }
}

TEST(Index, ChunkDigestsDiffer) {
  std::mt19937_64 random(1);
  std::set<Digest> seen;
  for (int block = 0; block < 100; ++block) {
    const Digest digest = random_digest(random);
    seen.insert(digest);
    for (uint32_t n = 0; n < 100; ++n) seen.insert(chunk_digest(digest, n));
  }
  EXPECT_EQ(seen.size(), 100u * 101);
}

TEST(Index, WalkMeetsEachEntryOnce) {
  Index index(1000);
  std::mt19937_64 random(2);
  std::set<Digest> inside;
  for (int i = 0; i < 1000; ++i) inside.insert(index.insert(random_digest(random)).value()->digest());
  std::set<Digest> met;
  uint64_t cursor = 0;
  while (Entry* entry = index.next(cursor)) EXPECT_TRUE(met.insert(entry->digest()).second);
  EXPECT_EQ(met, inside);
}

TEST(Index, WalkThatErasesLeavesNothing) {
  Index index(1000);
  std::mt19937_64 random(3);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(index.insert(random_digest(random)).ok());
  // An entry that wraps around from the last slots to the first is found there.
  uint64_t cursor = 0;
  for (uint64_t before = cursor; Entry* entry = index.next(cursor); cursor = before) {
    before = cursor - 1;
    index.erase(entry);
  }
  EXPECT_EQ(index.size(), 0u);
}

/// Random digests out of a pool, at random load up to the limit. `crowd` puts the home of each into the last slots, so
/// that runs wrap around.
void run_against_map(uint64_t seed, bool crowd) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  constexpr uint64_t kEntries = 200;
  Index index(kEntries);
  std::map<Digest, uint64_t> model;
  std::vector<Digest> pool;
  for (int i = 0; i < 300; ++i) {
    Digest digest = random_digest(random);
    if (crowd) digest.lo |= uint64_t{0xfc} << 56;
    pool.push_back(digest);
  }
  uint64_t target = kEntries;
  for (int step = 0; step < 100'000; ++step) {
    if (step % 1000 == 0) target = random() % (kEntries + 10);
    const Digest digest = pool[random() % pool.size()];
    Entry* entry = index.find(digest);
    const auto known = model.find(digest);
    ASSERT_EQ(entry != nullptr, known != model.end());
    if (entry != nullptr) {
      ASSERT_EQ(entry->digest(), digest);
      ASSERT_EQ(entry->sequence(), known->second);
      if (model.size() > target || random() % 4 == 0) {
        index.erase(entry);
        model.erase(known);
      }
    } else if (model.size() < target) {
      const auto made = index.insert(digest);
      ASSERT_EQ(made.ok(), model.size() < kEntries);
      if (!made.ok()) continue;
      const uint64_t value = random() >> 16;
      (*made)->set_sequence(value);
      model[digest] = value;
    }
    ASSERT_EQ(index.size(), model.size());
  }
}

TEST(IndexModel, AgreesWithMap) {
  for (uint64_t seed = 1; seed <= 10; ++seed) run_against_map(seed, false);
}

TEST(IndexModel, AgreesWithMapWhereRunsWrap) {
  for (uint64_t seed = 1; seed <= 5; ++seed) run_against_map(seed, true);
}

TEST(IndexDeathTest, AssertsOnASecondInsert) {
  Index index(3);
  ASSERT_TRUE(index.insert({1, 1}).ok());
  EXPECT_DEATH((void)index.insert({1, 1}), "digest that is there");
}

}  // namespace
}  // namespace memkv::engine
