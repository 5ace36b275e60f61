#include "memkv/error.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

namespace memkv {
namespace {

TEST(Error, every_status_has_its_own_name) {
  std::set<std::string_view> names;
  for (int value = 0; value <= 31; ++value) {
    if (value > 4 && value < 16) continue;
    names.insert(to_string(static_cast<Status>(value)));
  }
  EXPECT_EQ(names.size(), 21u);
  EXPECT_FALSE(names.contains("unnamed"));
  EXPECT_EQ(to_string(static_cast<Status>(200)), "unnamed");
}

TEST(Error, outcomes_are_not_failures) {
  EXPECT_TRUE(is_outcome(Status::kMiss));
  EXPECT_TRUE(is_failure(Status::kInvalid));
}

TEST(Result, holds_a_value_or_an_error) {
  Result<std::string> good = std::string("text");
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good, "text");
  Result<std::string> bad = Error{Status::kIo, 5, "read"};
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().sys_errno, 5);
  good = bad;
  EXPECT_FALSE(good.ok());
  EXPECT_EQ(std::move(good).value_or("other"), "other");
}

TEST(Result, carries_move_only_values) {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(7);
  Result<std::unique_ptr<int>> moved = std::move(made);
  std::unique_ptr<int> out = std::move(moved).value();
  EXPECT_EQ(*out, 7);
}

TEST(ResultDeathTest, reading_the_wrong_side_aborts) {
  Result<int> bad = Error{Status::kIo};
  EXPECT_DEATH((void)bad.value(), "");
}

}  // namespace
}  // namespace memkv
