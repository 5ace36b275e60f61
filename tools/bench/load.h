#pragma once
/// Load on MemKV: what a run does, and its result.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "memkv/client.h"

namespace memkv::bench {

enum class Verify : uint8_t { kFull, kSampled, kOff };
enum class Order : uint8_t { kUniform, kZipf, kSequential };

/// The keys of one block size. A key is a number, with the generation that was written last. The runs over it share it.
struct KeySpace {
  std::string prefix;
  uint64_t block_bytes = 0;
  std::vector<uint32_t> generations;  ///< by key number; 0: never written
  std::vector<uint32_t> salts;        ///< by key number, a part of the key; empty: there are none
  std::string key(uint64_t number) const;
};

struct LoadPlan {
  ClientOptions client;
  KeySpace* keys = nullptr;
  double read_share = 0;    ///< 0: only writes, 1: only reads, between: mixed
  bool first_fill = false;  ///< each key once, in order
  Order order = Order::kUniform;
  Verify verify = Verify::kFull;
  uint32_t threads = 1, batch = 1, depth = 8;
  uint64_t bytes = 0;         ///< to move, by all threads together
  uint64_t window_bytes = 0;  ///< of the buffers of all threads together; one round moves this much
  double seconds_max = 1e9;
  Deadline deadline{0};
  std::function<double()> server_cpu;
  std::function<void(uint64_t bytes)> progress;
};

struct LoadResult {
  uint64_t ops = 0, bytes = 0, misses = 0, failures = 0;
  uint64_t verified = 0, mismatches = 0;
  double seconds = 0, client_cpu = 0, server_cpu = 0;
  std::string first_failure;  ///< empty: there was none
  base::Histogram latency;    ///< of a batch, from submit to completion
  double gib_per_s() const { return seconds > 0 ? static_cast<double>(bytes) / seconds / (1 << 30) : 0; }
  double ops_per_s() const { return seconds > 0 ? static_cast<double>(ops) / seconds : 0; }
  double cpu_s_per_gib() const {
    return bytes > 0 ? (client_cpu + server_cpu) / static_cast<double>(bytes) * (1 << 30) : 0;
  }
};

/// Fails only if no run is possible (bad options). Ops that fail are counted in the result.
Result<void, Message> run_load(const LoadPlan& plan, LoadResult& result);

}  // namespace memkv::bench
