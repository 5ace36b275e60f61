#include "base/bytes.h"

#include <gtest/gtest.h>

#include <string>

namespace memkv::base {
namespace {

TEST(Bytes, stores_are_little_endian) {
  unsigned char buffer[8] = {};
  store_u64(buffer, 0x0807060504030201u);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(buffer[i], i + 1);
  store_u16(buffer, 0xbbaa);
  EXPECT_EQ(buffer[0], 0xaa);
  EXPECT_EQ(buffer[1], 0xbb);
  EXPECT_EQ(buffer[2], 3);
}

TEST(Bytes, loads_return_what_was_stored_at_odd_addresses) {
  unsigned char buffer[16] = {};
  store_u16(buffer + 1, 0x1234);
  EXPECT_EQ(load_u16(buffer + 1), 0x1234);
  store_u32(buffer + 3, 0xdeadbeef);
  EXPECT_EQ(load_u32(buffer + 3), 0xdeadbeef);
  store_u64(buffer + 5, ~uint64_t{5});
  EXPECT_EQ(load_u64(buffer + 5), ~uint64_t{5});
}

TEST(Bytes, u48_touches_six_bytes) {
  unsigned char buffer[8];
  std::memset(buffer, 0xff, sizeof buffer);
  store_u48(buffer, 0x0000112233445566u);
  EXPECT_EQ(load_u48(buffer), 0x112233445566u);
  EXPECT_EQ(buffer[6], 0xff);
}

TEST(Bytes, alignment) {
  EXPECT_EQ(align_up(0, 4096), 0u);
  EXPECT_EQ(align_up(1, 4096), 4096u);
  EXPECT_EQ(align_up(4096, 4096), 4096u);
  EXPECT_EQ(align_down(4097, 4096), 4096u);
  EXPECT_TRUE(is_aligned(8192, 4096));
  EXPECT_FALSE(is_aligned(8193, 4096));
  alignas(64) char buffer[128];
  EXPECT_TRUE(is_aligned(buffer, 64));
  EXPECT_FALSE(is_aligned(buffer + 1, 64));
}

TEST(Bytes, text_as_bytes) {
  std::string text = "abc";
  EXPECT_EQ(as_bytes(text).size(), 3u);
  EXPECT_EQ(static_cast<char>(as_bytes(text)[2]), 'c');
}

}  // namespace
}  // namespace memkv::base
