#include "base/callback.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>

namespace memkv::base {
namespace {

TEST(Function, calls_with_arguments_and_result) {
  Function<int(int, int)> add = [](int a, int b) { return a + b; };
  EXPECT_EQ(add(2, 3), 5);
}

TEST(Function, holds_move_only_captures_and_arguments) {
  Function<int(std::unique_ptr<int>)> sum = [held = std::make_unique<int>(40)](std::unique_ptr<int> given) {
    return *held + *given;
  };
  EXPECT_EQ(sum(std::make_unique<int>(2)), 42);
}

TEST(Function, keeps_state_between_calls) {
  Function<int()> next = [n = 0]() mutable { return ++n; };
  next();
  EXPECT_EQ(next(), 2);
}

TEST(Function, destroys_captures_exactly_once) {
  auto alive = std::make_shared<int>(1);
  {
    Callback<> a = [alive] {};
    EXPECT_EQ(alive.use_count(), 2);
    Callback<> b = std::move(a);
    EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move): moved from is empty by contract
    EXPECT_EQ(alive.use_count(), 2);
    Callback<> c = [alive] {};
    EXPECT_EQ(alive.use_count(), 3);
    c = std::move(b);
    EXPECT_EQ(alive.use_count(), 2);
    c = nullptr;
    EXPECT_EQ(alive.use_count(), 1);
    EXPECT_FALSE(c);
    c = [alive] {};
  }
  EXPECT_EQ(alive.use_count(), 1);
}

TEST(Function, may_replace_itself_while_running) {
  Callback<> self;
  int runs = 0;
  self = [&] {
    ++runs;
    Callback<> last = std::move(self);
  };
  // The captures are destroyed when `last` ends; the body reads nothing after that.
  self();
  EXPECT_EQ(runs, 1);
}

TEST(Function, capacity_is_exact) {
  std::array<char, 48> filling{};
  filling[47] = 'x';
  Function<char()> full = [filling] { return filling[47]; };
  EXPECT_EQ(full(), 'x');
  Function<int(), 8> small = [value = int64_t{7}] { return static_cast<int>(value); };
  EXPECT_EQ(small(), 7);
}

TEST(FunctionDeathTest, an_empty_one_aborts) {
  Callback<> empty;
  EXPECT_DEATH(empty(), "empty callback");
}

}  // namespace
}  // namespace memkv::base
