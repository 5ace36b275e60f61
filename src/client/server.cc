#include "client/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "client/context.h"
#include "io/socket.h"

namespace memkv::client {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kConnectNs = 1500 * kMs;  // one attempt, handshake included; a lost SYN is sent again after 1 s
constexpr uint64_t kBackoffMin = 100 * kMs;
constexpr uint64_t kBackoffMax = 5000 * kMs;
constexpr uint64_t kNoticedNs = 250 * kMs;  // who is silent for so long is asked whether it lives
constexpr uint64_t kShortLifeNs = 1000 * kMs;
constexpr size_t kQueuedMax = 64;  // units of lists that wait at a connection, for a worker that is slower than others
constexpr uint64_t kReconnectGapMaxNs = 200 * kMs;
constexpr uint64_t kReconnectGapNs = 20 * kMs;  // after a failure with other connections open

std::string text_of(const Error& why, std::string_view goodbye) {
  std::string text(goodbye.empty() ? std::string_view(why.what) : goodbye);
  if (why.sys_errno != 0) text += fmt::format(": {}", std::strerror(why.sys_errno));
  return text;
}

/// The server answered and will not have us: waiting does not help, but somebody may repair it.
bool is_refusal(Status status) {
  return status == Status::kUnauthorized || status == Status::kVersion || status == Status::kInvalid;
}

}  // namespace

RemoteServer::RemoteServer(Context& context, size_t index, const ServerAddress& address)
    : context_(context),
      index_(index),
      address_(address),
      resolver_(address.host, address.port),
      choice_(context.settings().transport) {
  connections_.push_back(std::make_unique<Connection>(context, *this, Transport::kTcp, wire::kAnyWorker));
  rule_out_one_sided();
  timer_.context = one_sided_timer_.context = this;
  timer_.on_done = [](io::Timer& timer) { static_cast<RemoteServer*>(timer.context)->on_timer(); };
  one_sided_timer_.on_done = [](io::Timer& timer) { static_cast<RemoteServer*>(timer.context)->open_one_sided(); };
}

RemoteServer::~RemoteServer() { MEMKV_ASSERT(at_rest() && unrouted_.empty()); }

uint16_t RemoteServer::worker_of(std::string_view key) const {
  const uint32_t shard = wire::shard_of(key, welcome_.shard_seed, welcome_.namespace_id, welcome_.shard_count);
  return welcome_.worker_of_shard[shard];
}

// The way of a unit.

Status RemoteServer::refusal_of(const Op& op) {
  if (refusal_ != Status::kOk || !op.gpu || !welcomed_ || op.pinned) return refusal_;
  return choice_.untried(Transport::kRdma) || gpu_rail_of(op) ? Status::kOk : Status::kUnsupported;
}

void RemoteServer::route(Unit& unit) {
  MEMKV_ASSERT(unit.queue == nullptr && unit.frame == nullptr);
  if (const Status refusal = refusal_of(*unit.op); refusal != Status::kOk) return context_.on_refused(unit, refusal);
  dirty_ = true;
  if (!welcomed_) {
    unit.queue = &unrouted_;
    unrouted_.push_back(unit);
    if (connections_[0]->state() == Connection::State::kIdle) connect_soon(0);
    return;
  }
  const Kind kind = unit.op->spec->kind;
  if (AdminSlot* slot = unit.op->spec->admin) slot->worker_count = welcome_.worker_count;
  if (kind == Kind::kFlush && unit.op->expanded_by != map_number_) {
    context_.expand_flush(unit, welcome_.worker_count, map_number_);
  }
  const bool no_such_worker = unit.worker != wire::kAnyWorker && unit.worker >= welcome_.worker_count;
  if (kind == Kind::kFlush && no_such_worker) return context_.on_flushed(unit);  // it was expanded by an older map
  if (kind == Kind::kList && unit.worker >= welcome_.worker_count) return context_.on_admin_done(unit);
  const bool anywhere = kind == Kind::kStatus;
  const uint16_t worker = unit.op->spec->admin ? unit.worker : worker_of(unit.op->key);
  if (unit.op->gpu && !unit.op->pinned) return route_gpu(unit);
  Connection& connection = unit.op->pinned ? *unit.op->pinned : connection_for(anywhere ? welcome_.worker : worker);
  connection.enqueue(unit);
  if (connection.state() == Connection::State::kIdle) open_soon(connection);
}

/// In front of the first probe of rdma it waits; after that ops do not wait for rails.
void RemoteServer::route_gpu(Unit& unit) {
  Connection* connection = gpu_rail_of(*unit.op);
  if (!connection) return context_.retry_later(unit);
  connection->enqueue(unit);
  if (connection->state() == Connection::State::kIdle) open_soon(*connection);
}

void RemoteServer::pump() {
  start_waiting();
  if (!std::exchange(dirty_, false)) return;
  for (size_t i = 0; i < connections_.size(); i++) connections_[i]->pump();
}

void RemoteServer::on_room(Connection& connection) {
  connection.pump();
  if (!lanes_.empty()) pump();
}

/// Starts ops that wait for their turn, a few of each call, once a quarter of a connection's room is free: so that they
/// share frames.
void RemoteServer::start_waiting() {
  if (lanes_.empty() || starting_ || !has_room(3)) return;
  starting_ = true;  // what is done at once may start what is chained to it, and pump
  do {
    Lane& lane = *lanes_.pop_front();
    if (context_.start_some(lane)) lanes_.push_back(lane);
  } while (!lanes_.empty() && has_room(4));
  starting_ = false;
}

/// A connection of the transport in use has that many quarters of its room taken, at most, and none has a queue. While
/// the server refuses ops, or answers are not awaited, there is room: each op ends at once.
bool RemoteServer::has_room(uint32_t quarters) const {
  if (refusal_ != Status::kOk) return true;
  if (!welcomed_) return unrouted_.size() < kQueuedMax;
  bool room = false;
  for (const auto& connection : connections_) {
    if (connection->queued() >= kQueuedMax) return false;
    const bool used = connection->open() && connection->transport() == choice_.now();
    room = room || (used && connection->has_room(quarters));
  }
  return room || !any_open();
}

void RemoteServer::reroute_all() {
  UnitQueue units;
  for (const auto& connection : connections_) connection->take_queued(units);
  while (Unit* unit = unrouted_.pop_front()) {
    unit->queue = &units;
    units.push_back(*unit);
  }
  while (Unit* unit = units.pop_front()) {
    unit->queue = nullptr;
    route(*unit);
  }
}

void RemoteServer::refuse_waiting() {
  UnitQueue units;
  for (const auto& connection : connections_) connection->take_queued(units);
  while (Unit* unit = unrouted_.pop_front()) {
    unit->queue = &units;
    units.push_back(*unit);
  }
  // on_refused takes the unit, and maybe others of its op, out of the queue.
  while (Unit* unit = units.front()) context_.on_refused(*unit, refusal_);
}

// Connecting. Never inside a submit: always from the timer.

void RemoteServer::connect_soon(uint64_t delay_ns) {
  if (stopping_) return;
  const uint64_t due = std::max(context_.now_ns() + delay_ns, not_before_ns_);
  if (!timer_.armed() || timer_.deadline_ns > due) context_.reactor().start(timer_, due);
}

void RemoteServer::on_timer() {
  resolver_.start(context_.reactor());
  on_resolved();
}

void RemoteServer::on_resolved() {
  if (stopping_ || timer_.armed() || !resolver_.ready()) return;  // a wake says when it is
  const bool probing = refusal_ != Status::kOk || (!welcomed_ && !unrouted_.empty());
  bool needed = false;
  for (size_t i = 0; i < connections_.size(); i++) {
    Connection& connection = *connections_[i];
    if (connection.transport() != Transport::kTcp || connection.state() != Connection::State::kIdle) continue;
    if (!connection.has_queued() && !(probing && i == 0)) continue;
    needed = true;
    if (!resolver_.addresses().empty()) try_connect(connection);
  }
  if (needed && resolver_.addresses().empty()) open_breaker(Status::kUnavailable, resolver_.failure());
}

void RemoteServer::try_connect(Connection& connection) {
  const auto& addresses = resolver_.addresses();
  const io::SocketAddress& address = addresses[next_address_ % addresses.size()];
  connection.connect(address.get(), address.length, context_.now_ns() + kConnectNs);
}

void RemoteServer::on_connect_failed(Connection& connection, Error why, std::string_view goodbye) {
  if (stopping_) return;
  const std::string text = text_of(why, goodbye);
  if (connection.transport() != Transport::kTcp) return on_one_sided_failed(connection, why, text);
  next_address_++;
  if (refusal_ == Status::kOk && !is_refusal(why.status) && ++addresses_failed_ < resolver_.addresses().size())
    return connect_soon(0);
  addresses_failed_ = 0;
  if (!any_open()) return open_breaker(is_refusal(why.status) ? why.status : Status::kUnavailable, text);
  not_before_ns_ = context_.now_ns() + kReconnectGapNs;
  why_ = text;
  retry_queued(connection);
}

void RemoteServer::retry_queued(Connection& connection) {
  UnitQueue queued;
  connection.take_queued(queued);
  while (Unit* unit = queued.front()) context_.retry_later(*unit);
}

/// The list says who should answer at an address: a mix-up would scatter keys for good.
bool RemoteServer::accept_name(std::string_view server_name) {
  if (address_.named && !server_name.empty()) return server_name == address_.name;
  const bool nothing_amiss = !address_.named && server_name.empty();
  if (nothing_amiss || std::exchange(name_warned_, true)) return true;
  if (address_.named) {
    MEMKV_LOG(kWarn, "server {} tells no name of its own: that it is the right one cannot be checked", address_.name);
  } else {
    MEMKV_LOG(kWarn, "server {} calls itself '{}': write {}={} in the list, or its keys move when its address changes",
              address_.name, server_name, server_name, address_.name);
  }
  return true;
}

void RemoteServer::on_welcome(Connection& connection, const wire::Welcome& welcome) {
  const bool moved = welcome.shard_seed != welcome_.shard_seed || welcome.namespace_id != welcome_.namespace_id ||
                     welcome.worker_of_shard != welcome_.worker_of_shard ||
                     welcome.shard_count != welcome_.shard_count || welcome.worker_count != welcome_.worker_count;
  const bool same_process = known_ && welcome.boot_id == welcome_.boot_id;
  welcome_ = welcome;
  if (moved) map_number_++;
  context_.counters().connects.add();
  if (connection.transport() == Transport::kTcp) {
    addresses_failed_ = 0;
    known_ = true;
    if (!same_process) choice_.start_anew(context_.now_ns());
    one_sided_soon(0);
    if (choice_.only_one_sided()) return;  // what it told is enough
  } else if (!on_one_sided_open(connection, same_process)) {
    return;
  }
  why_.clear();
  close_breaker();
  if (!std::exchange(welcomed_, true) || moved || connection.has_queued()) reroute_all();
  pump();
}

void RemoteServer::on_map(const wire::WorkerMap& map) {
  welcome_.worker_count = map.worker_count;
  welcome_.shard_count = map.shard_count;
  welcome_.worker_of_shard = map.worker_of_shard;
  map_number_++;
  reroute_all();
  pump();
}

// Liveness.

bool RemoteServer::silent_since(uint64_t since_ns) const {
  uint64_t heard_ns = std::max(heard_ns_, since_ns);
  for (const auto& connection : connections_) heard_ns = std::max(heard_ns, connection->heard_ns());
  return context_.now_ns() - heard_ns >= kNoticedNs;
}

void RemoteServer::check_liveness(uint64_t now_ns) {
  for (const auto& connection : connections_) {
    if (connection->check_liveness(now_ns)) continue;
    if (connection->state() == Connection::State::kWelcoming || connection->transport() != Transport::kTcp) {
      connection->close(Status::kUnavailable);  // on_connect_failed follows, or on_lost
      continue;
    }
    return open_breaker(Status::kUnavailable, "it does not answer pings");
  }
}

void RemoteServer::on_lost(Connection& connection, const Error& why) {
  if (stopping_) return;
  if (connection.transport() != Transport::kTcp) return on_one_sided_lost(connection, text_of(why, {}));
  if (refusal_ != Status::kOk) return probe_again();
  why_ = text_of(why, {});
  // One that takes connections and ends them again is not asked without a pause.
  const uint64_t now = context_.now_ns();
  const bool short_lived = now - connection.since_ns() < kShortLifeNs;
  reconnect_gap_ns_ = short_lived ? std::clamp(2 * reconnect_gap_ns_, kReconnectGapNs, kReconnectGapMaxNs) : 0;
  not_before_ns_ = now + reconnect_gap_ns_;
  const bool needed = !unrouted_.empty() || std::any_of(connections_.begin(), connections_.end(),
                                                        [](const auto& c) { return c->has_queued(); });
  if (needed) connect_soon(0);
}

/// The connection over which a refused server was watched is lost: maybe another process serves there soon.
void RemoteServer::probe_again() {
  if (timer_.armed()) return;
  known_ = false;
  connect_soon(context_.jitter_ns(backoff_ns_ / 2, backoff_ns_));
}

void RemoteServer::open_breaker(Status status, const std::string& why) {
  if (refusal_ != status || why_ != why) {
    MEMKV_LOG(kWarn, "server {} is not used for now: {}", address_.name, why.empty() ? to_string(status) : why);
  }
  if (refusal_ == Status::kOk) context_.counters().breaker_opened.add();
  refusal_ = status;
  why_ = why;
  addresses_failed_ = 0;
  backoff_ns_ = std::clamp(backoff_ns_ * 2, kBackoffMin, kBackoffMax);
  close_all(Status::kUnavailable);
  refuse_waiting();
  connect_soon(context_.jitter_ns(backoff_ns_ / 2, backoff_ns_));
}

void RemoteServer::close_breaker() {
  backoff_ns_ = 0;
  not_before_ns_ = 0;
  if (std::exchange(refusal_, Status::kOk) == Status::kOk) return;
  MEMKV_LOG(kInfo, "server {} is used again", address_.name);
}

void RemoteServer::close_all(Status why) {
  for (const auto& connection : connections_) connection->close(why);
}

void RemoteServer::shut_down() {
  stopping_ = true;
  context_.reactor().stop(timer_);
  context_.reactor().stop(one_sided_timer_);
  close_all(Status::kCanceled);
}

bool RemoteServer::at_rest() const {
  return std::all_of(connections_.begin(), connections_.end(), [](const auto& c) { return c->quiet_at_rest(); });
}

size_t RemoteServer::frames() const {
  size_t frames = 0;
  for (const auto& connection : connections_) {
    frames += connection->frames() + (connection->state() == Connection::State::kWelcoming);
  }
  return frames;
}

ServerLine RemoteServer::describe() const {
  const std::string where = io::format_host_port(address_.host, address_.port);
  const std::string who = address_.named ? address_.name + " at " + where : where;
  if (refusal_ != Status::kOk)
    return {fmt::format("{}: {}: {}", who, to_string(refusal_), why_), ServerLine::Knows::kWhyNot};
  std::array<size_t, kTransportCount> open{};  // by transport
  std::string congestion = "?";
  for (const auto& connection : connections_) {
    if (!connection->open()) continue;
    open[static_cast<size_t>(connection->transport())]++;
    if (connection->transport() == Transport::kTcp) congestion = io::get_congestion(connection->fd());
  }
  if (!any_open()) {
    return {fmt::format("{}: not connected{}{}", who, why_.empty() ? "" : ": ", why_),
            why_ == kNotUsedYet ? ServerLine::Knows::kNothing : ServerLine::Knows::kWhyNot};
  }
  std::string text = fmt::format("{}: connected, {}", who, choice_.describe());
  if (choice_.now() == Transport::kTcp) text += ", congestion control " + congestion;
  text += fmt::format(", workers {}, connections {}", welcome_.worker_count, open[static_cast<size_t>(choice_.now())]);
  if (choice_.switches() > 0) text += fmt::format(", transport switches {}", choice_.switches());
  return {text, ServerLine::Knows::kConnected};
}

}  // namespace memkv::client
