#include <benchmark/benchmark.h>

#include <vector>

#include "base/checksum.h"
#include "base/hash.h"
#include "base/siphash.h"

namespace memkv::base {
namespace {

void set_bytes(benchmark::State& state) { state.SetBytesProcessed(state.iterations() * state.range(0)); }

void hash(benchmark::State& state) {
  const std::vector<std::byte> data(static_cast<size_t>(state.range(0)), std::byte{1});
  for (auto _ : state) benchmark::DoNotOptimize(xxh3(data, 1));
  set_bytes(state);
  state.SetLabel(hash_isa());
}
BENCHMARK(hash)->Arg(64)->Arg(4096)->Arg(65536)->Arg(2 << 20);

void hash_while_copying(benchmark::State& state) {
  const std::vector<std::byte> data(static_cast<size_t>(state.range(0)), std::byte{1});
  std::vector<std::byte> copy(data.size());
  for (auto _ : state) benchmark::DoNotOptimize(xxh3_copy(copy.data(), data.data(), data.size(), 1));
  set_bytes(state);
}
BENCHMARK(hash_while_copying)->Arg(4096)->Arg(65536)->Arg(2 << 20);

void copy_alone(benchmark::State& state) {
  const std::vector<std::byte> data(static_cast<size_t>(state.range(0)), std::byte{1});
  std::vector<std::byte> copy(data.size());
  for (auto _ : state) {
    std::memcpy(copy.data(), data.data(), data.size());
    benchmark::ClobberMemory();
  }
  set_bytes(state);
}
BENCHMARK(copy_alone)->Arg(65536)->Arg(2 << 20);

void chunk(benchmark::State& state) {
  const std::vector<std::byte> data(static_cast<size_t>(state.range(0)), std::byte{1});
  for (auto _ : state) benchmark::DoNotOptimize(chunk_checksum_of(data, 1));
  set_bytes(state);
}
BENCHMARK(chunk)->Arg(4096)->Arg(65536)->Arg(2 << 20);

void sip128(benchmark::State& state) {
  const std::vector<std::byte> data(static_cast<size_t>(state.range(0)), std::byte{1});
  for (auto _ : state) {
    SipStream stream(SipKey{1, 2});
    stream.update(data);
    benchmark::DoNotOptimize(stream.finish128());
  }
  set_bytes(state);
}
BENCHMARK(sip128)->Arg(16)->Arg(64)->Arg(256)->Arg(4096);

}  // namespace
}  // namespace memkv::base
