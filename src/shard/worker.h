#pragma once
/// A worker: one thread, one reactor, the stores of its shards, its slots and its connections.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/intrusive_list.h"
#include "io/arena.h"
#include "io/mailbox.h"
#include "io/reactor.h"
#include "shard/connection.h"
#include "shard/op.h"
#include "shard/tenants.h"
#include "shard/walk.h"
#include "shard/worker_connections.h"
#include "shard/worker_pools.h"
#include "shard/worker_slots.h"
#include "shard/worker_stores.h"
#include "shard/worker_types.h"

namespace memkv::shard {

class RdmaPort;

/// The loop, and what passes through it: messages, ops whose turn it is, ticks, the way from opening to stopped.
/// Stores, pools, slots and connections are parts of their own. Thread: its own, but for what says otherwise.
class Worker {
 public:
  /// In this order; kFailed comes after kOpening.
  enum class State : uint8_t {
    kOpening,   ///< its stores recover; ops are answered kNotReady
    kReady,     ///< serves
    kDraining,  ///< was told to stop: ops under way end, no new ones begin
    kClosing,   ///< its stores close
    kStopped,   ///< its thread ends
    kFailed,    ///< a store could not be opened; main ends the process
  };

  /// Thread: main. Takes all memory. `identity` outlives the worker.
  static Result<std::unique_ptr<Worker>> make(std::unique_ptr<io::Reactor> reactor, const Identity& identity,
                                              WorkerOptions options);
  ~Worker();

  /// Until a kStop message has drained everything.
  void run();
  /// Starts opening the stores. run() does it.
  void start();
  /// One turn of the loop; waits at most `wait_ns` when there is nothing to do. run() calls it again and again.
  void turn(uint64_t wait_ns);
  /// Asserts that every pool is whole: nothing leaked. run() does it at its end.
  void check_whole() const;

  /// Thread: any. False when the mailbox is full.
  [[nodiscard]] bool push(const WorkerMessage& message) { return mailbox_.push(message); }
  State state() const { return state_.load(std::memory_order_acquire); }    ///< Thread: any
  Status open_status() const { return open_status_; }                       ///< Thread: any, once kFailed
  const WorkerStats& stats() const { return stats_; }                       ///< Thread: any
  const ClientBoard& client_board() const { return connections_.board(); }  ///< Thread: any
  uint16_t index() const { return options_.index; }                         ///< Thread: any
  std::string_view reactor_name() const { return reactor_->name(); }        ///< Thread: any

  const Identity& identity() const { return identity_; }
  const WorkerOptions& options() const { return options_; }
  io::Reactor& reactor() { return *reactor_; }
  uint64_t now_ns() const { return reactor_->now_ns(); }
  bool ready() const { return state() == State::kReady; }
  bool draining() const { return state() >= State::kDraining; }

  WorkerStores& stores() { return stores_; }
  WorkerPools& pools() { return pools_; }
  WorkerSlots& slots() { return slots_; }
  WorkerConnections& connections() { return connections_; }
  Tenants& tenants() { return tenants_; }

  /// Its step runs in this turn of the loop or the next.
  void run_later(Op& op);
  /// Its step runs in one of the next turns: one a turn, in order.
  void walk_on(Walk& walk) { walks_.push_back(walk); }
  /// Somebody who waits may find room now.
  void room_freed() { room_freed_ = true; }
  void count(std::atomic<uint64_t>& counter, uint64_t by = 1) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  WorkerStats& mutable_stats() { return stats_; }
  /// Brings stats() up to date.
  void publish();

 private:
  Worker(std::unique_ptr<io::Reactor> reactor, std::unique_ptr<io::SlotArena> arena, const Identity& identity,
         WorkerOptions options);

  void read_mailbox();
  void adopt(const WorkerMessage& message);
  void run_ready();
  void tick();
  void set_state(State state);
  void on_opened(Status status);
  void begin_drain();
  void step_drain();
  bool quiet() const { return ready_.empty() && walks_.empty() && connections_.quiet() && !room_freed_; }

  const std::unique_ptr<io::Reactor> reactor_;
  const Identity& identity_;
  const WorkerOptions options_;
  WorkerSlots slots_;
  std::unique_ptr<RdmaPort> rdma_;
  io::Mailbox<WorkerMessage> mailbox_;
  WorkerStats stats_;
  std::atomic<State> state_{State::kOpening};
  Status open_status_ = Status::kOk;

  WorkerStores stores_;
  WorkerPools pools_;
  WorkerConnections connections_;
  Tenants tenants_;

  OpQueue ready_;
  base::IntrusiveList<Walk, &Walk::link> walks_;
  bool room_freed_ = false;
  size_t turned_ = 0;  ///< what the turn had to do
  io::Timer tick_timer_;
  uint64_t last_tick_ns_ = 0;
  uint64_t drain_until_ns_ = 0;
};

}  // namespace memkv::shard
