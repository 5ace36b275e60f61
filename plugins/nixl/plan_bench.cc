/// Cost of planning, per descriptor: lists of 64 KiB blocks and one buffer, in order or with both shuffled; and
/// `scattered`, where nothing has a pattern that the sorts could use.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <vector>

#include "plan.h"

namespace memkv::nixl {
namespace {

constexpr uint64_t kBlock = 64 << 10;
constexpr uintptr_t kBuffer = 0x7f12'3456'7000;

enum Shape : int64_t { kDistinctKeys, kTouching, kOverlapping, kSameBlock, kScattered };

Descriptor make_descriptor(Shape shape, uint32_t i) {
  Descriptor made{.key = 7, .length = kBlock, .place = {.address = kBuffer + i * kBlock}};
  if (shape == kDistinctKeys) made.key = i;
  if (shape == kTouching) made.offset = i * kBlock;
  if (shape == kOverlapping) made.offset = i * kBlock / 2;
  return made;
}

Descriptor make_scattered(std::mt19937_64& random) {
  return {.key = static_cast<uint32_t>(random()),
          .offset = random() >> 16,
          .length = kBlock,
          .place = {.address = random() >> 17}};
}

/// Places and positions in the list are shuffled apart from each other, so that neither sort finds its work done.
std::vector<Descriptor> make_list(Shape shape, uint32_t count, bool shuffled) {
  std::mt19937_64 random(1);
  std::vector<Descriptor> list;
  for (uint32_t i = 0; i < count; ++i) {
    list.push_back(shape == kScattered ? make_scattered(random) : make_descriptor(shape, i));
  }
  if (!shuffled) return list;
  std::vector<Place> places;
  for (const Descriptor& descriptor : list) places.push_back(descriptor.place);
  std::shuffle(places.begin(), places.end(), random);
  for (uint32_t i = 0; i < count; ++i) list[i].place = places[i];
  std::shuffle(list.begin(), list.end(), random);
  return list;
}

void run(benchmark::State& state, Op op, bool shuffled) {
  const auto count = static_cast<uint32_t>(state.range(1));
  const auto list = make_list(static_cast<Shape>(state.range(0)), count, shuffled);
  Planner planner;
  Plan plan;
  for (auto _ : state) {
    planner.plan(op, list, plan);
    benchmark::DoNotOptimize(plan.wire_ops.data());
  }
  const auto planned = static_cast<double>(state.iterations()) * count;
  state.counters["per_descriptor"] =
      benchmark::Counter(planned, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["wire_ops"] = static_cast<double>(plan.wire_ops.size());
  static constexpr const char* kNames[] = {"distinct keys", "touching", "overlapping", "same block", "scattered"};
  state.SetLabel(kNames[state.range(0)]);
}

void BM_Read(benchmark::State& state) { run(state, Op::kRead, true); }
void BM_ReadInOrder(benchmark::State& state) { run(state, Op::kRead, false); }
void BM_Write(benchmark::State& state) { run(state, Op::kWrite, true); }

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgsProduct({{kDistinctKeys, kTouching, kOverlapping, kSameBlock, kScattered}, {16, 256, 4096}});
}
BENCHMARK(BM_Read)->Apply(shapes);
BENCHMARK(BM_ReadInOrder)->Apply(shapes);
BENCHMARK(BM_Write)->Apply(shapes);

}  // namespace
}  // namespace memkv::nixl
