#include "base/text.h"

#include <gmock/gmock.h>

namespace memkv::base {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(Text, TrimsWhiteSpaceAtBothEnds) {
  EXPECT_EQ(trim(" \ta b\r\n"), "a b");
  EXPECT_EQ(trim(" \t"), "");
}

TEST(Text, SplitsCommaLists) {
  EXPECT_THAT(split_list("a, b,,c ,"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(split_list(" , "), IsEmpty());
}

}  // namespace
}  // namespace memkv::base
