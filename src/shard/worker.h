#pragma once
/// A worker: one thread, one reactor, the stores of its shards, its slots and its connections.

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
#include "io/device.h"
#include "io/mailbox.h"
#include "io/reactor.h"
#include "shard/client_board.h"
#include "shard/connection.h"
#include "shard/known_clients.h"
#include "shard/op.h"
#include "shard/pool.h"
#include "shard/reply_frame.h"
#include "shard/request_ops.h"
#include "shard/tenants.h"
#include "wire/handshake.h"
#include "wire/messages.h"

namespace memkv::transport::rdma {
class Devices;
}

namespace memkv::shard {

class RdmaPort;

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
  std::atomic<uint64_t> slots_in_use{0}, slots_total{0}, deadlines_missed{0};
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
  bool prefault_devices = false;             ///< memory mode: touch all of the shards' memory before opening
};

/// A shard's store before it exists: made in the worker's thread, so that all of them open in parallel.
struct ShardPlan {
  uint32_t number = 0;
  engine::StoreOptions options;
};

/// Thread: its own, but for what says otherwise.
class Worker {
 public:
  enum class State : uint8_t { kOpening, kReady, kDraining, kClosing, kStopped, kFailed };

  /// Thread: main. Takes all memory. `identity` outlives the worker.
  static Result<std::unique_ptr<Worker>> make(std::unique_ptr<io::Reactor> reactor, const Identity& identity,
                                              WorkerOptions options);
  ~Worker();
  /// What a worker takes of memory at start, beside its slots; and what a client's connection takes of it at most.
  static uint64_t pool_bytes(const WorkerOptions& options);
  static uint64_t connection_bytes();
  /// Thread: main, before run(). Devices of the plan's slices must be bound to reactor().
  void plan_shard(ShardPlan plan) { plans_.push_back(std::move(plan)); }
  void keep(std::unique_ptr<io::BlockDevice> device) { devices_.push_back(std::move(device)); }
  /// Instead of a plan: a store that is there (tests).
  void add_store(uint32_t number, std::unique_ptr<engine::Store> store);

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
  State state() const { return state_.load(std::memory_order_acquire); }  ///< Thread: any
  Status open_status() const { return open_status_; }                     ///< Thread: any, once kFailed
  const WorkerStats& stats() const { return stats_; }                     ///< Thread: any
  const ClientBoard& client_board() const { return client_board_; }       ///< Thread: any
  uint16_t index() const { return options_.index; }                       ///< Thread: any
  size_t shard_count() const { return plans_.size() + shards_.size(); }
  std::string_view reactor_name() const { return reactor_->name(); }  ///< Thread: any

  io::Reactor& reactor() { return *reactor_; }
  const Identity& identity() const { return identity_; }
  io::SlotArena& slots() { return *slots_; }
  uint64_t now_ns() const { return reactor_->now_ns(); }
  bool ready() const { return state() == State::kReady; }
  bool draining() const { return state() >= State::kDraining; }

  /// Null: not ours.
  Shard* shard_of(std::string_view key, uint64_t namespace_id);
  std::vector<Shard>& shards() { return shards_; }

  /// A fresh connection without a link yet; null: its namespace has all that it may have.
  Connection* open_connection(uint64_t namespace_id);
  void adopt(const WorkerMessage& message);

  // For connections and ops.
  Pool<Op>& ops() { return ops_; }
  Pool<OpsFrame>& ops_frames() { return ops_frames_; }
  Pool<Upload>& uploads() { return uploads_; }
  Pool<ListOp>& list_ops() { return list_ops_; }
  Pool<ExistsOp>& exists_ops() { return exists_ops_; }
  /// Its step runs in one of the next turns: one a turn, in order.
  void walk_on(Walk& walk) { walks_.push_back(walk); }
  Pool<StatusOp>& status_ops() { return status_ops_; }
  KnownClients& clients() { return clients_; }
  ClientBoard& client_board() { return client_board_; }
  /// A connection of the client is over.
  void part_from(KnownClient& client);
  /// One connection more, or less.
  void count_connection(Transport transport, int32_t change) {
    stats_.connections_by_transport[static_cast<size_t>(transport)].fetch_add(static_cast<uint32_t>(change),
                                                                              std::memory_order_relaxed);
  }
  /// Brings stats() up to date.
  void publish();
  ReplyFrame* take_frame(Holder& holder);
  /// What is left is for connections that have none on the way.
  bool few_frames() const { return frames_.free() < options_.frames_max / 4; }
  void give_back(ReplyFrame& frame);
  void run_later(Op& op);
  Tenants& tenants() { return tenants_; }
  /// May so many more bytes of a client be in a log before they are complete? Its tenant has a part of what the slots
  /// hold, and of that one client at most half where there are others.
  bool room_in_log(const Holder& holder, uint32_t bytes) const;
  std::string no_room_text(const Tenant& tenant) const;
  /// None: all are taken, or the free ones are others' share.
  io::Slot take_slot(Holder& holder, uint32_t bytes);
  void give_slot(Holder& holder, io::Slot slot);
  wire::Credit compute_credit(const Holder& holder) const;
  uint64_t upload_idle_ns() const { return options_.upload_idle_ns; }
  void room_freed() { room_freed_ = true; }
  void dirty(Connection& connection);
  std::byte* scratch() { return scratch_.get(); }  ///< 2 MiB that nobody reads: payloads of rejected ops
  uint64_t new_upload_id(const Upload& upload);
  Upload* find_upload(uint64_t id);
  uint64_t block_bytes_max() const { return block_bytes_max_; }
  void count(std::atomic<uint64_t>& counter, uint64_t by = 1) {
    counter.store(counter.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  WorkerStats& mutable_stats() { return stats_; }

 private:
  Worker(std::unique_ptr<io::Reactor> reactor, std::unique_ptr<io::SlotArena> slots, const Identity& identity,
         WorkerOptions options);

  void read_mailbox();
  void run_ready();
  void serve_waiters();
  void flush_dirty();
  void reap();
  void tick();
  void cut_stalled(uint64_t step_ns);
  void turn_away(const WorkerMessage& message);
  std::unique_ptr<transport::Link> make_link(const WorkerMessage& message, Connection& connection);
  void set_state(State state);
  void on_opened(engine::StoreOp& op);
  void begin_drain();
  void step_drain();
  void close_stores();

  bool quiet() const { return ready_.empty() && walks_.empty() && dirty_.empty() && reaping_.empty() && !room_freed_; }

  std::unique_ptr<io::Reactor> reactor_;
  std::unique_ptr<io::SlotArena> slots_;
  const Identity& identity_;
  WorkerOptions options_;
  std::unique_ptr<RdmaPort> rdma_;
  io::Mailbox<WorkerMessage> mailbox_;
  WorkerStats stats_;
  std::atomic<State> state_{State::kOpening};
  Status open_status_ = Status::kOk;

  std::vector<std::unique_ptr<io::BlockDevice>> devices_;
  std::vector<ShardPlan> plans_;
  std::vector<Shard> shards_;
  std::array<Shard*, 32> shard_by_number_{};
  std::vector<engine::StoreOp> lifecycle_ops_;
  size_t lifecycle_left_ = 0;
  uint64_t block_bytes_max_ = 0;

  Pool<Op> ops_;
  Pool<OpsFrame> ops_frames_;
  Pool<Upload> uploads_;
  Pool<ReplyFrame> frames_;
  Pool<ListOp> list_ops_;
  Pool<ExistsOp> exists_ops_;
  Pool<StatusOp> status_ops_;
  Pool<Connection> connections_;
  KnownClients clients_;
  ClientBoard client_board_;
  Tenants tenants_;
  std::unique_ptr<std::byte[]> scratch_;
  uint64_t slot_bytes_ = 0;  ///< of all slots
  uint64_t upload_serial_ = 0;

  OpQueue ready_;
  base::IntrusiveList<Walk, &Walk::link> walks_;
  base::IntrusiveList<Connection, &Connection::dirty_link> dirty_;
  base::IntrusiveList<Connection, &Connection::dirty_link> stuck_;  ///< dirty, and no frame is free
  base::IntrusiveList<Connection, &Connection::reaping_link> reaping_;
  base::IntrusiveList<Connection, &Connection::worker_link> open_;
  bool room_freed_ = false;
  bool frame_freed_ = false;
  size_t turned_ = 0;  ///< what the turn had to do
  io::Timer tick_timer_;
  uint64_t last_tick_ns_ = 0;
  uint64_t drain_until_ns_ = 0;
};

}  // namespace memkv::shard
