#include "base/units.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace memkv::base {
namespace {

uint64_t size_of(std::string_view text) {
  auto size = parse_size(text);
  EXPECT_TRUE(size.ok()) << text << ": " << size.error().text;
  return std::move(size).value_or(12345);
}

std::string refusal(std::string_view text) {
  auto size = parse_size(text);
  return size.ok() ? "accepted" : size.error().text;
}

TEST(Units, sizes) {
  EXPECT_EQ(size_of("8GiB"), 8 * kGiB);
  EXPECT_EQ(size_of("64KiB"), 64 * kKiB);
  EXPECT_EQ(size_of("64 kib"), 64 * kKiB);
  EXPECT_EQ(size_of(" 1.5 GiB "), 3 * kGiB / 2);
  EXPECT_EQ(size_of("0.25MiB"), 256 * kKiB);
  EXPECT_EQ(size_of("2TB"), 2'000'000'000'000u);
  EXPECT_EQ(size_of("4096B"), 4096u);
  EXPECT_EQ(size_of("0"), 0u);
  EXPECT_EQ(size_of("18446744073709551615B"), ~uint64_t{0});
}

TEST(Units, a_bare_number_is_refused_unless_allowed) {
  EXPECT_NE(refusal("4096").find("no unit"), std::string::npos);
  auto size = parse_size("4096", BareNumber::kAllow);
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(*size, 4096u);
}

TEST(Units, refuses_what_is_not_a_size) {
  for (const char* text : {"", " ", "GiB", "-1GiB", "8 GiB x", "1e3KiB", "1.KiB", ".5KiB", "1..5KiB", "8G", "8K",
                           "0x10B", "0.3B", "99999999999999999999B", "16777216TiB", "+1B"}) {
    EXPECT_NE(refusal(text), "accepted") << text;
  }
}

TEST(Units, durations) {
  EXPECT_EQ(*parse_duration_ns("250ms"), 250'000'000u);
  EXPECT_EQ(*parse_duration_ns("2s"), 2'000'000'000u);
  EXPECT_EQ(*parse_duration_ns("0.5us"), 500u);
  EXPECT_EQ(*parse_duration_ns("5m"), 300'000'000'000u);
  EXPECT_EQ(*parse_duration_ns("1 d"), 86'400'000'000'000u);
  EXPECT_EQ(*parse_duration_ns("0"), 0u);
  EXPECT_FALSE(parse_duration_ns("5").ok());
  EXPECT_FALSE(parse_duration_ns("fast").ok());
  EXPECT_FALSE(parse_duration_ns("1y").ok());
}

TEST(Units, formats_for_people) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(65536), "64 KiB");
  EXPECT_EQ(format_bytes(3 * kGiB / 2), "1.50 GiB");
  EXPECT_EQ(format_bytes(549 * kKiB + 100), "549 KiB");
  EXPECT_EQ(format_duration_ns(850), "850 ns");
  EXPECT_EQ(format_duration_ns(12'500), "12.5 us");
  EXPECT_EQ(format_duration_ns(2'000'000'000), "2.0 s");
  EXPECT_EQ(format_duration_ns(7'200'000'000'000), "2.0 h");
}

}  // namespace
}  // namespace memkv::base
