/// Whole seeds: run twice they are the same, all are well, and each takes a fraction of a second.

#include <gtest/gtest.h>

#include "base/log.h"
#include "sim/fork.h"

namespace memkv::sim {
namespace {

TEST(SimulatedRun, two_runs_of_a_seed_are_the_same_to_the_byte) {
  for (uint64_t seed = 1; seed <= 6; seed++) {
    const SeedReport first = run_forked(seed), second = run_forked(seed);
    ASSERT_FALSE(first.crashed) << first.result.violation;
    EXPECT_GT(first.result.trace_lines, 20u);
    EXPECT_EQ(first.result.trace_lines, second.result.trace_lines) << "seed " << seed;
    EXPECT_EQ(first.result.trace_hash, second.result.trace_hash) << "seed " << seed;
  }
}

TEST(SimulatedRun, two_seeds_differ) { EXPECT_NE(run_forked(1).result.trace_hash, run_forked(2).result.trace_hash); }

TEST(SimulatedRun, addresses_do_not_matter) {
  const SeedReport alone = run_forked(3);
  // Moves the heap, so that the second run has other addresses.
  std::vector<std::unique_ptr<std::byte[]>> ballast;
  for (size_t i = 1; i < 2000; i++) ballast.push_back(std::make_unique<std::byte[]>(i * 7 % 5000 + 1));
  EXPECT_EQ(run_forked(3).result.trace_hash, alone.result.trace_hash);
}

}  // namespace
}  // namespace memkv::sim
