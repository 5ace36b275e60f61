#pragma once
/// The server's state and counters as JSON, for `memkv status`.

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "format/format.h"
#include "server/door.h"
#include "server/storage.h"
#include "shard/worker.h"

namespace memkv::server {

/// kMissing: it was not there at start, or out already. kOut: it failed while the server ran.
enum class DriveState : uint8_t { kIn, kMissing, kOut };

/// What the status is made of. Main fills it before the door opens; from then on only its atomics change. Thread: any.
struct StatusSources {
  std::string name, address, mode, io, congestion;
  uint64_t started_ns = 0;
  uint64_t started_wall_s = 0;
  uint64_t slot_pool_bytes = 0;
  uint64_t planned_bytes = 0;  ///< of memory, as worked out at start
  struct Room {
    uint64_t raw_bytes = 0;
    uint64_t block_bytes = 0;  ///< the average block, as stated: memory.index_block_size
  } room;
  uint32_t shard_count = 0;
  std::vector<DriveInfo> drives;
  std::array<std::atomic<DriveState>, format::kDrivesMax> drive_states{};
  std::array<std::atomic<const char*>, format::kDrivesMax> drive_reasons{};  ///< why drive i is out; null: it is in
  std::vector<std::string> missing;
  std::vector<const shard::Worker*> workers;
  const Door* door = nullptr;
  transport::rdma::Devices* rdma = nullptr;
  std::string shm_socket;  ///< path; empty: no shared memory
  const transport::ShmBudget* shm_budget = nullptr;
};

/// The status for a client of this namespace: it sees the names of its own clients only, but the counters of all.
std::string status_json(const StatusSources& census, uint64_t namespace_id);

}  // namespace memkv::server
