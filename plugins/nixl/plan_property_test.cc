/// Random lists against the brute-force oracle. A failure prints the seed of its list; MEMKV_TEST_SEED starts
/// elsewhere.

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>
#include <ostream>

#include "plan.h"
#include "plan_oracle_testing.h"

namespace memkv::nixl {

void PrintTo(const Descriptor& d, std::ostream* out) {
  *out << "key " << d.key << " [" << d.offset << ", +" << d.length << ") at " << d.place.address
       << (d.place.kind == MemoryKind::kCuda ? " cuda " : " host ") << d.place.device;
}

namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSlower = 10;
#else
constexpr uint64_t kSlower = 1;
#endif

using Random = PlanOracle::Random;

uint64_t below(Random& random, uint64_t n) { return random() % n; }

/// How a list is made: small numbers, so that ranges and places meet.
struct Shape {
  uint32_t descriptors_max = 32;
  uint32_t keys = 1;
  uint64_t object_bytes = 64;
  uint64_t length_max = 16;
  uint64_t step = 1;  ///< offsets and lengths are multiples of it
  uint64_t cuda_in_4 = 0;
};

Shape make_shape(Random& random, uint32_t descriptors_max) {
  const bool large = descriptors_max > 32;
  Shape shape{.descriptors_max = descriptors_max};
  shape.keys = 1 + static_cast<uint32_t>(below(random, large ? 8 : 3));
  shape.object_bytes = uint64_t{large ? 256u : 8u} << below(random, 6);
  shape.length_max = 1 + below(random, large ? 64 : 24);
  shape.step = uint64_t{1} << below(random, 4);
  shape.cuda_in_4 = below(random, 4);
  return shape;
}

/// The range of the next descriptor: a random one, or one that continues or repeats the one before.
void choose_range(Random& random, const Shape& shape, const std::vector<Descriptor>& list, Descriptor& into) {
  const uint64_t choice = list.empty() ? 0 : below(random, 8);
  if (choice >= 6) into = list.back();
  if (choice == 6) into.offset += into.length;
  if (choice >= 6) return;
  into.key = static_cast<uint32_t>(below(random, shape.keys));
  into.offset = below(random, shape.object_bytes) / shape.step * shape.step;
  into.length = below(random, shape.length_max + 1) / shape.step * shape.step;
}

/// Places that do not overlap, with gaps or touching, in random order.
void place_apart(Random& random, std::vector<Descriptor>& list) {
  std::vector<uint32_t> order(list.size());
  std::iota(order.begin(), order.end(), 0);
  if (below(random, 4) > 0) std::shuffle(order.begin(), order.end(), random);
  uint64_t at = 0;
  for (const uint32_t i : order) {
    at += below(random, 3) % 2;
    list[i].place.address = at;
    at += list[i].length;
  }
}

void place_anywhere(Random& random, std::vector<Descriptor>& list) {
  const uint64_t room = 1 + below(random, list.size() * (1u << below(random, 6)));
  for (Descriptor& d : list) d.place.address = below(random, room);
}

std::vector<Descriptor> make_list(Random& random, const Shape& shape) {
  std::vector<Descriptor> list;
  const uint64_t count = 1 + below(random, shape.descriptors_max);
  for (uint64_t i = 0; i < count; ++i) {
    Descriptor made;
    choose_range(random, shape, list, made);
    const bool cuda = below(random, 4) < shape.cuda_in_4;
    made.place = {.device = cuda ? static_cast<uint32_t>(below(random, 2)) : 0,
                  .kind = cuda ? MemoryKind::kCuda : MemoryKind::kHost};
    list.push_back(made);
  }
  return list;
}

PlanOptions make_options(Random& random) {
  PlanOptions options;
  const uint64_t choice = below(random, 8);
  for (auto& row : options.copies) {
    for (CopyPath& path : row) {
      path = {};
      if (choice == 0) path = CopyPath::none();
      if (choice == 1) path = below(random, 2) ? CopyPath::none() : CopyPath{};
      if (choice == 2) path = {.bytes_min = below(random, 8), .bytes_max = 4 + below(random, 16)};
    }
  }
  if (choice == 3) options = {};
  if (choice == 4) options.op_pieces_max = 1 + static_cast<uint32_t>(below(random, 4));
  if (choice == 5) options.coalesce = below(random, 4) > 0;
  return options;
}

Case make_case(Random& random, uint32_t descriptors_max, bool apart) {
  const Shape shape = make_shape(random, descriptors_max);
  Case made{.options = make_options(random), .list = make_list(random, shape), .apart = apart};
  apart ? place_apart(random, made.list) : place_anywhere(random, made.list);
  return made;
}

uint64_t first_seed() {
  const char* chosen = std::getenv("MEMKV_TEST_SEED");
  return chosen ? std::strtoull(chosen, nullptr, 10) : 1;
}

void run(Op op, bool apart, uint32_t descriptors_max, uint64_t lists) {
  const uint64_t first = first_seed();
  PlanOracle oracle;
  Plan plan;
  for (uint64_t seed = first; seed < first + lists / kSlower; ++seed) {
    Random random(seed);
    const Case made = make_case(random, descriptors_max, apart);
    Planner(made.options).plan(op, made.list, plan);
    const char* wrong =
        op == Op::kRead ? oracle.check_read(made, plan, random) : oracle.check_write(made, plan, random);
    ASSERT_EQ(wrong, nullptr) << wrong << ", MEMKV_TEST_SEED=" << seed << " " << testing::PrintToString(made.list);
  }
}

TEST(PlanProperty, ReadsApart) { run(Op::kRead, true, 32, 400'000); }
TEST(PlanProperty, ReadsThatAlias) { run(Op::kRead, false, 32, 300'000); }
TEST(PlanProperty, Writes) { run(Op::kWrite, false, 32, 300'000); }
TEST(PlanProperty, LongReadsApart) { run(Op::kRead, true, 4096, 400); }
TEST(PlanProperty, LongReadsThatAlias) { run(Op::kRead, false, 4096, 300); }
TEST(PlanProperty, LongWrites) { run(Op::kWrite, false, 4096, 300); }

}  // namespace
}  // namespace memkv::nixl
