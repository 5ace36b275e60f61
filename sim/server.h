#pragma once
/// A simulated server process: the real volume, workers, stores, handshakes and links on simulated threads.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "shard/worker.h"
#include "sim/door.h"
#include "sim/drive.h"
#include "sim/loop.h"
#include "sim/network.h"
#include "sim/rdma.h"
#include "volume/volume.h"
#include "wire/handshake.h"

namespace memkv::sim {

/// A tenant: a credential that is let in.
struct Tenant {
  std::string name;
  wire::Secret secret{};
};

struct ServerSpec {
  uint32_t host = 1;
  std::string name = "s0";
  uint32_t workers = 1;
  uint64_t index_entries_max = 20'000;
  uint64_t tier_bytes = 0;        ///< of each shard
  uint32_t connections_max = 32;  ///< of each worker
  uint32_t pool_scale = 1;        ///< times the smallest pools; those are often empty
  std::vector<Tenant> tenants;
  std::vector<std::string> accept_loss;
  ShmSpec shm;
};

/// Sums over all its stores of what they counted and gave up.
struct ServerCounts {
  uint64_t dropped = 0;  ///< acknowledged blocks that are gone for a reason that was counted
  engine::StoreCounters store{};
};

/// One life of a server. A life that is killed is left as it lies; its memory is given back when the run's process
/// ends. Thread: the world's.
class ServerProcess {
 public:
  /// Opens the drives that are there, as the server's main does. An error means that the server refuses to start.
  static Result<std::unique_ptr<ServerProcess>, Message> start(World& world, Network& network, const ServerSpec& spec,
                                                               std::vector<Drive*> drives);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  bool ready() const;
  bool failed() const;
  bool stopped() const;
  /// SIGTERM: it drains and closes; then stopped() is true.
  void stop();
  /// kill -9: nothing of it runs any more.
  void kill();
  bool killed() const { return killed_; }
  /// SIGSTOP now, SIGCONT at that time.
  void pause_until(uint64_t ns);
  /// One of its threads gets no CPU until then.
  void stall_thread(uint64_t pick, uint64_t ns);
  ServerCounts counts() const;
  uint64_t drives_out() const { return drives_out_; }  ///< bitmap
  uint64_t namespace_id(size_t tenant) const { return namespace_ids_[tenant]; }
  size_t worker_count() const { return workers_.size(); }
  shard::Worker& worker(size_t i);
  const ServerSpec& spec() const { return spec_; }
  const volume::Volume& volume() const { return *volume_; }
  /// Asserts that every pool is whole. Call it after stopped(). Returns the bytes of windows that its clients still have.
  uint64_t check_whole() const;
  /// Somebody removes the file of its unix socket.
  void remove_socket();
  const std::string& socket_path() const;

 private:
  class WorkerActor;
  class DoorActor;
  class MainActor;

  ServerProcess(World& world, Network& network, const ServerSpec& spec);
  Result<void, Message> open(const std::vector<Drive*>& drives);
  Result<void, Message> make_worker(uint32_t index, const std::vector<uint32_t>& shards);
  static void on_drive_out(void* context, uint8_t drive_index, const char* why);
  void take_drives_out();

  World& world_;
  Network& network_;
  const ServerSpec spec_;
  const uint64_t clock_offset_ns_;
  std::vector<std::unique_ptr<io::DriveFile>> files_;
  std::unique_ptr<volume::Volume> volume_;
  std::vector<uint64_t> namespace_ids_;
  shard::Identity identity_;
  std::unique_ptr<transport::ShmBudget> shm_budget_;
  std::unique_ptr<ProcessRdma> rdma_;
  std::vector<std::unique_ptr<WorkerActor>> workers_;
  std::unique_ptr<DoorActor> door_;
  std::unique_ptr<MainActor> main_;
  uint64_t drives_failed_ = 0, drives_out_ = 0;
  bool killed_ = false;
};

}  // namespace memkv::sim
