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
  NixlAgent::Params params;  ///< parameters of the backend
  ClientOptions client;      ///< for cleaning up on the same servers
  std::string dir;           ///< for the plugins' counter files
  CarriedMeter* meter = nullptr;
  bool write = false;
  bool distinct = false;   ///< each descriptor of a batch has its own object; else all share one
  bool by_client = false;  ///< use our own client instead of the plugin, for comparison
  bool recreate = true;    ///< a fresh request in each iteration; else one is posted again and again
  uint64_t block_bytes = 0;
  uint32_t batch = 1, threads = 1;
  uint64_t iterations = 0;  ///< of each thread; 0: as `bytes` says
  uint64_t warmup = 1;
  uint64_t bytes = 0;  ///< to move, by all threads together
  double seconds_max = 1;
};

struct NixlResult {
  uint64_t requests = 0, descriptors = 0, bytes = 0;  ///< logical: each descriptor counts with all its bytes
  uint64_t failures = 0, verified = 0, mismatches = 0;
  double seconds = 0;
  base::Histogram latency;  ///< of a request
  // From the plugin's counters, over all of its requests.
  double wire_share = 1;  ///< bytes over the wire for each byte delivered
  Carried carried;        ///< as servers count it: the timed part, and reading back
  double wire_ops_per_request = 0, copies_per_request = 0, plan_seconds_per_request = 0;
  double gib_per_s() const { return seconds > 0 ? static_cast<double>(bytes) / seconds / (1 << 30) : 0; }
  double wire_gib_per_s() const { return gib_per_s() * wire_share; }
  double descriptor_us(double percentile, uint32_t batch) const {
    return static_cast<double>(latency.percentile_ns(percentile)) / 1e3 / batch;
  }
};

/// Adds to `result`. Filling and poisoning buffers and comparing every byte are not timed. A request of its own reads
/// back what was written.
Result<void, Message> run_nixl(const NixlPlan& plan, NixlResult& result);

/// The sentinel check: writes 0xaa, sets the buffer to 0x00 and reads it back from the servers. Returns the number of
/// wrong bytes.
Result<uint64_t, Message> sentinel_check(const NixlPlan& plan);

}  // namespace memkv::bench
