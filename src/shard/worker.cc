#include "shard/worker.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "base/pause.h"
#include "base/poll_policy.h"
#include "shard/late_slots.h"
#include "shard/rdma_port.h"

namespace memkv::shard {
namespace {

constexpr uint64_t kTickNs = 100'000'000;
constexpr uint64_t kSleepNs = 1'000'000'000;

/// By Pooled.
std::vector<uint32_t> pool_sizes(const WorkerOptions& options) {
  std::vector<uint32_t> sizes(kPooledSlots);
  sizes[kPooledOps] = options.ops_max;
  sizes[kPooledFrames] = options.frames_max;
  sizes[kPooledUploads] = options.uploads_max;
  sizes[kPooledConnections] = options.connections_max;
  sizes[kPooledLists] = kListOps;
  sizes[kPooledQuestions] = kExistsOps;
  sizes[kPooledPrefetches] = kPrefetches;
  std::vector<io::SlotClass> sorted = options.slots;  // as the arena numbers them
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.payload_bytes < b.payload_bytes; });
  for (const io::SlotClass& shape : sorted) sizes.push_back(shape.count);
  return sizes;
}

}  // namespace

engine::StoreCounters WorkerStats::store_counters() const {
  std::array<uint64_t, kStoreWords> words;
  for (size_t i = 0; i < kStoreWords; i++) words[i] = store[i].load(std::memory_order_relaxed);
  engine::StoreCounters counters{};
  std::memcpy(&counters, words.data(), sizeof counters);
  return counters;
}

Result<std::unique_ptr<Worker>> Worker::make(std::unique_ptr<io::Reactor> reactor, const Identity& identity,
                                             WorkerOptions options) {
  auto arena = io::SlotArena::make(options.slots);
  if (!arena) return arena.error();
  std::unique_ptr<Worker> worker(
      new Worker(std::move(reactor), std::move(arena).value(), identity, std::move(options)));
  WorkerSlots& slots = worker->slots_;
  if (!slots.lends()) worker->reactor_->register_memory(slots.arena().memory());
  if (transport::rdma::Devices* host = worker->options_.rdma) {
    auto port = RdmaPort::make(*worker, *host);
    if (port)
      worker->rdma_ = std::move(*port);
    else
      MEMKV_LOG(kWarn, "worker {}: {}", worker->index(), port.error().text);
  }
  return worker;
}

/// Every pool of the worker gets its size here, once; nothing grows while it serves.
Worker::Worker(std::unique_ptr<io::Reactor> reactor, std::unique_ptr<io::SlotArena> arena, const Identity& identity,
               WorkerOptions options)
    : reactor_(std::move(reactor)),
      identity_(identity),
      options_(std::move(options)),
      slots_(std::move(arena), options_, tenants_),
      mailbox_(kMailboxCapacity, reactor_.get()),
      stores_(*reactor_, identity),
      pools_(options_),
      connections_(*this, options_),
      tenants_(pool_sizes(options_), WorkerConnections::most(options_), options_.namespaces) {
  stats_.slots_total.store(slots_.count(), std::memory_order_relaxed);
}

Worker::~Worker() {
  // A connection that was pushed and never read.
  while (auto message = mailbox_.pop()) {
    if (message->fd >= 0) ::close(message->fd);
  }
}

void Worker::start() {
  tick_timer_.on_done = [](io::Timer& timer) { static_cast<Worker*>(timer.context)->tick(); };
  tick_timer_.context = this;
  last_tick_ns_ = now_ns();
  reactor_->start(tick_timer_, now_ns() + kTickNs);
  const auto on_done = [](void* context, Status status) { static_cast<Worker*>(context)->on_opened(status); };
  stores_.open(options_.prefault_devices, rdma_.get(), on_done, this);
}

/// A worker that was told to stop meanwhile does not become ready.
void Worker::on_opened(Status status) {
  open_status_ = status;
  if (state() != State::kOpening) return;
  publish();
  if (status != Status::kOk) return set_state(State::kFailed);
  set_state(State::kReady);
  connections_.say_ready();
}

void Worker::run() {
  start();
  base::PollPolicy policy(options_.spin_ns);
  while (state() != State::kStopped) {
    const bool polls = policy.polls(now_ns());
    turned_ = 0;
    turn(polls ? 0 : kSleepNs);
    if (turned_ > 0) {
      policy.moved(now_ns());
    } else if (polls) {
      base::relax_cpu();
    }
  }
  check_whole();
  rdma_.reset();
  stores_.destroy();
}

void Worker::turn(uint64_t wait_ns) {
  turned_ += reactor_->run_once(quiet() ? wait_ns : 0);
  read_mailbox();
  run_ready();
  if (Walk* walk = walks_.pop_front()) walk->step(*walk);
  if (room_freed_) {
    while (tenants_.serve()) {
    }
    room_freed_ = false;
  }
  connections_.flush();
  connections_.reap();
  if (draining()) step_drain();
}

void Worker::read_mailbox() {
  while (auto message = mailbox_.pop()) {
    turned_++;
    switch (message->kind) {
      case WorkerMessage::Kind::kConnection:
        adopt(*message);
        break;
      case WorkerMessage::Kind::kDrivesOut:
        stores_.take_drives_out(message->drives);
        break;
      case WorkerMessage::Kind::kStop:
        begin_drain();
        break;
      case WorkerMessage::Kind::kNone:
        break;
    }
  }
}

void Worker::adopt(const WorkerMessage& message) {
  if (!message.rdma) return connections_.adopt(message);
  if (rdma_) return rdma_->open(message);
  transport::rdma::refuse(message.fd, message.keys, "the server has no RDMA");
}

/// What is queued now; what queues itself again waits for the next turn.
void Worker::run_ready() {
  for (size_t left = ready_.size(); left > 0; left--) {
    Op* op = ready_.pop_front();
    op->phase = Phase::kWaiting;
    op->step(*op);
    turned_++;
  }
}

void Worker::run_later(Op& op) {
  op.phase = Phase::kReady;
  ready_.push_back(op);
}

/// Half as often while nothing is under way: each tick is CPU time of an idle server.
void Worker::tick() {
  const bool idle = pools_.ops.in_use() == 0 && slots_.arena().in_use() == 0 && !tenants_.anyone_waits();
  reactor_->start(tick_timer_, now_ns() + (idle ? 2 : 1) * kTickNs);
  room_freed_ = room_freed_ || tenants_.anyone_waits();
  connections_.retry_stuck();
  // A worker that was kept from its CPU cannot say that clients were slow meanwhile.
  const uint64_t now = now_ns();
  connections_.cut_stalled(std::min(now - std::exchange(last_tick_ns_, now), 2 * kTickNs));
  connections_.expire_waiting();
  tenants_.prefetches().drop_unwanted();
  free_slots_of_late_ops(*this);
  publish();
  slots_.renew_credits();
  connections_.say_credit();
}

void Worker::publish() {
  stores_.publish(stats_);
  stats_.ops_in_use.store(pools_.ops.in_use(), std::memory_order_relaxed);
  stats_.slots_in_use.store(slots_.arena().in_use(), std::memory_order_relaxed);
}

void Worker::set_state(State state) {
  state_.store(state, std::memory_order_release);
  if (identity_.on_change != nullptr) identity_.on_change(identity_.context);
}

void Worker::begin_drain() {
  if (draining() && state() != State::kFailed) return;
  drain_until_ns_ = now_ns() + options_.drain_ns;
  set_state(State::kDraining);
}

/// Connections first, then the stores.
void Worker::step_drain() {
  if (state() != State::kDraining) return;
  connections_.say_goodbye(now_ns() >= drain_until_ns_);
  // Stores that are still opening are closed when they are done with that.
  const bool opening = rdma_ && !rdma_->at_rest();
  if (!connections_.none_open() || opening || pools_.ops.in_use() > 0 || !stores_.at_rest()) return;
  set_state(State::kClosing);
  reactor_->stop(tick_timer_);
  const auto on_closed = [](void* context, Status) {
    auto& worker = *static_cast<Worker*>(context);
    worker.publish();
    worker.set_state(State::kStopped);
  };
  stores_.close(on_closed, this);
}

void Worker::check_whole() const {
  MEMKV_ASSERT(pools_.whole(), "an object of a pool is lent");
  MEMKV_ASSERT(connections_.whole(), "a connection, a client or its place on the board is left");
  MEMKV_ASSERT(slots_.arena().in_use() == 0, "a slot is taken");
  stores_.check_whole();
}

}  // namespace memkv::shard
