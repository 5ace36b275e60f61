#pragma once
/// What a worker is given and what it tells: its options, its orders, its figures.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/siphash.h"
#include "engine/store.h"
#include "io/arena.h"
#include "shard/client_board.h"
#include "transport/link.h"
#include "transport/one_copy.h"
#include "wire/handshake.h"
#include "wire/messages.h"

namespace memkv::transport::rdma {
class Devices;
}

namespace memkv::shard {

inline constexpr size_t kMailboxCapacity = 4096;  ///< messages to a worker that it has not read

/// What all workers of a server know alike. Immutable while they run; the functions may be called from any thread.
struct Identity {
  std::array<uint8_t, 16> boot_id{};
  std::array<uint8_t, 16> store_id{};
  uint64_t shard_seed = 0;
  base::SipKey digest_key{};
  uint16_t worker_count = 1;
  uint8_t shard_count = 1;
  std::array<uint8_t, 32> worker_of_shard{};
  /// Text of STATUS_REPLY, for a client of this namespace.
  std::string (*status_json)(void* context, uint64_t namespace_id) = nullptr;
  /// A drive was taken out by a store of this worker: membership must follow.
  void (*on_drive_out)(void* context, uint8_t drive_index, const char* why) = nullptr;
  /// Something that main waits for has changed: state(), mostly.
  void (*on_change)(void* context) = nullptr;
  void* context = nullptr;
};

/// From other threads to a worker.
struct WorkerMessage {
  enum class Kind : uint8_t { kNone, kConnection, kDrivesOut, kStop } kind = Kind::kNone;
  uint64_t drives = 0;  ///< kDrivesOut: a bit each
  int fd = -1;          ///< kConnection: the worker's from here on
  uint64_t namespace_id = 0;
  wire::SessionKeys keys{};
  uint32_t features = 0;                         ///< kConnection: wire::Features that both ends have
  ClientName client_name;                        ///< kConnection
  std::optional<wire::RdmaEnd> rdma;             ///< kConnection: the client's queue pair
  std::shared_ptr<transport::ShmWindow> window;  ///< of a shm connection
};

/// The sum over a worker's stores, and its own figures, for other threads to read. Relaxed: each figure is whole,
/// together they may be of two moments.
struct WorkerStats {
  static constexpr size_t kStoreWords = sizeof(engine::StoreCounters) / sizeof(uint64_t);
  std::array<std::atomic<uint64_t>, kStoreWords> store{};
  std::atomic<uint32_t> connections{0};
  std::array<std::atomic<uint32_t>, kTransportCount> connections_by_transport{};  ///< by Transport
  std::atomic<uint64_t> ops{0}, ops_in_use{0}, busy{0}, turned_away{0}, wrong_worker{0}, fenced{0},
      checksum_mismatches{0}, connections_cut{0};
  std::array<std::atomic<uint64_t>, kTransportCount> payload_bytes_in{}, payload_bytes_out{};  ///< by Transport
  transport::OneCopyStats one_copy;
  std::atomic<uint64_t> slots_in_use{0}, slots_total{0}, deadlines_missed{0}, prefetches_refused{0};
  engine::StoreCounters store_counters() const;
};

struct WorkerOptions {
  uint16_t index = 0;
  uint32_t ops_max = 4096;
  uint32_t frames_max = 2048;
  uint32_t connections_max = 1024;
  uint32_t uploads_max = 512;
  std::vector<uint64_t> namespaces;  ///< that may come: connections are kept for each
  std::vector<io::SlotClass> slots;
  uint64_t spin_ns = 50'000;  ///< poll at least this long after the last event before sleeping; 0 on one CPU
  uint64_t drain_ns = 5'000'000'000;
  uint64_t stalled_ns = 10'000'000'000;      ///< a client that takes no replies, or sends half a payload, is cut
  uint64_t introduce_ns = 5'000'000'000;     ///< a connection that does not say which client it is of is cut
  uint64_t upload_idle_ns = 30'000'000'000;  ///< nothing of a large block came: its upload ends
  transport::rdma::Devices* rdma = nullptr;  ///< outlives the worker; null: this server has none
  bool tcp_one_copy = false;                 ///< payloads of gets are lent to sockets, where that can be
  bool prefault_devices = false;             ///< memory mode: touch all of the shards' memory before opening
};

/// A shard's store before it exists: made in the worker's thread, so that all of them open in parallel.
struct ShardPlan {
  uint32_t number = 0;
  engine::StoreOptions options;
};

}  // namespace memkv::shard
