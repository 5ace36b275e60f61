#pragma once
/// The parts of a store that its ops are made with.

#include "engine/blocks.h"
#include "engine/buffers.h"
#include "engine/completions.h"
#include "engine/drives.h"
#include "engine/key_locks.h"
#include "engine/op_pool.h"
#include "engine/reservations.h"
#include "engine/sequences.h"
#include "engine/tick.h"
#include "engine/tier.h"
#include "engine/uploads.h"

namespace memkv::engine {

/// What stands below the ops, in the order of who knows whom: each part knows some of those above it in this list, and
/// none of those below. Borrowed from the store.
struct Parts {
  io::Reactor& reactor;
  const StoreOptions& options;
  StoreCounters& counters;
  Completions& completions;
  Tick& tick;
  OpPool& pool;
  KeyLocks& locks;
  Buffers& buffers;
  Drives& drives;
  Sequences& sequences;
  Blocks& blocks;
  Tier& tier;
  Reservations& reservations;
  Uploads& uploads;
};

}  // namespace memkv::engine
