/// The RAM tier's parts by themselves: its room, its memories, and how its policy does beside an LRU.

#include "engine/tier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/random.h"
#include "engine/tier_replay_testing.h"

namespace memkv::engine {
namespace {

TEST(TierRoom, RunsNeverOverlapAndComeBackWhole) {
  constexpr uint32_t kSectors = 4096;
  TierRoom room(kSectors);
  base::Random random(1);
  std::map<uint32_t, uint32_t> taken;  // first -> sectors
  uint32_t used = 0, refused = 0;
  for (int i = 0; i < 200'000; ++i) {
    if (!taken.empty() && random.chance(1, 2)) {
      const auto it = std::next(taken.begin(), static_cast<long>(random.below(taken.size())));
      room.give(it->first);
      used -= it->second;
      taken.erase(it);
    } else {
      const auto sectors =
          static_cast<uint32_t>(random.chance(1, 2) ? random.between(1, 17) : random.between(1, kTierRunMax));
      const bool fits = room.fits(sectors);
      const uint32_t first = room.take(sectors);
      ASSERT_EQ(fits, first != TierRoom::kNone);
      if (!fits) {
        ++refused;
        continue;
      }
      const auto next = taken.lower_bound(first);
      ASSERT_TRUE(next == taken.end() || first + sectors <= next->first);
      ASSERT_TRUE(next == taken.begin() || std::prev(next)->first + std::prev(next)->second <= first);
      ASSERT_LE(first + sectors, kSectors);
      taken[first] = sectors;
      used += sectors;
    }
    ASSERT_EQ(room.used(), used);
  }
  EXPECT_GT(refused, 100u);
  for (const auto& [first, sectors] : taken) room.give(first);
  std::vector<uint32_t> all;  // what came back has joined: all of it can be taken in the longest runs
  for (uint32_t i = 0; i < kSectors / kTierRunMax; ++i) all.push_back(room.take(kTierRunMax));
  EXPECT_EQ(std::count(all.begin(), all.end(), TierRoom::kNone), 0);
}

TEST(TierMemories, WhatIsOldIsForgotten) {
  TierMemories memories(1000);
  const auto name = [](uint64_t i) { return i * 0x9e3779b97f4a7c15; };
  for (uint64_t i = 1; i <= 300; ++i) memories.add(name(i));
  EXPECT_TRUE(memories.has(name(300), 100));
  EXPECT_TRUE(memories.has(name(210), 100));
  EXPECT_FALSE(memories.has(name(200), 100));
  EXPECT_FALSE(memories.has(name(301), 100));
  EXPECT_TRUE(memories.take(name(250), 100));
  EXPECT_FALSE(memories.take(name(250), 100));
}

/// Conversations that grow, each turn reads all that was said before; some shared beginnings; and from time to time
/// somebody reads a long text once or twice. Shaped after the public traces of Mooncake (FAST '25).
class Conversations {
 public:
  explicit Conversations(uint64_t seed) : random_(seed) {}
  void turn(TierReplay& replay) {
    if (random_.chance(1, 60)) return read_long_text(replay);
    std::vector<uint64_t>& blocks = choose();
    for (const uint64_t id : blocks) replay.access(id);
    for (uint64_t n = random_.between(1, 6); n > 0; --n) {
      blocks.push_back(next_++);
      replay.access(blocks.back());
    }
  }

 private:
  std::vector<uint64_t>& choose() {
    const bool fresh = talks_.size() < 10 || random_.chance(1, 4);
    if (!fresh)
      return talks_[talks_.size() - 1 -
                    random_.below(std::min<size_t>(talks_.size(), random_.chance(1, 2) ? 10 : 150))];
    std::vector<uint64_t>& talk = talks_.emplace_back();
    const uint64_t beginning = random_.below(8);
    for (uint64_t i = 0; i < 5 + beginning * 3; ++i) talk.push_back(1'000'000'000 + beginning * 1000 + i);
    return talk;
  }
  void read_long_text(TierReplay& replay) {
    for (uint64_t i = 0; i < 1500; ++i) replay.access(next_ + i);
    if (random_.chance(3, 4)) {
      for (uint64_t i = 0; i < 1500; ++i) replay.access(next_ + i);
    }
    next_ += 1500;
  }

  base::Random random_;
  std::vector<std::vector<uint64_t>> talks_;
  uint64_t next_ = 1;
};

TEST(Tier, HitsAsOftenAsAnLruOfItsSize) {
  for (const size_t blocks : {1100, 2000, 4000}) {
    TierReplay replay(blocks);
    Conversations conversations(blocks);
    for (int i = 0; i < 6000; ++i) conversations.turn(replay);
    EXPECT_GE(replay.hit_rate(), replay.lru_hit_rate()) << blocks << " blocks";
    EXPECT_GT(replay.hit_rate(), 0.2) << blocks << " blocks";
  }
}

/// One tenant reads its blocks again and again, and then another one scans: the first one's blocks stay.
TEST(Tier, AScanLeavesHotBlocks) {
  constexpr uint64_t kHot = 800, kScanned = 5;  // for each get of a hot block
  TierReplay replay(2000);
  for (uint64_t i = 0; i < 3 * kHot; ++i) replay.get(i % kHot);
  uint64_t next = 1'000'000, hot_gets = 0;
  const uint64_t hits = replay.hits(), lru_hits = replay.lru_hits();
  for (; hot_gets < 20 * kHot; ++hot_gets) {
    replay.get(hot_gets % kHot);
    for (uint64_t i = 0; i < kScanned; ++i) replay.get(next++);
  }
  EXPECT_GT(replay.hits() - hits, hot_gets * 9 / 10);
  EXPECT_LT(replay.lru_hits() - lru_hits, hot_gets / 10);
}

}  // namespace
}  // namespace memkv::engine
