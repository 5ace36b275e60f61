#include "base/assert.h"

#include <gtest/gtest.h>

namespace {

TEST(Assert, passes_and_evaluates_once) {
  int calls = 0;
  MEMKV_ASSERT(++calls == 1);
  MEMKV_ASSERT(calls == 1, "evaluated once");
  EXPECT_EQ(calls, 1);
}

TEST(AssertDeathTest, names_place_expression_and_reason) {
  EXPECT_DEATH(MEMKV_ASSERT(1 > 2), "assert_test.cc:[0-9]+: assert failed: 1 > 2");
  EXPECT_DEATH(MEMKV_ASSERT(1 > 2, "because"), "\\(because\\)");
}

}  // namespace
