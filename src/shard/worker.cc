#include "shard/worker.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "shard/idle_spin.h"
#include "shard/late_slots.h"
#include "shard/rdma_port.h"

namespace memkv::shard {
namespace {

constexpr size_t kMailboxCapacity = 4096;
constexpr size_t kStatusOps = 8;
constexpr uint64_t kTickNs = 100'000'000;
constexpr uint64_t kSleepNs = 1'000'000'000;
constexpr uint32_t kTurnedAwayMax = 16;  // that are told why at a time
constexpr uint64_t kCreditMin = kChunkBytesMax / base::kGrainBytes * 2, kCreditMax = 512;
/// Ops: enough to keep a link and drives busy with small ones. More would only stand in front of what comes next.
constexpr uint64_t kCreditOpsMin = 8, kCreditOpsMax = 256;
constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, newer than the headers of Debian 12's kernel

/// Takes the pages of a memory device now: a first touch costs up to 0.27 ms for 2 MiB.
void prefault(const engine::DriveSlice& slice) {
  std::byte* memory = slice.device->view(slice.offset_bytes, slice.size_bytes);
  if (memory == nullptr) return;
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = reinterpret_cast<uintptr_t>(memory) & ~(page - 1);
  const uintptr_t end = reinterpret_cast<uintptr_t>(memory) + slice.size_bytes;
  (void)madvise(reinterpret_cast<void*>(begin), end - begin,
                kPopulateWrite);  // a hint: without it pages come when touched
}

/// By Pooled.
std::vector<uint32_t> pool_sizes(const WorkerOptions& options) {
  std::vector<uint32_t> sizes(kPooledSlots);
  sizes[kPooledOps] = options.ops_max;
  sizes[kPooledFrames] = options.frames_max;
  sizes[kPooledUploads] = options.uploads_max;
  sizes[kPooledConnections] = options.connections_max;
  sizes[kPooledLists] = kListOps;
  sizes[kPooledQuestions] = kExistsOps;
  std::vector<io::SlotClass> sorted = options.slots;  // as the arena numbers them
  std::sort(sorted.begin(), sorted.end(),
            [](const auto& a, const auto& b) { return a.payload_bytes < b.payload_bytes; });
  for (const io::SlotClass& shape : sorted) sizes.push_back(shape.count);
  return sizes;
}

Transport transport_of(const WorkerMessage& message) {
  return message.window == nullptr ? Transport::kTcp : Transport::kShm;
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
  auto slots = io::SlotArena::make(options.slots);
  if (!slots) return slots.error();
  reactor->register_memory((*slots)->memory());
  std::unique_ptr<Worker> worker(
      new Worker(std::move(reactor), std::move(slots).value(), identity, std::move(options)));
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
Worker::Worker(std::unique_ptr<io::Reactor> reactor, std::unique_ptr<io::SlotArena> slots, const Identity& identity,
               WorkerOptions options)
    : reactor_(std::move(reactor)),
      slots_(std::move(slots)),
      identity_(identity),
      options_(std::move(options)),
      mailbox_(kMailboxCapacity, reactor_.get()),
      ops_(options_.ops_max),
      ops_frames_(options_.ops_max),
      uploads_(options_.uploads_max),
      frames_(options_.frames_max),
      list_ops_(kListOps),
      exists_ops_(kExistsOps),
      status_ops_(kStatusOps),
      connections_(options_.connections_max + kTurnedAwayMax),
      clients_(options_.connections_max + kTurnedAwayMax),
      client_board_(options_.connections_max + kTurnedAwayMax),
      tenants_(pool_sizes(options_), options_.connections_max + kTurnedAwayMax, options_.namespaces),
      scratch_(new std::byte[kChunkBytesMax]) {
  shards_.reserve(32);  // ops and uploads point into it
  uint64_t total = 0;
  for (const io::SlotClass& shape : options_.slots) {
    total += shape.count;
    slot_bytes_ += uint64_t{shape.payload_bytes} * shape.count;
  }
  stats_.slots_total.store(total, std::memory_order_relaxed);
}

uint64_t Worker::pool_bytes(const WorkerOptions& options) {
  constexpr uint64_t kReactorBytes = 4 << 20;  // rings, heap of timers, table of descriptors
  return options.ops_max * (sizeof(Op) + sizeof(OpsFrame)) + options.uploads_max * sizeof(Upload) +
         options.frames_max * sizeof(ReplyFrame) + kListOps * sizeof(ListOp) + kExistsOps * sizeof(ExistsOp) +
         kStatusOps * sizeof(StatusOp) + kMailboxCapacity * sizeof(WorkerMessage) + kChunkBytesMax + kReactorBytes;
}

uint64_t Worker::connection_bytes() {
  constexpr uint64_t kLinkBytes = 64 << 10;  // received and not yet looked at
  return sizeof(Connection) + sizeof(KnownClient) + sizeof(Holder) + ClientBoard::bytes_a_place() + kLinkBytes;
}

Worker::~Worker() {
  // A connection that was pushed and never read.
  while (auto message = mailbox_.pop()) {
    if (message->fd >= 0) ::close(message->fd);
  }
}

void Worker::add_store(uint32_t number, std::unique_ptr<engine::Store> store) {
  MEMKV_ASSERT(number < shard_by_number_.size() && shards_.size() < shards_.capacity());
  block_bytes_max_ = shards_.empty() ? store->block_bytes_max() : std::min(block_bytes_max_, store->block_bytes_max());
  shards_.push_back({number, std::move(store)});
  shard_by_number_[number] = &shards_.back();
}

void Worker::start() {
  for (ShardPlan& plan : plans_) {
    for (const engine::DriveSlice& slice : plan.options.slices) {
      if (slice.device == nullptr) continue;
      if (options_.prefault_devices) prefault(slice);
      std::byte* memory = rdma_ ? slice.device->view(slice.offset_bytes, slice.size_bytes) : nullptr;
      if (memory != nullptr) rdma_->add_memory({memory, slice.size_bytes});
    }
    add_store(plan.number, engine::Store::make(*reactor_, std::move(plan.options)));
  }
  plans_.clear();
  tick_timer_.on_done = [](io::Timer& timer) { static_cast<Worker*>(timer.context)->tick(); };
  tick_timer_.context = this;
  last_tick_ns_ = now_ns();
  reactor_->start(tick_timer_, now_ns() + kTickNs);
  lifecycle_left_ = shards_.size();
  lifecycle_ops_.resize(shards_.size());
  for (size_t i = 0; i < shards_.size(); i++) {
    lifecycle_ops_[i].on_done = [](engine::StoreOp& op) { static_cast<Worker*>(op.context)->on_opened(op); };
    lifecycle_ops_[i].context = this;
    shards_[i].store->open(lifecycle_ops_[i]);
  }
  if (shards_.empty()) set_state(State::kReady);
}

void Worker::on_opened(engine::StoreOp& op) {
  if (op.status != Status::kOk) open_status_ = op.status;
  if (--lifecycle_left_ > 0 || state() != State::kOpening) return;
  publish();
  if (open_status_ != Status::kOk) return set_state(State::kFailed);
  set_state(State::kReady);
  for (Connection& connection : open_) connection.replies().say_ready();
}

void Worker::run() {
  start();
  IdleSpin spin(options_.spin_ns);
  while (state() != State::kStopped) {
    const bool polls = spin.polls(now_ns());
    turned_ = 0;
    turn(polls ? 0 : kSleepNs);
    if (turned_ > 0) {
      spin.moved(now_ns());
    } else if (polls) {
      sched_yield();
    }
  }
  check_whole();
  rdma_.reset();
  shards_.clear();  // their timers are this thread's
  devices_.clear();
}

void Worker::turn(uint64_t wait_ns) {
  turned_ += reactor_->run_once(quiet() ? wait_ns : 0);
  read_mailbox();
  run_ready();
  if (Walk* walk = walks_.pop_front()) walk->step(*walk);
  if (room_freed_) serve_waiters();
  flush_dirty();
  reap();
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
        for (Shard& shard : shards_) shard.store->take_drives_out(message->drives);
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
  if (message.rdma) {
    if (rdma_) return rdma_->open(message);
    return transport::rdma::refuse(message.fd, message.keys, "the server has no RDMA");
  }
  Connection* connection = draining() ? nullptr : open_connection(message.namespace_id);
  if (connection == nullptr) return turn_away(message);
  connection->attach(make_link(message, *connection), transport_of(message), message.client_name);
}

std::unique_ptr<transport::Link> Worker::make_link(const WorkerMessage& message, Connection& connection) {
  using transport::Role;
  if (message.window == nullptr) {
    return transport::make_tcp_link(*reactor_, message.fd, Role::kServer, message.keys, connection);
  }
  return transport::make_shm_link(*reactor_, message.fd, Role::kServer, message.keys, message.window, connection);
}

/// Who finds no room hears why, for as long as a few are told at a time.
void Worker::turn_away(const WorkerMessage& message) {
  Connection* connection = draining() ? nullptr : connections_.take();
  if (connection == nullptr) {
    ::close(message.fd);
    return;
  }
  count(stats_.turned_away);
  Tenant& tenant = tenants_.of(message.namespace_id);
  MEMKV_LOG_EVERY(10, kWarn, "worker {}: a client is turned away: {}", index(), no_room_text(tenant));
  connection->open(*this, tenant, Connection::Welcome::kTurnedAway);
  open_.push_back(*connection);
  connection->attach(make_link(message, *connection), transport_of(message));
}

std::string Worker::no_room_text(const Tenant& tenant) const {
  return fmt::format("no room for another connection: this namespace has {} at worker {}, of {} for all namespaces",
                     tenant.held(kPooledConnections), index(), options_.connections_max);
}

Connection* Worker::open_connection(uint64_t namespace_id) {
  Tenant& tenant = tenants_.of(namespace_id);
  Connection* connection = tenants_.fits(tenant.unknown, kPooledConnections) ? connections_.take() : nullptr;
  if (connection == nullptr) return nullptr;
  tenants_.take_connection(tenant.unknown);
  connection->open(*this, tenant);
  open_.push_back(*connection);
  stats_.connections.store(static_cast<uint32_t>(connections_.in_use()), std::memory_order_relaxed);
  return connection;
}

void Worker::part_from(KnownClient& client) {
  Holder& holder = *client.holder;
  if (clients_.leave(client)) tenants_.leave(holder);
}

Shard* Worker::shard_of(std::string_view key, uint64_t namespace_id) {
  return shard_by_number_[wire::shard_of(key, identity_.shard_seed, namespace_id, identity_.shard_count)];
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

void Worker::serve_waiters() {
  while (tenants_.serve()) {
  }
  room_freed_ = false;
}

bool Worker::room_in_log(const Holder& holder, uint32_t bytes) const {
  const uint64_t of_tenant = slot_bytes_ / std::max(1u, tenants_.active());
  const uint64_t of_client = holder.tenant->clients.size() > 1 ? of_tenant / 2 : of_tenant;
  return holder.tenant->room_bytes + bytes <= of_tenant && holder.room_bytes + bytes <= of_client;
}

io::Slot Worker::take_slot(Holder& holder, uint32_t bytes) {
  const io::Slot slot = slots_->take(bytes);
  if (!slot) return slot;
  const size_t pool = kPooledSlots + slot.size_class;
  if (!tenants_.fits(holder, pool)) {
    slots_->give_back(slot);
    return {};
  }
  tenants_.take(holder, pool);
  holder.slots++;
  return slot;
}

void Worker::give_slot(Holder& holder, io::Slot slot) {
  tenants_.give(holder, kPooledSlots + slot.size_class);
  holder.slots--;
  slots_->give_back(slot);
}

ReplyFrame* Worker::take_frame(Holder& holder) {
  ReplyFrame* frame = tenants_.fits(holder, kPooledFrames) ? frames_.take() : nullptr;
  if (frame != nullptr) tenants_.take(holder, kPooledFrames);
  return frame;
}

void Worker::dirty(Connection& connection) {
  if (!connection.dirty_link.linked()) dirty_.push_back(connection);
}

void Worker::give_back(ReplyFrame& frame) {
  tenants_.give(frame.connection->holder(), kPooledFrames);
  frames_.give_back(frame);
  frame_freed_ = true;
}

void Worker::flush_dirty() {
  for (size_t left = dirty_.size(); left > 0; left--) {
    Connection* connection = dirty_.pop_front();
    if (!connection->replies().flush()) stuck_.push_back(*connection);
    if (connection->reapable() && !connection->reaping_link.linked()) reaping_.push_back(*connection);
  }
  // Those without a frame wait until one comes back.
  if (!std::exchange(frame_freed_, false)) return;
  while (Connection* connection = stuck_.pop_front()) dirty_.push_back(*connection);
}

void Worker::reap() {
  while (Connection* connection = reaping_.pop_front()) {
    if (!connection->reapable()) continue;
    if (connection->dirty_link.linked()) (dirty_.contains(*connection) ? dirty_ : stuck_).remove(*connection);
    open_.remove(*connection);
    count_connection(connection->transport(), -1);
    if (!connection->turned_away()) tenants_.give_connection(connection->holder());
    connection->recycle();
    connections_.give_back(*connection);
    stats_.connections.store(static_cast<uint32_t>(connections_.in_use()), std::memory_order_relaxed);
  }
}

void Worker::tick() {
  reactor_->start(tick_timer_, now_ns() + kTickNs);
  room_freed_ = room_freed_ || tenants_.anyone_waits();
  frame_freed_ = frame_freed_ || !stuck_.empty();
  // A worker that was kept from its CPU cannot say that clients were slow meanwhile.
  const uint64_t now = now_ns();
  cut_stalled(std::min(now - std::exchange(last_tick_ns_, now), 2 * kTickNs));
  for (Connection& connection : open_) connection.expire_waiting();
  free_slots_of_late_ops(*this);
  publish();
  // Small moves are not worth a frame to everybody.
  const auto moved = [](uint32_t a, uint32_t b) { return a * 4 <= b * 3 || a * 3 >= b * 4; };
  for (Tenant& tenant : tenants_.all()) {
    for (Holder& holder : tenant.clients) {
      const wire::Credit credit = compute_credit(holder), before = holder.credit;
      if (moved(credit.puts, before.puts) || moved(credit.gets, before.gets) || moved(credit.ops, before.ops)) {
        holder.credit = credit;
      }
    }
  }
  for (Connection& connection : open_) connection.replies().say_credit(connection.holder().credit);
}

void Worker::cut_stalled(uint64_t step_ns) {
  const bool contended = tenants_.anyone_waits();
  for (Connection& connection : open_) {
    if (connection.link() == nullptr || connection.closing()) continue;
    const char* what = connection.stalls(step_ns, options_.stalled_ns, options_.introduce_ns, contended);
    if (what == nullptr) continue;
    MEMKV_LOG_EVERY(10, kWarn, "worker {}: a client that does not {} is cut", index(), what);
    count(stats_.connections_cut);
    connection.close(Status::kDeadline);
  }
}

/// Every connection's part of its client's part of its tenant's: of the slots, one half of them for puts and one for
/// gets, and of half of the ops. What finds no slot of its size waits.
wire::Credit Worker::compute_credit(const Holder& holder) const {
  // Who is alone with few connections has as much as four would share.
  const uint64_t clients = std::max(1u, tenants_.active()) * std::max<uint64_t>(1, holder.tenant->clients.size());
  const uint64_t connections = std::max<uint64_t>(holder.held[kPooledConnections] * clients, 4);
  const uint64_t grains = std::clamp(slot_bytes_ / 2 / connections / base::kGrainBytes, kCreditMin, kCreditMax);
  const uint64_t ops = std::clamp(ops_.size() / 2 / connections, kCreditOpsMin, kCreditOpsMax);
  return {
      .puts = static_cast<uint16_t>(grains), .gets = static_cast<uint16_t>(grains), .ops = static_cast<uint16_t>(ops)};
}

void Worker::publish() {
  engine::StoreCounters sum{};
  std::array<uint64_t, WorkerStats::kStoreWords> words{};
  uint64_t recovery_ns = 0;
  for (const Shard& shard : shards_) {
    std::array<uint64_t, WorkerStats::kStoreWords> one;
    const engine::StoreCounters& counters = shard.store->counters();
    std::memcpy(one.data(), &counters, sizeof counters);
    for (size_t i = 0; i < words.size(); i++) words[i] += one[i];
    recovery_ns = std::max(recovery_ns, counters.recovery_ns);
  }
  std::memcpy(&sum, words.data(), sizeof sum);
  sum.recovery_ns = recovery_ns;  // they recover side by side
  std::memcpy(words.data(), &sum, sizeof sum);
  for (size_t i = 0; i < words.size(); i++) stats_.store[i].store(words[i], std::memory_order_relaxed);
  stats_.ops_in_use.store(ops_.in_use(), std::memory_order_relaxed);
  stats_.slots_in_use.store(slots_->in_use(), std::memory_order_relaxed);
}

uint64_t Worker::new_upload_id(const Upload& upload) {
  const auto at = static_cast<uint64_t>(&upload - uploads_.begin());
  return (++upload_serial_ << 16) | at;
}

Upload* Worker::find_upload(uint64_t id) {
  const uint64_t at = id & 0xffff;
  if (id == 0 || at >= uploads_.size()) return nullptr;
  Upload& upload = uploads_.begin()[at];
  return upload.id == id ? &upload : nullptr;
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

void Worker::step_drain() {
  if (state() != State::kDraining) return;
  const bool late = now_ns() >= drain_until_ns_;
  for (Connection& connection : open_) {
    if (late) {
      connection.close(Status::kUnavailable);
    } else if (connection.idle()) {
      connection.leave(Status::kUnavailable, "the server is stopping");
    }
  }
  // Stores that are still opening are closed when they are done with that.
  const bool opening = rdma_ && !rdma_->at_rest();
  if (open_.empty() && !opening && ops_.in_use() == 0 && lifecycle_left_ == 0) close_stores();
}

void Worker::close_stores() {
  set_state(State::kClosing);
  reactor_->stop(tick_timer_);
  lifecycle_left_ = shards_.size();
  for (size_t i = 0; i < shards_.size(); i++) {
    lifecycle_ops_[i] = {};
    lifecycle_ops_[i].on_done = [](engine::StoreOp& op) {
      auto& worker = *static_cast<Worker*>(op.context);
      if (--worker.lifecycle_left_ == 0) {
        worker.publish();
        worker.set_state(State::kStopped);
      }
    };
    lifecycle_ops_[i].context = this;
    shards_[i].store->close(lifecycle_ops_[i]);
  }
  if (shards_.empty()) set_state(State::kStopped);
}

void Worker::check_whole() const {
  MEMKV_ASSERT(ops_.in_use() == 0 && ops_frames_.in_use() == 0 && uploads_.in_use() == 0);
  MEMKV_ASSERT(frames_.in_use() == 0 && connections_.in_use() == 0 && clients_.count() == 0);
  MEMKV_ASSERT(client_board_.in_use() == 0);
  MEMKV_ASSERT(list_ops_.in_use() == 0 && exists_ops_.in_use() == 0 && status_ops_.in_use() == 0);
  MEMKV_ASSERT(slots_->in_use() == 0);
  for (const Shard& shard : shards_) MEMKV_ASSERT(shard.store->ops_in_flight() == 0);
}

}  // namespace memkv::shard
