#include "plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ostream>

#include "plan_oracle_testing.h"

namespace memkv::nixl {

bool operator==(const WireOp& a, const WireOp& b) {
  return a.key == b.key && a.offset == b.offset && a.length == b.length && a.piece_count == b.piece_count &&
         a.copy_count == b.copy_count && a.again == b.again;
}
void PrintTo(const WireOp& op, std::ostream* out) {
  *out << "key " << op.key << " [" << op.offset << ", +" << op.length << "), " << op.piece_count << " pieces, "
       << op.copy_count << " copies, again " << static_cast<int>(op.again);
}

namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint64_t kBlock = 64 << 10;

Place host(uintptr_t address) { return {.address = address}; }
Place cuda(uintptr_t address, uint32_t device = 0) {
  return {.address = address, .device = device, .kind = MemoryKind::kCuda};
}

PlanOptions with_cuda() { return {.copies = {{{}, {}}, {{}, {}}}}; }

/// A plan, checked by the oracle before the test looks at it.
Plan checked(Op op, const std::vector<Descriptor>& list, const PlanOptions& options = {}, bool apart = true) {
  Plan plan;
  Planner(options).plan(op, list, plan);
  const Case given{.options = options, .list = list, .apart = apart};
  PlanOracle oracle;
  PlanOracle::Random random(1);
  const char* wrong =
      op == Op::kRead ? oracle.check_read(given, plan, random) : oracle.check_write(given, plan, random);
  EXPECT_EQ(wrong, nullptr) << wrong;
  return plan;
}
Plan read(const std::vector<Descriptor>& list, const PlanOptions& options = {}) {
  return checked(Op::kRead, list, options);
}
Plan read_aliased(const std::vector<Descriptor>& list) { return checked(Op::kRead, list, {}, false); }
Plan write(const std::vector<Descriptor>& list, const PlanOptions& options = {}) {
  return checked(Op::kWrite, list, options, false);
}

std::vector<uint32_t> owners(const Plan& plan, size_t op) {
  std::vector<uint32_t> list;
  for (const LocalPiece& piece : plan.pieces_of(plan.wire_ops[op])) list.push_back(piece.descriptor);
  return list;
}

TEST(PlanRead, sixteen_reads_of_one_block_are_one_fetch_and_fifteen_copies) {
  std::vector<Descriptor> list;
  for (uint32_t i = 0; i < 16; ++i) list.push_back({.key = 3, .length = kBlock, .place = host(i * kBlock)});
  const Plan plan = read(list);
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = kBlock, .key = 3, .piece_count = 1, .copy_count = 15}));
  EXPECT_EQ(plan.wire_bytes, kBlock);
  EXPECT_EQ(plan.copy_bytes, 15 * kBlock);
  EXPECT_EQ(plan.request_bytes, 16 * kBlock);
}

TEST(PlanRead, the_descriptor_that_spans_the_cluster_owns_all_of_it) {
  const Plan plan = read({{.offset = 0, .length = 10, .place = host(0)},
                          {.offset = 5, .length = 20, .place = host(100)},
                          {.offset = 0, .length = 40, .place = host(200)},
                          {.offset = 30, .length = 10, .place = host(300)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 40, .piece_count = 1, .copy_count = 3}));
  EXPECT_THAT(owners(plan, 0), ElementsAre(2));
}

TEST(PlanRead, touching_ranges_become_one_fetch_with_scattered_pieces) {
  const Plan plan = read({{.offset = 20, .length = 10, .place = host(0)},
                          {.offset = 0, .length = 10, .place = host(500)},
                          {.offset = 10, .length = 10, .place = host(100)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 30, .piece_count = 3}));
  EXPECT_THAT(owners(plan, 0), ElementsAre(1, 2, 0));
  EXPECT_THAT(plan.copies, IsEmpty());
}

TEST(PlanRead, overlapping_ranges_share_their_bytes_by_the_fewest_owners) {
  const Plan plan = read({{.offset = 0, .length = 10, .place = host(0)},
                          {.offset = 4, .length = 10, .place = host(100)},
                          {.offset = 8, .length = 12, .place = host(200)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 20, .piece_count = 2, .copy_count = 3}));
  EXPECT_THAT(owners(plan, 0), ElementsAre(0, 2));
  EXPECT_EQ(plan.copy_bytes, 10u + 2u);  // all of the middle one, from both; the start of the last one, from the first
}

TEST(PlanRead, a_gap_starts_a_new_fetch) {
  const Plan plan =
      read({{.offset = 0, .length = 10, .place = host(0)}, {.offset = 11, .length = 9, .place = host(10)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.offset = 0, .length = 10, .piece_count = 1},
                                         WireOp{.offset = 11, .length = 9, .piece_count = 1}));
}

TEST(PlanRead, keys_never_mix) {
  const Plan plan = read({{.key = 9, .offset = 10, .length = 10, .place = host(0)},
                          {.key = 2, .offset = 0, .length = 10, .place = host(10)},
                          {.key = 9, .offset = 0, .length = 10, .place = host(20)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 10, .key = 2, .piece_count = 1},
                                         WireOp{.length = 20, .key = 9, .piece_count = 2}));
}

TEST(PlanRead, distinct_keys_are_not_coalesced_and_fetch_once) {
  std::vector<Descriptor> list;
  for (uint32_t i = 0; i < 16; ++i) list.push_back({.key = i, .length = kBlock, .place = host(i * kBlock)});
  const Plan plan = read(list);
  EXPECT_THAT(plan.wire_ops, SizeIs(16));
  EXPECT_EQ(plan.wire_bytes, plan.request_bytes);
}

TEST(PlanRead, a_descriptor_of_zero_bytes_needs_nothing) {
  EXPECT_THAT(read({{.key = 1, .offset = 5, .place = host(7)}}).stages, IsEmpty());
  EXPECT_THAT(read({}).stages, IsEmpty());
  const Plan plan =
      read({{.length = 4, .place = host(0)}, {.offset = 2, .place = host(2)}, {.length = 4, .place = host(4)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 4, .piece_count = 1, .copy_count = 1}));
}

TEST(PlanRead, ranges_may_end_at_the_last_byte_of_all) {
  Plan plan;
  Planner().plan(Op::kRead,
                 std::vector<Descriptor>{{.offset = ~uint64_t{0} - 8, .length = 8, .place = host(~uintptr_t{0} - 8)}},
                 plan);
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.offset = ~uint64_t{0} - 8, .length = 8, .piece_count = 1}));
}

TEST(PlanRead, copies_go_between_host_and_cuda_where_a_path_exists) {
  const Plan plan =
      read({{.length = 10, .place = cuda(0)}, {.length = 10, .place = host(10)}, {.length = 10, .place = cuda(20, 1)}},
           with_cuda());
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 10, .piece_count = 1, .copy_count = 2}));
  EXPECT_THAT(owners(plan, 0), ElementsAre(1)) << "of two that reach as far, the one in host memory owns";
  EXPECT_EQ(plan.copies[1].to, cuda(20, 1));
}

TEST(PlanRead, the_owner_lies_in_cuda_memory_if_that_descriptor_spans_the_cluster) {
  const Plan plan = read({{.length = 5, .place = host(0)}, {.length = 10, .place = cuda(10)}}, with_cuda());
  EXPECT_THAT(owners(plan, 0), ElementsAre(1));
  EXPECT_EQ(plan.copies[0].from, cuda(10));
  EXPECT_EQ(plan.copies[0].to, host(0));
}

TEST(PlanRead, without_a_copy_path_each_destination_is_fetched_and_the_plan_says_why) {
  const Plan plan =
      read({{.length = 10, .place = cuda(0)}, {.length = 10, .place = cuda(10)}, {.length = 10, .place = cuda(20)}});
  const WireOp again{.length = 10, .piece_count = 1, .again = Again::kNoCopyPath};
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 10, .piece_count = 1}, again, again));
}

TEST(PlanRead, a_kind_that_has_copies_coalesces_apart_from_one_that_has_none) {
  std::vector<Descriptor> list{{.length = 20, .place = cuda(0)}};  // spans the cluster, but nothing copies from it
  for (uint32_t i = 0; i < 4; ++i) list.push_back({.length = 10, .place = host(20 + i * 10)});
  const Plan plan = read(list);
  EXPECT_THAT(plan.wire_ops,
              ElementsAre(WireOp{.length = 20, .piece_count = 1},
                          WireOp{.length = 10, .piece_count = 1, .copy_count = 3, .again = Again::kNoCopyPath}));
}

TEST(PlanRead, a_copy_outside_of_its_limits_is_fetched_again) {
  PlanOptions options;
  options.copies[0][0] = {.bytes_min = 8, .bytes_max = 16};
  const Plan plan = read({{.length = 20, .place = host(0)},
                          {.length = 7, .place = host(20)},
                          {.length = 8, .place = host(40)},
                          {.length = 16, .place = host(60)},
                          {.length = 17, .place = host(80)}},
                         options);
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 20, .piece_count = 1, .copy_count = 2},
                                         WireOp{.length = 17, .piece_count = 1, .again = Again::kCheaper},
                                         WireOp{.length = 7, .piece_count = 1, .again = Again::kCheaper}));
}

TEST(PlanRead, without_coalescing_each_descriptor_is_fetched_in_list_order) {
  const Plan plan =
      read({{.offset = 10, .length = 10, .place = host(0)}, {.offset = 0, .length = 15, .place = host(10)}},
           {.coalesce = false});
  EXPECT_THAT(plan.wire_ops,
              ElementsAre(WireOp{.offset = 10, .length = 10, .piece_count = 1, .again = Again::kNotCoalesced},
                          WireOp{.offset = 0, .length = 15, .piece_count = 1, .again = Again::kNotCoalesced}));
}

TEST(PlanRead, a_fetch_of_too_many_pieces_is_cut_between_pieces) {
  std::vector<Descriptor> list;
  for (uint32_t i = 0; i < 5; ++i) list.push_back({.offset = i * 10, .length = 10, .place = host(i * 20)});
  list.push_back({.offset = 15, .length = 10, .place = host(200)});  // owns nothing, lies across the cut
  const Plan plan = read(list, {.op_pieces_max = 2});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.offset = 0, .length = 20, .piece_count = 2, .copy_count = 1},
                                         WireOp{.offset = 20, .length = 20, .piece_count = 2, .copy_count = 1},
                                         WireOp{.offset = 40, .length = 10, .piece_count = 1}));
}

TEST(PlanRead, destinations_that_alias_run_one_after_another) {
  const Plan plan = read_aliased({{.key = 1, .length = 10, .place = host(0)},
                                  {.key = 2, .length = 10, .place = host(5)},
                                  {.key = 3, .length = 5, .place = host(20)},
                                  {.key = 1, .length = 10, .place = host(15)}});
  EXPECT_THAT(plan.stages, SizeIs(2));
  EXPECT_THAT(plan.wire_ops_of(plan.stages[0]), SizeIs(2));
  EXPECT_THAT(plan.wire_ops_of(plan.stages[1]),
              ElementsAre(WireOp{.length = 10, .key = 1, .piece_count = 1, .again = Again::kLaterStage},
                          WireOp{.length = 10, .key = 2, .piece_count = 1, .again = Again::kLaterStage}));
}

TEST(PlanRead, as_many_reads_into_one_place_as_stages) {
  std::vector<Descriptor> list;
  for (uint32_t i = 0; i < 5; ++i) list.push_back({.key = i, .length = 10, .place = host(i == 4 ? 0 : 3)});
  EXPECT_THAT(read_aliased(list).stages, SizeIs(5));
}

TEST(PlanRead, memory_that_only_touches_is_one_stage) {
  EXPECT_THAT(read({{.key = 1, .length = 10, .place = host(0)}, {.key = 2, .length = 10, .place = host(10)}}).stages,
              SizeIs(1));
}

TEST(PlanWrite, distinct_and_touching_ranges) {
  const Plan plan = write({{.key = 1, .offset = 10, .length = 10, .place = host(0)},
                           {.key = 1, .offset = 0, .length = 10, .place = host(50)},
                           {.key = 1, .offset = 30, .length = 10, .place = host(100)},
                           {.key = 2, .offset = 20, .length = 10, .place = host(150)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.offset = 0, .length = 20, .key = 1, .piece_count = 2},
                                         WireOp{.offset = 30, .length = 10, .key = 1, .piece_count = 1},
                                         WireOp{.offset = 20, .length = 10, .key = 2, .piece_count = 1}));
  EXPECT_THAT(owners(plan, 0), ElementsAre(1, 0));
}

TEST(PlanWrite, sixteen_writes_of_one_range_stay_sixteen_concurrent_ones) {
  const std::vector<Descriptor> list(16, {.length = kBlock, .place = host(0)});
  const Plan plan = write({list.begin(), list.begin() + 16});
  EXPECT_THAT(plan.wire_ops, SizeIs(16));
  EXPECT_THAT(plan.stages, SizeIs(1));
}

TEST(PlanWrite, what_is_overlapped_folds_with_nothing) {
  const Plan plan = write({{.offset = 0, .length = 10, .place = host(0)},
                           {.offset = 10, .length = 10, .place = host(10)},
                           {.offset = 20, .length = 10, .place = host(20)},
                           {.offset = 30, .length = 10, .place = host(30)},
                           {.offset = 15, .length = 3, .place = host(40)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.offset = 0, .length = 10, .piece_count = 1},
                                         WireOp{.offset = 10, .length = 10, .piece_count = 1},
                                         WireOp{.offset = 15, .length = 3, .piece_count = 1},
                                         WireOp{.offset = 20, .length = 20, .piece_count = 2}));
}

TEST(PlanWrite, sources_may_alias_and_still_fold) {
  const Plan plan =
      write({{.offset = 0, .length = 10, .place = host(0)}, {.offset = 10, .length = 10, .place = host(0)}});
  EXPECT_THAT(plan.wire_ops, ElementsAre(WireOp{.length = 20, .piece_count = 2}));
  EXPECT_THAT(plan.stages, SizeIs(1));
}

TEST(PlanWrite, without_coalescing_nothing_folds) {
  EXPECT_THAT(write({{.offset = 0, .length = 10}, {.offset = 10, .length = 10}}, {.coalesce = false}).wire_ops,
              SizeIs(2));
}

TEST(PlanWrite, a_descriptor_of_zero_bytes_needs_nothing) {
  EXPECT_THAT(write({{.key = 1, .offset = 5}}).stages, IsEmpty());
}

TEST(Planner, a_plan_is_refilled_and_needs_no_more_memory) {
  std::vector<Descriptor> list;
  for (uint32_t i = 0; i < 100; ++i) list.push_back({.offset = i * 7 % 100, .length = 5, .place = host(i * 5)});
  Planner planner;
  Plan plan;
  planner.plan(Op::kRead, list, plan);
  const Plan first = plan;
  const auto* const memory = plan.copies.data();
  planner.plan(Op::kWrite, {list.data(), 1}, plan);
  EXPECT_THAT(plan.copies, IsEmpty());
  planner.plan(Op::kRead, list, plan);
  EXPECT_EQ(plan.copies.data(), memory);
  EXPECT_EQ(plan.wire_ops, first.wire_ops) << "the same list gives the same plan";
  EXPECT_EQ(plan.copy_bytes, first.copy_bytes);
}

TEST(PlannerDeathTest, ranges_that_overflow_are_the_callers_bug) {
  Plan plan;
  const std::vector<Descriptor> range{{.offset = ~uint64_t{0}, .length = 2}};
  EXPECT_DEATH(Planner().plan(Op::kRead, range, plan), "ranges of objects");
  const std::vector<Descriptor> memory{{.length = 2, .place = host(~uintptr_t{0})}};
  EXPECT_DEATH(Planner().plan(Op::kRead, memory, plan), "ranges of memory");
}

}  // namespace
}  // namespace memkv::nixl
