#include "server/budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace memkv::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kMiB = 1 << 20;

io::Limits limits_of(uint64_t memory_bytes, uint64_t cpu_milli = io::Limit::kNone, uint32_t cpus = 16) {
  io::Limits limits;
  limits.cpus = cpus;
  limits.memory_bytes = {memory_bytes, "/sys/fs/cgroup/memory.max"};
  limits.quota_milli = {cpu_milli, "/sys/fs/cgroup/cpu.max"};
  return limits;
}

Needs needs_of(uint64_t store_bytes = 0) {
  Needs needs;
  needs.memory_mode = store_bytes != 0;
  needs.store_bytes = store_bytes;
  needs.index_bytes = 16 * kMiB;
  needs.shard_bytes = 20 * kMiB;
  needs.worker_bytes = 48 * kMiB;
  needs.connection_bytes = 80 << 10;
  needs.window_bytes = 2 * kMiB + (516 << 10);
  return needs;
}

TEST(CaseC3Budget, workers_follow_the_quota_and_the_cpus) {
  EXPECT_EQ(*choose_workers({}, limits_of(1 << 30), false), 8u);
  EXPECT_EQ(*choose_workers({}, limits_of(1 << 30, 500), false), 1u);
  EXPECT_EQ(*choose_workers({}, limits_of(1 << 30, 4000), false), 2u);
  EXPECT_EQ(*choose_workers({}, limits_of(1 << 30, io::Limit::kNone, 1), false), 1u);
  EXPECT_EQ(*choose_workers({}, limits_of(1 << 30, io::Limit::kNone, 256), false), 32u);
  Options told;
  told.workers = 6;
  EXPECT_EQ(*choose_workers(told, limits_of(1 << 30, 500), false), 6u);
}

TEST(CaseC3Budget, threads_that_the_cgroup_does_not_allow_are_refused_with_the_arithmetic) {
  io::Limits limits = limits_of(1 << 30);
  limits.threads = {14, "/sys/fs/cgroup/pids.max"};
  EXPECT_EQ(*choose_workers({}, limits, false), 8u);
  EXPECT_EQ(*choose_workers({}, limits, true), 2u);
  Options told;
  told.workers = 4;
  const auto refused = choose_workers(told, limits, true);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().text, HasSubstr("needs 20 for 4 workers"));
  EXPECT_THAT(refused.error().text, HasSubstr("= 24, and /sys/fs/cgroup/pids.max has room for 14: lower workers"));
  limits.threads.value = 3;
  EXPECT_THAT(choose_workers({}, limits, false).error().text, HasSubstr("raise the limit"));
}

TEST(CaseC3Budget, on_a_large_machine_the_defaults_are_what_they_were) {
  const auto budget = plan_budget({}, needs_of(), limits_of(uint64_t{24} << 30));
  ASSERT_TRUE(budget) << budget.error().text;
  EXPECT_EQ(budget->slot_bytes, 256 * kMiB);
  EXPECT_EQ(budget->shm_bytes, 512 * kMiB);
  EXPECT_EQ(budget->connections_max, 1024u);
}

TEST(CaseC3Budget, defaults_fit_into_every_limit_that_the_least_fits_into) {
  for (const uint64_t store : {uint64_t{0}, 64 * kMiB, 128 * kMiB}) {
    bool fitted = false;
    for (uint64_t limit = 64 * kMiB; limit <= 2048 * kMiB; limit += 16 * kMiB) {
      const auto budget = plan_budget({}, needs_of(store), limits_of(limit));
      EXPECT_TRUE(budget || !fitted) << "less fitted, and " << limit << " does not";
      if (!budget) continue;
      fitted = true;
      EXPECT_LE(budget->bytes, limit);
      EXPECT_GE(budget->slot_bytes, 16 * kMiB);
      EXPECT_GE(budget->connections_max, 128u);
    }
    EXPECT_TRUE(plan_budget({}, needs_of(store), limits_of(512 * kMiB)));
  }
}

TEST(CaseC3Budget, what_is_asked_for_and_does_not_fit_is_refused_with_the_arithmetic) {
  Options options;
  options.shm.window_bytes_max = 512 * kMiB;
  const auto refused = plan_budget(options, needs_of(), limits_of(512 * kMiB));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, Status::kNoSpace);
  for (const char* part :
       {"16 MiB for the index", " + 512 MiB for shared memory", "/sys/fs/cgroup/memory.max allows 512 MiB", "lower ",
        "shm.max_size", "memory.index_block_size"}) {
    EXPECT_THAT(refused.error().text, HasSubstr(part));
  }
  EXPECT_THAT(refused.error().text, Not(HasSubstr(" 0 B for")));
  Options store;
  store.memory_bytes_max = 1024 * kMiB;
  EXPECT_THAT(plan_budget(store, needs_of(1024 * kMiB), limits_of(1024 * kMiB)).error().text,
              HasSubstr("1 GiB for blocks"));
}

TEST(CaseC3Budget, shared_memory_is_left_out_where_no_window_fits) {
  Needs needs = needs_of();
  const auto budget = plan_budget({}, needs, limits_of(160 * kMiB));
  ASSERT_TRUE(budget) << budget.error().text;
  EXPECT_LT(budget->shm_bytes, 64 * kMiB);
  needs.window_bytes = 128 * kMiB;
  EXPECT_EQ(plan_budget({}, needs, limits_of(256 * kMiB))->shm_bytes, 0u);
  Options off;
  off.shm.enabled = false;
  EXPECT_EQ(plan_budget(off, needs_of(), limits_of(512 * kMiB))->shm_bytes, 0u);
}

/// A store on drives, with 8 MiB as the least for a RAM tier.
Budget drives_budget(uint64_t memory_bytes_max, std::optional<uint64_t> tier_bytes, uint64_t namespaces = 1) {
  Options options;
  options.memory_bytes_max = memory_bytes_max;
  options.tier_bytes = tier_bytes;
  Needs needs = needs_of();
  needs.workers = 2;
  needs.tier_bytes_min = 8 * kMiB;
  needs.namespaces = namespaces;
  const auto budget = plan_budget(options, needs, limits_of(uint64_t{24} << 30));
  EXPECT_TRUE(budget) << budget.error().text;
  return budget ? *budget : Budget{};
}

TEST(TierBudget, what_max_size_leaves_above_the_slots_is_the_tier) {
  EXPECT_EQ(drives_budget(4096 * kMiB, std::nullopt).slot_bytes, 512 * kMiB);
  EXPECT_EQ(drives_budget(4096 * kMiB, std::nullopt).tier_bytes, 3584 * kMiB);
  EXPECT_EQ(drives_budget(4096 * kMiB, std::nullopt, 64).slot_bytes, 1024 * kMiB) << "namespaces need slots";
  EXPECT_EQ(drives_budget(0, std::nullopt).tier_bytes, 0u) << "who says nothing gets what he got";
}

TEST(TierBudget, a_small_max_size_is_all_slots) {
  for (const uint64_t bytes : {64 * kMiB, 512 * kMiB, 519 * kMiB}) {
    EXPECT_EQ(drives_budget(bytes, std::nullopt).slot_bytes, bytes);
    EXPECT_EQ(drives_budget(bytes, std::nullopt).tier_bytes, 0u);
  }
  EXPECT_EQ(drives_budget(520 * kMiB, std::nullopt).tier_bytes, 8 * kMiB);
}

TEST(TierBudget, the_configuration_may_say_how_much) {
  EXPECT_EQ(drives_budget(4096 * kMiB, 0).slot_bytes, 4096 * kMiB);
  EXPECT_EQ(drives_budget(4096 * kMiB, 0).tier_bytes, 0u);
  EXPECT_EQ(drives_budget(4096 * kMiB, 1024 * kMiB).slot_bytes, 3072 * kMiB);
  EXPECT_EQ(drives_budget(4096 * kMiB, 1024 * kMiB).tier_bytes, 1024 * kMiB);
  EXPECT_EQ(drives_budget(0, 1024 * kMiB).slot_bytes, 512 * kMiB);
  EXPECT_EQ(drives_budget(0, 1024 * kMiB).tier_bytes, 1024 * kMiB);
  EXPECT_EQ(drives_budget(64 * kMiB, 1024 * kMiB).slot_bytes, 32 * kMiB) << "the least that I/O needs stays";
  EXPECT_EQ(drives_budget(0, 4 * kMiB).tier_bytes, 0u) << "less than the least";
}

TEST(TierBudget, it_counts_and_memory_mode_has_none) {
  EXPECT_EQ(drives_budget(0, 1024 * kMiB).bytes - drives_budget(0, 0).bytes, 1024 * kMiB);
  Options options;
  options.memory_bytes_max = 4096 * kMiB;
  options.tier_bytes = 1024 * kMiB;
  Needs needs = needs_of(4096 * kMiB);
  needs.tier_bytes_min = 8 * kMiB;
  EXPECT_EQ(plan_budget(options, needs, limits_of(uint64_t{24} << 30))->tier_bytes, 0u);
  options.tier_bytes = uint64_t{24} << 30;
  needs = needs_of();
  needs.tier_bytes_min = 8 * kMiB;
  EXPECT_THAT(plan_budget(options, needs, limits_of(uint64_t{24} << 30)).error().text, HasSubstr("memory.tier_size"));
}

TEST(CaseC3Budget, buffers_on_huge_pages_that_were_set_aside_do_not_count) {
  Options options;
  options.memory_bytes_max = 512 * kMiB;
  io::Limits limits = limits_of(512 * kMiB);
  EXPECT_FALSE(plan_budget(options, needs_of(), limits));
  limits.huge_bytes = 512 * kMiB;
  EXPECT_TRUE(plan_budget(options, needs_of(), limits));
}

}  // namespace
}  // namespace memkv::server
