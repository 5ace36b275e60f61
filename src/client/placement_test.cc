#include "client/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "base/bytes.h"
#include "base/hash.h"

namespace memkv::client {
namespace {

std::vector<std::string> names_of(size_t count) {
  std::vector<std::string> names;
  for (size_t i = 1; i <= count; i++) names.push_back("kv" + std::to_string(i));
  return names;
}

std::string key_of(int i) { return "prefix/" + std::to_string(i); }

/// Lines "key server", for clients in other languages. After a wanted change:
/// client_test --gtest_also_run_disabled_tests --gtest_filter='*DISABLED_RegeneratePlacement'
constexpr const char* kGolden = "tests/golden/placement/five_servers.txt";
std::string golden_text() {
  const auto names = names_of(5);
  const Placement placement(names);
  std::string text;
  for (int i = 0; i < 64; i++) text += key_of(i) + " " + names[placement.server_of(key_of(i))] + "\n";
  const std::string binary("\0\xff\n", 3);
  return text + "00ff0a(hex) " + names[placement.server_of(binary)] + "\n";
}

TEST(Placement, KeysStayWhereTheyHaveAlwaysBeen) {
  std::ifstream file(kGolden);
  ASSERT_TRUE(file.is_open()) << kGolden << ": run from the repository's root";
  std::stringstream expected;
  expected << file.rdbuf();
  EXPECT_EQ(golden_text(), expected.str());
}

TEST(Placement, DISABLED_RegeneratePlacement) { std::ofstream(kGolden) << golden_text(); }

TEST(Placement, TheOrderOfTheListDoesNotMatter) {
  auto names = names_of(7);
  const Placement forwards(names);
  auto turned = names;
  std::reverse(turned.begin(), turned.end());
  const Placement backwards(turned);
  for (int i = 0; i < 1000; i++) {
    EXPECT_EQ(names[forwards.server_of(key_of(i))], turned[backwards.server_of(key_of(i))]);
  }
}

TEST(Placement, SharesAreEven) {
  constexpr int kKeys = 100'000;
  std::vector<int> counts(8);
  const Placement placement(names_of(8));
  for (int i = 0; i < kKeys; i++) counts[placement.server_of(key_of(i))]++;
  for (const int count : counts) EXPECT_NEAR(count, kKeys / 8, kKeys / 8 / 20);
}

TEST(Placement, ANewServerTakesItsShareAndMovesNothingElse) {
  constexpr int kKeys = 100'000;
  for (const size_t before : {1, 2, 4, 9}) {
    const Placement old_placement(names_of(before));
    const Placement new_placement(names_of(before + 1));
    int moved = 0;
    for (int i = 0; i < kKeys; i++) {
      const size_t now = new_placement.server_of(key_of(i));
      if (now == old_placement.server_of(key_of(i))) continue;
      ASSERT_EQ(now, before) << "a key moved between servers that were there before";
      moved++;
    }
    const double share = kKeys / static_cast<double>(before + 1);
    EXPECT_LT(moved, share * 1.03);
    EXPECT_GT(moved, share * 0.97);
  }
}

/// The weight of a server for a key. The server with the highest weight has the key.
uint64_t placement_weight(std::string_view name, std::string_view key) {
  return base::xxh3(base::as_bytes(key), base::xxh3(base::as_bytes(name), 0));
}

TEST(Placement, TheHighestWeightWins) {
  const auto names = names_of(6);
  const Placement placement(names);
  for (int i = 0; i < 100; i++) {
    const auto best = std::max_element(names.begin(), names.end(), [&](const auto& a, const auto& b) {
      return placement_weight(a, key_of(i)) < placement_weight(b, key_of(i));
    });
    EXPECT_EQ(names[placement.server_of(key_of(i))], *best);
  }
}

}  // namespace
}  // namespace memkv::client
