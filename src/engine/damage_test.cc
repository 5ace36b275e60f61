/// Recovery answers with the newest version or a miss, whichever single sector cannot be read or is wrong. The tests
/// take each kind of sector in turn, and sectors by chance.

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "engine/damage_testing.h"

namespace memkv::engine {
namespace {

enum class Damage { kFlip, kZero, kUnreadable };

const char* name_of(Damage damage) {
  return damage == Damage::kFlip ? "a bit flipped" : damage == Damage::kZero ? "zeroed" : "unreadable";
}

/// Starts on an image with this one sector damaged, then goes through more lives without the damage. Returns how many
/// blocks are misses.
size_t open_damaged(DamageRig& d, size_t drive, uint64_t offset, Damage damage, uint64_t chance) {
  d.restore();
  if (damage == Damage::kFlip)
    *(d.block(drive, offset) + chance % base::kSectorBytes) ^= std::byte{1} << (chance >> 12) % 8;
  if (damage == Damage::kZero) std::memset(d.block(drive, offset), 0, base::kSectorBytes);
  if (damage == Damage::kUnreadable)
    d.rig.before_open_ = [=](Rig& rig) { rig.device(drive).fail_reads(offset, base::kSectorBytes); };
  d.rig.open();
  const size_t lost = d.check();
  d.go_on_and_check();
  return lost;
}

/// Every kind of sector, a few of each.
class EachKind : public testing::TestWithParam<int> {};

TEST_P(EachKind, DamagedIsNewestOrMiss) {
  const int drives = GetParam();
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    DamageRig d(drives);
    d.fill(seed);
    seed == 1 ? d.rest() : d.rig.reactor().advance(50'000'000);  // for the mark, not for the anchor
    seed == 1 ? d.rig.close() : d.rig.power_cut_and_open();
    d.save();
    base::Random random(seed);
    for (auto& [kind, blocks] : d.find_blocks(0)) {
      // What stands in two places is not lost with one of them.
      const bool twice = kind == BlockOf::kAnchor || kind == BlockOf::kSegmentHeader || kind == BlockOf::kFooter ||
                         kind == BlockOf::kMark;
      for (const Damage damage : {Damage::kFlip, Damage::kZero, Damage::kUnreadable}) {
        for (int i = 0; i < 2; ++i) {
          const uint64_t offset = i == 0 ? blocks.back() : blocks[random.below(blocks.size())];
          const uint64_t chance = random.below(1 << 15);
          SCOPED_TRACE(testing::Message() << "seed " << seed << " block " << offset << " kind "
                                          << static_cast<int>(kind) << " " << name_of(damage) << " " << chance);
          const size_t lost = open_damaged(d, 0, offset, damage, chance);
          // It could as well have been an extent with changes, so the log is cut.
          const bool maybe_changes = kind == BlockOf::kMark && damage == Damage::kUnreadable;
          EXPECT_TRUE(lost <= (twice ? 0u : 5u) || maybe_changes) << lost << " are lost";
          if (testing::Test::HasFailure()) return;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Damage, EachKind, testing::Values(1, 2));

/// The last extent holds an overwrite or a remove, and nothing vouches for it yet. If a sector of it cannot be read,
/// recovery must not take it for one that was never written. (A sector that is readable but wrong there is the one
/// exception.)
TEST(CaseA2, TheLastExtentThatCannotBeReadIsNoEndOfTheLog) {
  for (const size_t size : {500u, 9'000u, 150'000u, 0u}) {  // 0 stands for a remove
    for (uint64_t block = 0; block < base::align_up(size, base::kSectorBytes) / base::kSectorBytes + 1; block += 3) {
      SCOPED_TRACE(testing::Message() << "size " << size << " block " << block << " of the last extent");
      DamageRig d(1);
      for (int i = 0; i < 10; ++i) d.put("key" + std::to_string(i), 1'000 + 300 * i);
      d.rest();
      const auto before = d.find_blocks(0)[BlockOf::kMark].back();
      size == 0 ? d.remove("key3") : d.put("key3", size);
      d.rig.power_cut();
      const uint64_t offset = before + base::kSectorBytes + block * base::kSectorBytes;
      d.rig.before_open_ = [=](Rig& rig) { rig.device(0).fail_reads(offset, base::kSectorBytes); };
      d.rig.open();
      (void)d.check();
      EXPECT_GE(d.rig.store().counters().recovered_rot, 1u);
      d.go_on_and_check();
    }
  }
}

/// More than one lost write breaks the promise. But what a start took for an empty log stays empty: a later start must
/// not take what is left of the former life for its own.
TEST(Damage, WhatAStartTookForAnEmptyLogDoesNotReturn) {
  for (int lost = 1; lost <= 4; ++lost) {
    for (int written = 1; written <= 4; ++written) {
      SCOPED_TRACE(testing::Message() << lost << " extents are lost, then " << written << " are written");
      DamageRig d(1);
      for (int i = 0; i < 8; ++i) d.put("key" + std::to_string(i), 1'000);
      d.rig.power_cut();  // before an anchor tells of any of it
      auto blocks = d.find_blocks(0);
      const uint64_t header = blocks[BlockOf::kSegmentHeader].at(0), end = blocks[BlockOf::kExtentHeader].at(lost);
      std::memset(d.block(0, header), 0, end - header);
      d.rig.open();
      EXPECT_EQ(d.check(), 8u) << "the log is empty";
      for (auto& [key, version] : d.content) version = 0;
      for (int i = 0; i < written; ++i) d.put("new" + std::to_string(i), 1'000);
      d.rig.power_cut_and_open();
      EXPECT_EQ(d.check(), 0u);
    }
  }
}

/// MEMKV_TEST_SEED runs one more seed.
TEST(Damage, ABlockByChanceIsNewestOrMiss) {
  std::vector<uint64_t> seeds = {11, 12, 13, 14};
  if (const char* more = std::getenv("MEMKV_TEST_SEED")) seeds.push_back(std::strtoull(more, nullptr, 10));
  for (const uint64_t seed : seeds) {
    base::Random random(seed);
    DamageRig d(1 + static_cast<int>(random.below(3)));
    d.fill(seed);
    d.rest();
    d.save();
    for (int i = 0; i < 10; ++i) {
      const size_t drive = random.below(d.drives());
      const uint64_t offset =
          format::kSlicesOffset +
          random.below((d.drive_bytes() - format::kSlicesOffset) / base::kSectorBytes) * base::kSectorBytes;
      const auto damage = static_cast<Damage>(random.below(3));
      const uint64_t chance = random.below(1 << 15);
      SCOPED_TRACE(testing::Message() << "seed " << seed << " drive " << drive << " block " << offset << " "
                                      << name_of(damage) << " " << chance);
      open_damaged(d, drive, offset, damage, chance);
      if (testing::Test::HasFailure()) return;
    }
  }
}

/// What was found behind a lost extent is read once more, and cannot be read then: nobody knows what follows the hole.
TEST(Damage, AnExtentBehindAHoleThatCannotBeReadAgainCutsTheLog) {
  DamageRig d(1);
  std::vector<uint64_t> extents;
  d.rig.device(0).set_gate([&](const auto& view) {
    if (view.kind == io::FaultyDevice::OpKind::kWrite && view.bytes > 200'000) extents.push_back(view.offset);
    return false;
  });
  for (int i = 0; i < 3; ++i) d.put("key" + std::to_string(i), 200'000);
  ASSERT_EQ(extents.size(), 3u);
  d.rig.power_cut();  // before a mark or an anchor could tell of them
  std::memset(d.block(0, extents[1]), 0, base::kSectorBytes);
  const uint64_t last = extents[2];
  d.rig.before_open_ = [last](Rig& rig) {
    rig.device(0).set_gate([&device = rig.device(0), last, reads = 0](const auto& view) mutable {
      const bool touches = view.offset <= last && last < view.offset + view.bytes;
      // Read ahead, found in a stretch of the segment, then by itself; the fourth read is the one that fails.
      if (view.kind == io::FaultyDevice::OpKind::kRead && touches && ++reads == 4)
        device.fail_reads(last, base::kSectorBytes);
      return false;
    });
  };
  d.rig.open();
  EXPECT_GT(d.rig.store().counters().recovered_lost, 0u);
  EXPECT_EQ(d.check(), 3u) << "what is cut is a miss";
  d.go_on_and_check();
}

}  // namespace
}  // namespace memkv::engine
