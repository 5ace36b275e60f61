#include "base/hex.h"

#include <gtest/gtest.h>

namespace memkv::base {
namespace {

TEST(Hex, there_and_back) {
  std::byte all[256], back[256];
  for (size_t i = 0; i < 256; ++i) all[i] = static_cast<std::byte>(i);
  const std::string text = hex_encode(all);
  EXPECT_EQ(text.substr(0, 6), "000102");
  EXPECT_EQ(text.substr(510), "ff");
  ASSERT_TRUE(hex_decode(text, back));
  EXPECT_TRUE(std::equal(all, all + 256, back));
}

TEST(Hex, refuses_what_is_not_exactly_hex) {
  std::byte out[2];
  EXPECT_TRUE(hex_decode("ABcd", out));
  EXPECT_EQ(out[0], std::byte{0xab});
  EXPECT_FALSE(hex_decode("abc", out));
  EXPECT_FALSE(hex_decode("abcde", out));
  EXPECT_FALSE(hex_decode("abcg", out));
  EXPECT_FALSE(hex_decode("0xab", out));
  EXPECT_FALSE(hex_decode(" abc", out));
  EXPECT_TRUE(hex_decode("", MutBytes{}));
}

}  // namespace
}  // namespace memkv::base
