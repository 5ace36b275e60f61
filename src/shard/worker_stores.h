#pragma once
/// The shards of a worker: their devices, their stores, how these open and close.

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "engine/store.h"
#include "io/device.h"
#include "shard/op.h"
#include "shard/worker_types.h"

namespace memkv::shard {

class RdmaPort;

/// Thread: main until the worker starts, then worker.
class WorkerStores {
 public:
  /// All stores have opened, or all have closed. `status`: kOk, or what one of them could not.
  using Fn = void (*)(void* context, Status status);

  WorkerStores(io::Reactor& reactor, const Identity& identity);

  /// Before open(). Devices of the plan's slices must be bound to the worker's reactor.
  void plan(ShardPlan plan) { plans_.push_back(std::move(plan)); }
  void keep(std::unique_ptr<io::BlockDevice> device) { devices_.push_back(std::move(device)); }
  /// Instead of a plan: a store that is there (tests).
  void add(uint32_t number, std::unique_ptr<engine::Store> store);

  /// Makes the planned stores and starts opening all of them, side by side. `rdma`: may be null.
  void open(bool prefault, RdmaPort* rdma, Fn on_done, void* context);
  bool at_rest() const { return left_ == 0; }  ///< none is opening or closing
  void close(Fn on_done, void* context);
  /// Their timers are the worker's thread's.
  void destroy();

  /// Null: not ours.
  Shard* find(std::string_view key, uint64_t namespace_id);
  std::vector<Shard>& shards() { return shards_; }
  uint64_t block_bytes_max() const { return block_bytes_max_; }  ///< that all stores take
  void take_drives_out(uint64_t drives);
  /// The sum of all stores.
  void publish(WorkerStats& stats) const;
  void check_whole() const;

 private:
  void make_planned(bool prefault, RdmaPort* rdma);
  void begin(Fn on_done, void* context);
  void one_done(Status status);

  io::Reactor& reactor_;
  const Identity& identity_;
  std::vector<std::unique_ptr<io::BlockDevice>> devices_;
  std::vector<ShardPlan> plans_;
  std::vector<Shard> shards_;
  std::array<Shard*, 32> shard_by_number_{};
  uint64_t block_bytes_max_ = 0;

  // Opening, or closing.
  std::vector<engine::StoreOp> ops_;
  size_t left_ = 0;
  Status status_ = Status::kOk;
  Fn on_done_ = nullptr;
  void* context_ = nullptr;
};

}  // namespace memkv::shard
