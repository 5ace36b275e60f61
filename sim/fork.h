#pragma once
/// Seeds in processes of their own: an assert that fails ends one seed's run and no more, and what dead processes of
/// the simulated world left behind goes with it.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sim/run.h"

namespace memkv::sim {

/// What a seed's process told of itself.
struct SeedReport {
  uint64_t seed = 0;
  RunResult result;
  bool crashed = false;  ///< it ended otherwise; `result.violation` holds its last words
};

/// Runs one seed in a child and waits for it.
SeedReport run_forked(uint64_t seed, const std::vector<size_t>* keep = nullptr);

/// Runs seeds in `jobs` children at once, in order, until `next` says there is no more (false). `tell` hears of each as
/// it ends.
void run_many(uint32_t jobs, const std::function<bool(uint64_t& seed)>& next,
              const std::function<void(const SeedReport&)>& tell);

}  // namespace memkv::sim
