/// Whole seeds: run twice they are the same, all are well, and each takes a fraction of a second.

#include <gtest/gtest.h>

#include "base/log.h"
#include "sim/fork.h"
#include "sim/plan.h"

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

TEST(SimulatedRun, two_runs_with_several_servers_are_the_same_to_the_byte) {
  size_t grown = 0;
  for (uint64_t seed = 1, runs = 0; runs < 8; seed++) {
    const sim::Setup setup = make_plan(seed).setup;
    if (setup.servers() == 1) continue;
    runs++;
    grown += setup.listed < setup.servers() ? 1 : 0;
    const SeedReport first = run_forked(seed), second = run_forked(seed);
    EXPECT_EQ(first.result.violation, "") << "seed " << seed;
    EXPECT_EQ(first.result.servers, setup.servers());
    EXPECT_EQ(first.result.trace_lines, second.result.trace_lines) << "seed " << seed;
    EXPECT_EQ(first.result.trace_hash, second.result.trace_hash) << "seed " << seed;
  }
  EXPECT_GT(grown, 0u) << "lists that grow";
}

TEST(SimulatedRun, about_a_quarter_of_the_seeds_have_several_servers_and_the_others_stay_as_they_are) {
  size_t several = 0;
  for (uint64_t seed = 1; seed <= 1000; seed++) {
    const Plan plan = make_plan(seed), alone = make_plan(seed, {.several = false});
    EXPECT_EQ(alone.setup.servers(), 1u);
    several += plan.setup.servers() > 1 ? 1 : 0;
    if (plan.setup.servers() > 1) continue;
    ASSERT_EQ(plan.actions.size(), alone.actions.size());
    for (size_t i = 0; i < plan.actions.size(); i++) {
      EXPECT_EQ(plan.actions[i].seed, alone.actions[i].seed);
      EXPECT_EQ(plan.actions[i].server, 0u);
    }
  }
  EXPECT_GT(several, 200u);
  EXPECT_LT(several, 334u);
}

TEST(SimulatedRun, two_runs_with_rdma_are_the_same_to_the_byte) {
  size_t two_rails = 0;
  uint64_t moved = 0;
  for (uint64_t seed = 1, runs = 0; runs < 8; seed++) {
    const sim::Setup setup = make_plan(seed).setup;
    if (setup.rails == 0) continue;
    runs++;
    two_rails += setup.rails == 2 ? 1 : 0;
    const SeedReport first = run_forked(seed), second = run_forked(seed);
    EXPECT_EQ(first.result.violation, "") << "seed " << seed;
    EXPECT_EQ(first.result.trace_lines, second.result.trace_lines) << "seed " << seed;
    EXPECT_EQ(first.result.trace_hash, second.result.trace_hash) << "seed " << seed;
    moved += first.result.rdma_bytes;
  }
  EXPECT_GT(moved, 1'000'000u);
  EXPECT_GT(two_rails, 0u);
}

TEST(SimulatedRun, a_fifth_of_the_seeds_have_rdma_and_the_others_stay_as_they_are) {
  size_t with = 0;
  for (uint64_t seed = 1; seed <= 1000; seed++) {
    const Plan plan = make_plan(seed), without = make_plan(seed, {.rdma = false});
    EXPECT_EQ(without.setup.rails, 0u);
    with += plan.setup.rails > 0 ? 1 : 0;
    if (plan.setup.rails > 0) continue;
    ASSERT_EQ(plan.actions.size(), without.actions.size());
    for (size_t i = 0; i < plan.actions.size(); i++) EXPECT_EQ(plan.actions[i].seed, without.actions[i].seed);
  }
  EXPECT_GT(with, 120u);
  EXPECT_LT(with, 250u);
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
