#pragma once
/// Works out what the server takes of the machine, before it takes anything. Defaults follow the limits of its cgroup.
/// A configuration that cannot fit is refused, and the message shows the sum.

#include <cstdint>
#include <string>

#include "io/limits.h"
#include "memkv/error.h"
#include "server/options.h"

namespace memkv::server {

/// How many workers to start. With `epoll` each worker needs more threads, for its drives.
Result<uint32_t, Message> choose_workers(const Options& options, const io::Limits& limits, bool epoll);

/// Size of the store in memory mode when the configuration names none: a quarter of the memory that the process may
/// use.
uint64_t default_store_bytes(const io::Limits& limits);

/// The memory that store and workers will need, as far as it is fixed.
struct Needs {
  bool memory_mode = false;
  uint64_t store_bytes = 0;                ///< memory mode: of blocks
  uint64_t index_bytes = 0;                ///< of all shards
  uint64_t shard_bytes = 0;                ///< buffers of all shards
  uint64_t worker_bytes = 0;               ///< pools of all workers, without slots and connections
  uint64_t connection_bytes = 0;           ///< of one client connection
  uint64_t window_bytes = 0;               ///< of one shm connection
  uint64_t tier_bytes_min = ~uint64_t{0};  ///< less than this for all shards is no RAM tier
  uint32_t workers = 1;
  uint64_t namespaces = 1;
};

/// What the server may take, as plan_budget() divides it.
struct Budget {
  uint64_t slot_bytes = 0;       ///< buffers of all workers
  uint64_t tier_bytes = 0;       ///< RAM tiers of all shards; 0: there are none
  uint64_t shm_bytes = 0;        ///< windows of all shm clients; 0: there is no room for even one
  uint32_t connections_max = 0;  ///< of each worker
  uint64_t bytes = 0;            ///< all together
};

/// kNoSpace: what was asked for does not fit. The message names the parts, the limit, what sets it, and what to lower.
Result<Budget, Message> plan_budget(const Options& options, const Needs& needs, const io::Limits& limits);

}  // namespace memkv::server
