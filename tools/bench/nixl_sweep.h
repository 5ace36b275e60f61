#pragma once
/// The measured points of `memkv-bench nixl`, one block size after the other.

#include <vector>

#include "tools/bench/nixl_load.h"
#include "tools/bench/options.h"
#include "tools/bench/peer.h"
#include "tools/bench/target.h"
#include "tools/bench/ways.h"

namespace memkv::bench {

/// Measures all ways and our client by turns at each point. Prints lines and the summary, and writes the reports.
class NixlSweep {
 public:
  NixlSweep(const NixlOptions& options, NixlPlan plan, const Target& target, std::vector<Way> ways, const Peer& bare);
  /// Runs the sweep. Returns the exit code.
  int run(uint64_t block, uint64_t last);

 private:
  /// One way's part of a point.
  struct Measured {
    NixlResult plugin, client;
  };

  void describe();
  Result<void, Message> run_block(uint64_t block);
  Result<void, Message> run_point(bool write, uint32_t batch, bool distinct);
  Result<void, Message> run_turn(const NixlPlan& plan, const Way& way, bool beside, Measured& measured);
  void keep(const NixlPlan& plan, size_t way, const Measured& measured);
  Json json_of(const NixlPlan& plan, size_t way, const Measured& measured) const;
  Result<void, Message> check_sentinel();
  NixlPlan plan_of(NixlPlan plan, const Way& way) const;
  double expected(const NixlPlan& plan, size_t way) const;
  double bare_round_trip(uint64_t block) const;
  int finish();

  const NixlOptions& options_;
  NixlPlan plan_;
  const Target& target_;
  const std::vector<Way> ways_;
  const Peer& bare_;
  std::vector<uint32_t> batches_;
  Json report_;
  double bare_us_ = 0;
  std::vector<double> single_gib_per_s_;  ///< by way: reads of one block, for the size that runs now
  uint64_t wrong_ = 0, failures_ = 0, verified_ = 0, sentinel_blocks_ = 0, sentinel_wrong_ = 0;
};

}  // namespace memkv::bench
