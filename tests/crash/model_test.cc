#include "tests/crash/model.h"

#include <gtest/gtest.h>

#include "tests/support/pattern.h"

namespace memkv::test {
namespace {

constexpr Rules kStrict{.ordered = true, .may_miss = false};

Change put(uint64_t version, uint64_t bytes = 100) { return {ChangeKind::kPut, 0, version, 0, bytes}; }
Change removal(uint64_t version) { return {ChangeKind::kRemove, 0, version, 0, 0}; }

void change(BlockModel& block, const Change& change, Status status, const Rules& rules = kStrict) {
  block.begun(change);
  block.ended(status, rules);
}

/// Checks the answer to a get of `bytes` when the whole block is of `version`.
Finding check(BlockModel& block, uint64_t version, uint64_t bytes = 100, const Rules& rules = kStrict) {
  const auto data = pattern(block.name(), version, bytes);
  return block.check({true, data.data(), bytes}, rules);
}
Finding check_miss(BlockModel& block, const Rules& rules = kStrict) { return block.check({}, rules); }

BlockModel block_of(const std::vector<std::pair<Change, Status>>& changes, const Rules& rules = kStrict) {
  BlockModel block("block");
  for (const auto& [c, status] : changes) change(block, c, status, rules);
  block.at_rest();
  return block;
}

TEST(TortureModel, an_acknowledged_put_must_be_there_and_no_older_one) {
  auto block = block_of({{put(1), Status::kOk}, {put(2), Status::kOk}});
  EXPECT_EQ(check(block, 2), Finding::kAllowed);
  EXPECT_EQ(check(block, 1), Finding::kOld);
  EXPECT_EQ(check_miss(block), Finding::kLost);
  EXPECT_EQ(check(block, 7), Finding::kWrong);
}

TEST(TortureModel, a_removed_block_stays_removed) {
  auto block = block_of({{put(1), Status::kOk}, {removal(2), Status::kOk}});
  EXPECT_EQ(check_miss(block), Finding::kAllowed);
  EXPECT_EQ(check(block, 1), Finding::kRevived);
}

TEST(TortureModel, a_given_up_change_may_have_happened_and_then_stays) {
  auto block = block_of({{put(1), Status::kOk}, {put(2), Status::kDeadline}});
  EXPECT_EQ(check(block, 2), Finding::kAllowed);
  EXPECT_EQ(check(block, 1), Finding::kOld);
}

TEST(TortureModel, a_change_without_an_outcome_may_have_happened) {
  BlockModel block("block");
  change(block, put(1), Status::kOk);
  block.begun(put(2));
  block.at_rest();
  EXPECT_EQ(check(block, 1), Finding::kAllowed);
}

TEST(TortureModel, a_given_up_change_never_follows_a_newer_acknowledged_one) {
  const std::vector<std::pair<Change, Status>> changes{{put(1), Status::kDeadline}, {put(2), Status::kOk}};
  auto block = block_of(changes);
  EXPECT_EQ(check(block, 1), Finding::kOld);
  constexpr Rules kUnordered{.ordered = false, .may_miss = false};
  auto unordered = block_of(changes, kUnordered);
  EXPECT_EQ(check(unordered, 1, 100, kUnordered), Finding::kAllowed);
}

TEST(TortureModel, where_blocks_may_be_missing_they_are_never_older_and_may_be_seen_again) {
  constexpr Rules kMayMiss{.ordered = true, .may_miss = true, .may_return = true};
  auto block = block_of({{put(1), Status::kOk}, {put(2), Status::kOk}}, kMayMiss);
  EXPECT_EQ(check_miss(block, kMayMiss), Finding::kAllowed);
  EXPECT_EQ(check(block, 1, 100, kMayMiss), Finding::kOld);
  EXPECT_EQ(check(block, 2, 100, kMayMiss), Finding::kAllowed);
}

TEST(TortureModel, what_damage_took_stays_away) {
  constexpr Rules kDamaged{.ordered = true, .may_miss = true};
  auto block = block_of({{put(1), Status::kOk}, {put(2), Status::kOk}});
  EXPECT_EQ(check_miss(block, kDamaged), Finding::kAllowed);
  EXPECT_EQ(check(block, 2), Finding::kOld);
  EXPECT_EQ(check_miss(block), Finding::kAllowed);
}

TEST(TortureModel, where_nothing_vouches_for_the_last_change_the_one_before_it_may_appear_once) {
  const auto older_allowed = [] {
    auto block = block_of({{put(1), Status::kOk}, {put(2), Status::kOk}, {put(3), Status::kOk}});
    block.allow_older();
    return block;
  };
  auto one = older_allowed(), two = older_allowed(), three = older_allowed();
  EXPECT_EQ(check(one, 1), Finding::kOld);
  EXPECT_EQ(check(two, 2), Finding::kAllowed);
  EXPECT_EQ(check(two, 3), Finding::kOld) << "it has gone back for good";
  EXPECT_EQ(check(three, 3), Finding::kAllowed);
  EXPECT_EQ(check(three, 2), Finding::kOld);
}

TEST(TortureModel, a_range_write_keeps_what_is_around_it) {
  auto block = block_of({{put(1), Status::kOk}, {{ChangeKind::kWrite, 0, 2, 40, 20}, Status::kOk}});
  auto data = pattern("block", 1, 100);
  fill_pattern(data.data() + 40, 20, pattern_seed("block", 2), 40);
  EXPECT_EQ(block.check({true, data.data(), 100}, kStrict), Finding::kAllowed);
  EXPECT_EQ(check(block, 1), Finding::kOld);
}

TEST(TortureModel, a_range_write_on_nothing_leaves_a_hole_that_reads_as_a_miss) {
  auto block = block_of({{{ChangeKind::kWrite, 0, 1, 40, 20}, Status::kOk}});
  EXPECT_EQ(check_miss(block), Finding::kAllowed);
}

TEST(TortureModel, refused_changes_and_puts_of_what_exists_change_nothing) {
  auto block = block_of(
      {{put(1), Status::kOk}, {put(2), Status::kRefused}, {{ChangeKind::kPutIfAbsent, 0, 3, 0, 100}, Status::kExists}});
  EXPECT_EQ(check(block, 1), Finding::kAllowed);
}

}  // namespace
}  // namespace memkv::test
