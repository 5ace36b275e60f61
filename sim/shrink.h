#pragma once
/// Makes a failing seed small: leaves out actions as long as it still fails in the same way.

#include <cstdint>

#include "sim/run.h"

namespace memkv::sim {

/// Prints the command that replays what is left. False: the seed does not fail.
bool shrink_seed(uint64_t seed, const Run::Options& options);

}  // namespace memkv::sim
