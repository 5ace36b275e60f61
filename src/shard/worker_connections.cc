#include "shard/worker_connections.h"

#include <unistd.h>

#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "shard/worker.h"

namespace memkv::shard {

namespace {

constexpr uint32_t kTurnedAwayMax = 16;  // that are told why at a time

Transport transport_of(const WorkerMessage& message) {
  return message.window == nullptr ? Transport::kTcp : Transport::kShm;
}

}  // namespace

WorkerConnections::WorkerConnections(Worker& worker, const WorkerOptions& options)
    : worker_(worker), options_(options), connections_(most(options)), clients_(most(options)), board_(most(options)) {}

size_t WorkerConnections::most(const WorkerOptions& options) { return options.connections_max + kTurnedAwayMax; }

uint64_t WorkerConnections::bytes_each() {
  constexpr uint64_t kLinkBytes = 64 << 10;  // received and not yet looked at
  return sizeof(Connection) + sizeof(KnownClient) + sizeof(Holder) + ClientBoard::bytes_a_place() + kLinkBytes;
}

void WorkerConnections::adopt(const WorkerMessage& message) {
  Connection* connection = worker_.draining() ? nullptr : open(message.namespace_id);
  if (connection == nullptr) return turn_away(message);
  connection->attach(make_link(message, *connection), transport_of(message), message.client_name);
}

std::unique_ptr<transport::Link> WorkerConnections::make_link(const WorkerMessage& message, Connection& connection) {
  using transport::Role;
  io::Reactor& reactor = worker_.reactor();
  if (message.window == nullptr) {
    const transport::TcpOptions agreed{
        .features = message.features,
        .one_copy = worker_.slots().lends() ? &worker_.mutable_stats().one_copy : nullptr};
    return transport::make_tcp_link(reactor, message.fd, Role::kServer, message.keys, connection, agreed);
  }
  return transport::make_shm_link(reactor, message.fd, Role::kServer, message.keys, message.window, connection);
}

Connection* WorkerConnections::open(uint64_t namespace_id) {
  Tenants& tenants = worker_.tenants();
  Tenant& tenant = tenants.of(namespace_id);
  if (!tenants.fits(tenant.unknown, kPooledConnections)) return nullptr;
  Connection* connection = begin(tenant, Connection::Welcome::kYes);
  if (connection == nullptr) return nullptr;
  tenants.take_connection(tenant.unknown);
  worker_.mutable_stats().connections.store(static_cast<uint32_t>(connections_.in_use()), std::memory_order_relaxed);
  return connection;
}

/// Null: there is none left.
Connection* WorkerConnections::begin(Tenant& tenant, Connection::Welcome welcome) {
  Connection* connection = connections_.take();
  if (connection == nullptr) return nullptr;
  connection->open(worker_, tenant, welcome);
  open_.push_back(*connection);
  return connection;
}

/// Who finds no room hears why, for as long as a few are told at a time.
void WorkerConnections::turn_away(const WorkerMessage& message) {
  if (worker_.draining()) return (void)::close(message.fd);
  Tenant& tenant = worker_.tenants().of(message.namespace_id);
  Connection* connection = begin(tenant, Connection::Welcome::kTurnedAway);
  if (connection == nullptr) return (void)::close(message.fd);
  worker_.count(worker_.mutable_stats().turned_away);
  MEMKV_LOG_EVERY(10, kWarn, "worker {}: a client is turned away: {}", worker_.index(), no_room_text(tenant));
  connection->attach(make_link(message, *connection), transport_of(message));
}

std::string WorkerConnections::no_room_text(const Tenant& tenant) const {
  return fmt::format("no room for another connection: this namespace has {} at worker {}, of {} for all namespaces",
                     tenant.held(kPooledConnections), worker_.index(), options_.connections_max);
}

void WorkerConnections::count(Transport transport, int32_t change) {
  auto& counter = worker_.mutable_stats().connections_by_transport[static_cast<size_t>(transport)];
  counter.fetch_add(static_cast<uint32_t>(change), std::memory_order_relaxed);
}

void WorkerConnections::part_from(KnownClient& client) {
  Holder& holder = *client.holder;
  if (clients_.leave(client)) worker_.tenants().leave(holder);
}

ReplyFrame* WorkerConnections::take_frame(Holder& holder) {
  Tenants& tenants = worker_.tenants();
  ReplyFrame* frame = tenants.fits(holder, kPooledFrames) ? worker_.pools().reply_frames.take() : nullptr;
  if (frame != nullptr) tenants.take(holder, kPooledFrames);
  return frame;
}

bool WorkerConnections::few_frames() const { return worker_.pools().reply_frames.free() < options_.frames_max / 4; }

void WorkerConnections::give_back(ReplyFrame& frame) {
  MEMKV_ASSERT(frame.ops.empty(), "its ops are over first");
  worker_.tenants().give(frame.connection->holder(), kPooledFrames);
  worker_.pools().reply_frames.give_back(frame);
  frame_freed_ = true;
}

void WorkerConnections::dirty(Connection& connection) {
  if (!connection.dirty_link.linked()) dirty_.push_back(connection);
}

void WorkerConnections::flush() {
  for (size_t left = dirty_.size(); left > 0; left--) {
    Connection* connection = dirty_.pop_front();
    if (!connection->replies().flush()) stuck_.push_back(*connection);
    if (connection->reapable() && !connection->reaping_link.linked()) reaping_.push_back(*connection);
  }
  // Those without a frame wait until one comes back.
  if (!std::exchange(frame_freed_, false)) return;
  while (Connection* connection = stuck_.pop_front()) dirty_.push_back(*connection);
}

void WorkerConnections::reap() {
  while (Connection* connection = reaping_.pop_front()) {
    if (!connection->reapable()) continue;
    if (connection->dirty_link.linked()) (dirty_.contains(*connection) ? dirty_ : stuck_).remove(*connection);
    open_.remove(*connection);
    count(connection->transport(), -1);
    if (!connection->turned_away()) worker_.tenants().give_connection(connection->holder());
    connection->recycle();
    connections_.give_back(*connection);
    worker_.mutable_stats().connections.store(static_cast<uint32_t>(connections_.in_use()), std::memory_order_relaxed);
  }
}

void WorkerConnections::cut_stalled(uint64_t step_ns) {
  const bool contended = worker_.tenants().anyone_waits();
  for (Connection& connection : open_) {
    if (connection.link() == nullptr || connection.closing()) continue;
    const char* what = connection.stalls(step_ns, options_.stalled_ns, options_.introduce_ns, contended);
    if (what == nullptr) continue;
    MEMKV_LOG_EVERY(10, kWarn, "worker {}: a client that does not {} is cut", worker_.index(), what);
    worker_.count(worker_.mutable_stats().connections_cut);
    connection.close(Status::kDeadline);
  }
}

void WorkerConnections::expire_waiting() {
  for (Connection& connection : open_) connection.expire_waiting();
}

void WorkerConnections::say_credit() {
  for (Connection& connection : open_) connection.replies().say_credit(connection.holder().credit);
}

void WorkerConnections::say_ready() {
  for (Connection& connection : open_) connection.replies().say_ready();
}

void WorkerConnections::say_goodbye(bool late) {
  for (Connection& connection : open_) {
    if (late) {
      connection.close(Status::kUnavailable);
    } else if (connection.idle()) {
      connection.leave(Status::kUnavailable, "the server is stopping");
    }
  }
}

bool WorkerConnections::whole() const {
  return connections_.in_use() == 0 && clients_.count() == 0 && board_.in_use() == 0;
}

}  // namespace memkv::shard
