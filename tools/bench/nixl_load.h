#pragma once
/// Load through the NIXL plugin: one measured point.

#include <cstdint>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "memkv/client.h"
#include "tools/bench/carried.h"
#include "tools/bench/nixl_capi.h"

namespace memkv::bench {

struct NixlPlan {
  const NixlApi* api = nullptr;
  NixlAgent::Params params;  ///< of the backend
  ClientOptions client;      ///< to the same servers, for clearing up
  std::string dir;           ///< for the plugins' counters
  CarriedMeter* meter = nullptr;
  bool write = false;
  bool distinct = false;   ///< each descriptor of a batch has an object of its own; else all have one
  bool by_client = false;  ///< by our own client instead of the plugin: what it is measured against
  bool recreate = true;    ///< a fresh request each iteration; else one is posted again and again
  uint64_t block_bytes = 0;
  uint32_t batch = 1, threads = 1;
  uint64_t iterations = 0;  ///< of a thread; 0: by `bytes`
  uint64_t warmup = 1;
  uint64_t bytes = 0;  ///< to move, all threads together
  double seconds_max = 1;
};

struct NixlResult {
  uint64_t requests = 0, descriptors = 0, bytes = 0;  ///< logical: every descriptor counts whole
  uint64_t failures = 0, verified = 0, mismatches = 0;
  double seconds = 0;
  base::Histogram latency;  ///< of a request
  // From the plugin's counters, over all of its requests.
  double wire_share = 1;  ///< bytes over the wire for each byte delivered
  Carried carried;        ///< from the servers: what was timed, and what read it back
  double wire_ops_per_request = 0, copies_per_request = 0, plan_seconds_per_request = 0;
  double gib_per_s() const { return seconds > 0 ? static_cast<double>(bytes) / seconds / (1 << 30) : 0; }
  double wire_gib_per_s() const { return gib_per_s() * wire_share; }
  double descriptor_us(double percentile, uint32_t batch) const {
    return static_cast<double>(latency.percentile_ns(percentile)) / 1e3 / batch;
  }
};

/// Adds to `result`. Buffers are filled or poisoned, and every byte compared, outside the clock. What was written is
/// read back by a request of its own.
Result<void, Message> run_nixl(const NixlPlan& plan, NixlResult& result);

/// The seed's check: 0xaa is written, the buffer set to 0x00, and read back from the servers. The number of wrong
/// bytes.
Result<uint64_t, Message> sentinel_check(const NixlPlan& plan);

}  // namespace memkv::bench
