#include "base/ids.h"

#include <gtest/gtest.h>

#include <type_traits>
#include <unordered_set>

namespace memkv::base {
namespace {

using ShardId = StrongId<struct ShardTag, uint16_t>;
using DriveId = StrongId<struct DriveTag, uint16_t>;

static_assert(!std::is_convertible_v<ShardId, DriveId>);
static_assert(!std::is_convertible_v<int, ShardId>);
static_assert(!std::is_convertible_v<ShardId, int>);
static_assert(sizeof(ShardId) == 2);

TEST(StrongId, compares_and_hashes) {
  EXPECT_EQ(ShardId(3), ShardId(3));
  EXPECT_LT(ShardId(3), ShardId(4));
  EXPECT_EQ(ShardId().value(), 0);
  std::unordered_set<ShardId> set{ShardId(1), ShardId(2), ShardId(1)};
  EXPECT_EQ(set.size(), 2u);
}

}  // namespace
}  // namespace memkv::base
