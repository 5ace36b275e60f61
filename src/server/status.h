#pragma once
/// The server's figures as JSON, for `memkv status`.

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

enum class DriveState : uint8_t { kIn, kMissing, kOut };

/// All that status is made of. Filled by main before the door opens; afterwards only atomics move. Thread: any.
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
  std::array<std::atomic<const char*>, format::kDrivesMax> drive_reasons{};  ///< why it is out; null: it is not
  std::vector<std::string> missing;
  std::vector<const shard::Worker*> workers;
  const Door* door = nullptr;
  transport::rdma::Devices* rdma = nullptr;
  std::string shm_socket;  ///< empty: no shared memory
  const transport::ShmBudget* shm_budget = nullptr;
};

/// For a client of this namespace: it sees the names of its own clients, and the figures of all.
std::string status_json(const StatusSources& census, uint64_t namespace_id);

}  // namespace memkv::server
