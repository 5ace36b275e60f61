#include "base/nearest_name.h"

#include <gtest/gtest.h>

namespace memkv::base {
namespace {

constexpr std::string_view kNames[] = {"address", "auth_key", "congestion"};

TEST(NearestName, distance_counts_letters_that_are_wrong_missing_or_too_many) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("abc", "acb"), 2u) << "two that changed places are two wrong ones";
}

TEST(NearestName, there_is_always_a_nearest_one) {
  EXPECT_EQ(nearest_name("adress", kNames), "address");
  EXPECT_EQ(nearest_name("authkey", kNames), "auth_key");
  EXPECT_NE(nearest_name("something_else", kNames), "");
  EXPECT_EQ(nearest_name("word", {}), "");
  constexpr std::string_view kTwo[] = {"cat", "hat"};
  EXPECT_EQ(nearest_name("bat", kTwo), "cat") << "the first";
}

TEST(NearestName, a_likely_one_is_off_by_two_letters_or_a_third) {
  EXPECT_EQ(likely_name("adres", kNames), "address");
  EXPECT_EQ(likely_name("adre", kNames), "");
  EXPECT_EQ(likely_name("conjesdiun", kNames), "congestion") << "three of ten";
  EXPECT_EQ(likely_name("konjesdiun", kNames), "");
  EXPECT_EQ(likely_name("word", {}), "");
}

}  // namespace
}  // namespace memkv::base
