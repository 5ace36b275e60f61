#pragma once
/// One thread's client machine: a reactor, the servers, and everything under way.

#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "base/random.h"
#include "client/client_identity.h"
#include "client/placement.h"
#include "client/records.h"
#include "client/server.h"
#include "client/settings.h"

namespace memkv::transport::rdma {
class Devices;
class Poller;
}  // namespace memkv::transport::rdma

namespace memkv::client {

/// A batch of more ops takes turns with others.
inline constexpr size_t kOpsAtOnce = 16;

/// Thread: the context's writes, any reads.
struct Counters {
  base::Counter ops, hits, misses, failures, unknown, retries, bytes_read, bytes_written, corrupt, connects,
      breaker_opened, staged_bytes, transport_switches, fenced;
  void add_to(ClientCounters& sum) const;
};

/// Thread: the one that drives it. Every call submitted completes exactly once, by the deadlines of its ops.
class Context {
 public:
  static Result<std::unique_ptr<Context>, Message> make(const Settings& settings);
  /// On a loop that is there: the simulator's.
  static Result<std::unique_ptr<Context>, Message> make(const Settings& settings, std::unique_ptr<io::Reactor> reactor);
  ~Context();  ///< after shut_down()
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// Takes the records that a submit of the batch needs: it is then not stopped halfway for lack of memory.
  void reserve(Call& call, const Batch::Impl& batch);
  void submit(Call& call);
  void feed(Call& call, uint32_t op, uint64_t bytes);
  void cancel(Call& call);  ///< soon complete: kCanceled, or kUnknown for a change that may have left
  /// Cancels everything, closes all connections and waits until memory and sockets are quiet.
  void shut_down();
  size_t calls() const { return calls_.size(); }
  size_t run_once(uint64_t wait_ns) { return reactor_->run_once(wait_ns); }
  void adopt() { reactor_->adopt(); }  ///< the calling thread drives it from here on
  int wait_fd() const { return reactor_->wait_fd(); }
  uint64_t arm_wait() { return reactor_->arm_wait(); }
  std::vector<ServerLine> describe() const;
  const Placement& placement() const { return placement_; }

  // For servers and connections.
  io::Reactor& reactor() { return *reactor_; }
  transport::rdma::Poller* rdma() { return rdma_.get(); }  ///< null: there is no RDMA for this client
  const std::string& why_no_rdma() const { return why_no_rdma_; }
  const std::shared_ptr<transport::rdma::Devices>& rdma_host() const {
    return rdma_host_;
  }  ///< null: none. Thread: any
  size_t rail_count() const;
  /// Rails whose devices know all of this GPU memory, as bits.
  uint32_t gpu_rails(std::span<const iovec> pieces);
  const Settings& settings() const { return settings_; }
  ClientIdentity& identity() { return identity_; }
  Counters& counters() { return counters_; }
  const Counters& counters() const { return counters_; }
  uint64_t now_ns() const { return reactor_->now_ns(); }
  base::Random& random() { return random_; }
  uint64_t jitter_ns(uint64_t low, uint64_t high) { return random_.between(low, high); }
  RequestFrame& take_frame(size_t body_bytes);
  void give_back(RequestFrame& frame);
  RequestFrame* frame_at(uint32_t slot) { return slot < frame_table_.size() ? frame_table_[slot] : nullptr; }
  std::span<std::byte> sink();
  void watch();  ///< frames are under way: tick
  /// Resolver answers come as a wake.
  void on_wake();
  /// Runs in the context's thread after reactor().wake().
  void set_on_wake(void (*fn)(void*), void* context);

  /// A unit's reply is here, its payload delivered and verified. `unit.frame` is null already.
  void on_reply(Unit& unit, Connection& from, const wire::OpReply& reply);
  void on_exists(Unit& unit, bool there);
  void on_admin_done(Unit& unit);
  void on_flushed(Unit& unit);
  void expand_flush(Unit& unit, uint16_t workers, uint64_t map);
  void on_mismatch(Unit& unit, Connection& from);
  /// The unit's connection is gone; `sent` = its frame may have left.
  void on_lost(Unit& unit, bool sent);
  /// The unit's server does not take ops now.
  void on_refused(Unit& unit, Status why);
  void on_released(Op& op);  ///< a frame let go of the op's memory
  /// Not now: the unit is routed again in a short while.
  void retry_later(Unit& unit);
  void drop_unit(Unit& unit);  ///< from whatever list or frame it is in
  /// Starts the next few ops of a lane. False: it has no more, or its call is over.
  bool start_some(Lane& lane);

 private:
  explicit Context(const Settings& settings);
  Result<void, Message> open(std::unique_ptr<io::Reactor> reactor);
  void open_rdma();
  enum class MemoryOf : uint8_t { kHost, kGpu, kMixed };
  MemoryOf memory_of(std::span<const iovec> pieces);

  void allow_for_bytes(Call& call);
  void start_in_turn(Call& call);
  void end_waiting(Call& call, Status status, uint64_t due_until_ns);
  uint64_t deadline_of(const Call& call, Kind kind) const;
  uint64_t next_expiry_ns(const Call& call, uint64_t now_ns) const;
  void end_unstarted(Call& call, uint32_t index, Status status);
  void start_op(Call& call, uint32_t index);
  void start_units(Op& op);
  void start_get(Op& op);
  void start_change(Op& op);
  void start_upload(Op& op);
  Unit& begin_upload(Op& op);
  void route_ready(Op& op);
  Unit& new_unit(Op& op, wire::OpKind kind, uint64_t offset, uint64_t length, PiecePlace place);
  void send_chunks(Op& op, Connection& connection, uint64_t upload);
  void restart_upload(Op& op);

  bool try_again(Unit& unit, const wire::OpReply& reply);
  void on_get_reply(Unit& unit, const wire::OpReply& reply);
  void finish_get(Op& op);
  void ask_again(Op& op);
  void on_upload_reply(Unit& unit, Connection& from, const wire::OpReply& reply);
  void finish(Op& op, Status status);
  void complete(Op& op);
  void count(const Op& op);
  void start_chained(Call& call);
  void start_next(Call& call, uint32_t index, Status status);
  static void tell(Call& call, uint32_t index);
  void op_done(Call& call);

  void give_up(Op& op, Status status);
  bool fence_off(const Op& op);
  void drain(Op& op);
  void arm_deadline(uint64_t deadline_ns);
  void on_deadline();
  void arm_retry(uint64_t due_ns);
  void on_retry();
  void on_tick();
  void pump();

  const Settings settings_;
  ClientIdentity& identity_;
  const Placement placement_;
  std::unique_ptr<io::Reactor> reactor_;
  std::shared_ptr<transport::rdma::Devices> rdma_host_;
  std::unique_ptr<transport::rdma::Poller> rdma_;
  std::string why_no_rdma_;
  base::Random random_;
  Counters counters_;
  std::vector<std::unique_ptr<RemoteServer>> servers_;
  Pool<Op> ops_;
  Pool<Unit> units_;
  Pool<RequestFrame, 16> small_frames_, large_frames_;
  std::vector<RequestFrame*> frame_table_;
  std::unique_ptr<std::byte[]> sink_;
  base::IntrusiveList<Call, &Call::link> calls_;
  uint64_t weight_ = 0;  ///< of all calls
  UnitQueue waiting_;
  std::vector<Op*> expired_;
  std::vector<Call*> expired_calls_;
  io::Timer deadline_timer_, retry_timer_, tick_timer_;
  void (*on_wake_)(void*) = nullptr;
  void* on_wake_context_ = nullptr;
  bool stopping_ = false;
};

}  // namespace memkv::client
