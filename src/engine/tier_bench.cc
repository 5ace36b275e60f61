/// The RAM tier's hit rate on request traces, beside an LRU of its size; and what a look into it takes. The traces are
/// files of the environment variable MEMKV_TRACES, apart by colons, with an object a line that has "hash_ids": [1, 2, ...],
/// as Mooncake's (FAST '25).

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "engine/tier_replay_testing.h"

namespace memkv::engine {
namespace {

std::vector<uint64_t> ids_of(const std::string& file) {
  std::vector<uint64_t> ids;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const size_t at = line.find("\"hash_ids\"");
    if (at == std::string::npos) continue;
    std::string list = line.substr(line.find('[', at) + 1);
    for (char& c : list) c = c == ',' || c == ']' || c == '}' ? ' ' : c;
    std::istringstream words(list);
    for (uint64_t id; words >> id;) ids.push_back(id);
  }
  return ids;
}

void replay(benchmark::State& state, const std::string& file) {
  const std::vector<uint64_t> ids = ids_of(file);
  double rate = 0, lru = 0;
  for (auto _ : state) {
    TierReplay replay(static_cast<size_t>(state.range(0)));
    for (const uint64_t id : ids) replay.access(id);
    rate = replay.hit_rate();
    lru = replay.lru_hit_rate();
  }
  state.counters["hit_rate"] = rate;
  state.counters["lru_hit_rate"] = lru;
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}

void find(benchmark::State& state) {
  constexpr uint64_t kBlocks = 2000;
  TierReplay replay(2 * kBlocks);
  uint64_t id = 0;
  for (auto _ : state) replay.get(id++ % kBlocks);
  state.SetItemsProcessed(state.iterations());
}

const bool kRegistered = [] {
  benchmark::RegisterBenchmark("find", find);
  const char* traces = std::getenv("MEMKV_TRACES");
  std::istringstream files(traces != nullptr ? traces : "");
  for (std::string file; std::getline(files, file, ':');) {
    auto* bench = benchmark::RegisterBenchmark(file.c_str(), replay, file);
    for (const int64_t blocks : {1000, 3000, 10'000, 30'000}) bench->Arg(blocks);
    bench->Unit(benchmark::kMillisecond)->Iterations(1);
  }
  return true;
}();

}  // namespace
}  // namespace memkv::engine
