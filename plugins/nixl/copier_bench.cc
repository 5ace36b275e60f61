/// Fan-out of one source to 15 destinations, as the reads of one block by 16 descriptors make it: on the calling
/// thread, on one and on two copy threads.

#include <benchmark/benchmark.h>

#include <cstring>
#include <thread>

#include "copier.h"

namespace memkv::nixl {
namespace {

constexpr size_t kDestinations = 15;

struct Memory {
  explicit Memory(size_t bytes) : source(bytes, 1), targets(kDestinations, std::vector<char>(bytes)) {
    for (std::vector<char>& target : targets) copies.push_back({place(source), place(target), bytes});
  }
  static Place place(const std::vector<char>& bytes) { return {reinterpret_cast<uintptr_t>(bytes.data())}; }
  std::vector<char> source;
  std::vector<std::vector<char>> targets;
  std::vector<Copy> copies;
};

void sizes(benchmark::internal::Benchmark* bench) { bench->RangeMultiplier(4)->Range(64 << 10, 16 << 20); }

void set_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * state.range(0) * static_cast<int64_t>(kDestinations));
}

void fan_out(benchmark::State& state, Copier::Options options) {
  Memory memory(static_cast<size_t>(state.range(0)));
  Copier copier(options);
  CopyJob job;
  job.copies = memory.copies;
  for (auto _ : state) {
    if (copier.start(job)) continue;
    while (!job.done()) std::this_thread::yield();
  }
  set_bytes(state);
}
BENCHMARK_CAPTURE(fan_out, inside_start, {.threads = 1, .inline_bytes_max = ~0ull})->Apply(sizes)->UseRealTime();
BENCHMARK_CAPTURE(fan_out, one_thread, {.threads = 1, .inline_bytes_max = 0})->Apply(sizes)->UseRealTime();
BENCHMARK_CAPTURE(fan_out, two_threads, {.threads = 2, .inline_bytes_max = 0})->Apply(sizes)->UseRealTime();

/// What a job costs beside its bytes.
BENCHMARK_CAPTURE(fan_out, one_thread_small, {.threads = 1, .inline_bytes_max = 0})->Arg(64)->UseRealTime();

/// Destination by destination, whole, by memcpy.
void one_after_the_other(benchmark::State& state) {
  Memory memory(static_cast<size_t>(state.range(0)));
  for (auto _ : state) {
    for (std::vector<char>& target : memory.targets) std::memcpy(target.data(), memory.source.data(), target.size());
    benchmark::ClobberMemory();
  }
  set_bytes(state);
}
BENCHMARK(one_after_the_other)->Apply(sizes)->UseRealTime();

}  // namespace
}  // namespace memkv::nixl
