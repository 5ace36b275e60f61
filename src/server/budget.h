#pragma once
/// What the server takes of the machine, worked out before it takes it: defaults follow the limits of its cgroup, and
/// a configuration that cannot fit is refused with the arithmetic.

#include <cstdint>
#include <string>

#include "io/limits.h"
#include "memkv/error.h"
#include "server/options.h"

namespace memkv::server {

/// The number of workers. With `epoll` each worker needs more threads, for its drives.
Result<uint32_t, Message> choose_workers(const Options& options, const io::Limits& limits, bool epoll);

/// Size of the store in memory mode when the configuration names none: a quarter of the memory that the process may
/// use.
uint64_t default_store_bytes(const io::Limits& limits);

/// What is known of the store and the workers before any of their memory is touched.
struct Needs {
  bool memory_mode = false;
  uint64_t store_bytes = 0;       ///< memory mode: of blocks
  uint64_t index_bytes = 0;       ///< of all shards
  uint64_t shard_bytes = 0;       ///< buffers of all shards
  uint64_t worker_bytes = 0;      ///< pools of all workers, but slots and connections
  uint64_t connection_bytes = 0;  ///< of one client connection
  uint64_t window_bytes = 0;      ///< of one shm connection
  uint32_t workers = 1;
};

struct Budget {
  uint64_t slot_bytes = 0;       ///< buffers of all workers
  uint64_t shm_bytes = 0;        ///< windows of all shm clients; 0: no room for a single one
  uint32_t connections_max = 0;  ///< a worker
  uint64_t bytes = 0;            ///< all together
};

/// kNoSpace: what was asked for does not fit; the message names the parts, the limit, who sets it, and what to lower.
Result<Budget, Message> plan_budget(const Options& options, const Needs& needs, const io::Limits& limits);

}  // namespace memkv::server
