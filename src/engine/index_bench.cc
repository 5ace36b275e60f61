/// Index at its load limit: hits, misses, and an erase with an insert.

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "engine/index.h"

namespace memkv::engine {
namespace {

struct Filled {
  explicit Filled(uint64_t entries) : index(entries), random(1) {
    digests.reserve(entries);
    for (uint64_t i = 0; i < entries; ++i) {
      digests.push_back({random(), random()});
      (void)index.insert(digests.back());
    }
  }
  Index index;
  std::mt19937_64 random;
  std::vector<Digest> digests;
};

void find_hit(benchmark::State& state) {
  Filled filled(static_cast<uint64_t>(state.range(0)));
  for (auto _ : state) {
    benchmark::DoNotOptimize(filled.index.find(filled.digests[filled.random() % filled.digests.size()]));
  }
  state.SetItemsProcessed(state.iterations());
}

void find_miss(benchmark::State& state) {
  Filled filled(static_cast<uint64_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(filled.index.find({filled.random(), 1}));
  state.SetItemsProcessed(state.iterations());
}

void erase_insert(benchmark::State& state) {
  Filled filled(static_cast<uint64_t>(state.range(0)));
  for (auto _ : state) {
    Digest& digest = filled.digests[filled.random() % filled.digests.size()];
    filled.index.erase(filled.index.find(digest));
    digest = {filled.random(), filled.random()};
    benchmark::DoNotOptimize(filled.index.insert(digest).ok());
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK(find_hit)->Arg(10'000)->Arg(4'000'000);
BENCHMARK(find_miss)->Arg(10'000)->Arg(4'000'000);
BENCHMARK(erase_insert)->Arg(10'000)->Arg(4'000'000);

}  // namespace
}  // namespace memkv::engine
