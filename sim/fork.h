#pragma once
/// Runs each seed in a process of its own. An assert that fails ends that seed only, and the memory that killed
/// simulated processes left behind goes with the process.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sim/run.h"

namespace memkv::sim {

/// What a seed's process reported.
struct SeedReport {
  uint64_t seed = 0;
  RunResult result;
  bool crashed = false;  ///< it ended in another way; `result.violation` holds its last words
};

/// Runs one seed in a child and waits for it.
SeedReport run_forked(uint64_t seed, const Run::Options& options = {}, const std::vector<size_t>* keep = nullptr);

/// Runs seeds in `jobs` children at once, in order, until `next` returns false. Calls `tell` as each one ends.
void run_many(uint32_t jobs, const Run::Options& options, const std::function<bool(uint64_t& seed)>& next,
              const std::function<void(const SeedReport&)>& tell);

}  // namespace memkv::sim
