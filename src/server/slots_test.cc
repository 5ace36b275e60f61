#include "server/slots.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace memkv::server {
namespace {

TEST(Slots, HalfOfThePoolIsForWholeChunks) {
  const auto classes = slot_classes(256 * base::kMiB);
  ASSERT_EQ(classes.size(), 5u);
  const uint64_t chunks = uint64_t{classes[0].payload_bytes} * classes[0].count;
  EXPECT_GT(chunks, 120 * base::kMiB);
  EXPECT_LE(chunks, 128 * base::kMiB);
}

TEST(Slots, ASmallPoolStillHasSomeOfEachClass) {
  for (const io::SlotClass& shape : slot_classes(0)) EXPECT_GE(shape.count, 2u);
}

TEST(Slots, EachNamespaceHasTwoOfEachClassOrTheStartSaysWhy) {
  auto classes = slot_classes(64 * base::kMiB);
  const auto before = classes.front().count;
  EXPECT_EQ(give_each_two_slots(classes, 1, 64 * base::kMiB), "");
  EXPECT_EQ(classes.front().count, before) << "one namespace has all of them";
  EXPECT_EQ(give_each_two_slots(classes, 3, 64 * base::kMiB), "");
  for (const io::SlotClass& shape : classes) EXPECT_GE(shape.count, 6u);
  const std::string why = give_each_two_slots(classes, 64, 64 * base::kMiB);
  EXPECT_NE(why.find("64 namespaces"), std::string::npos) << why;
}

}  // namespace
}  // namespace memkv::server
