#include "client/remote/remote_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/test_rules.h"
#include "client/remote/remote_server.h"
#include "io/socket.h"
#include "transport/rdma/devices.h"

namespace memkv::client {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kConnectNs = 1500 * kMs;  // one attempt, handshake included; a lost SYN is sent again after 1 s
constexpr uint64_t kNoticedNs = 250 * kMs;   // who is silent for so long is asked whether it lives
constexpr size_t kUnroutedMax = 64;          // units of lists that wait for the first connection

std::string text_of(const Error& why, std::string_view goodbye) {
  std::string text(goodbye.empty() ? std::string_view(why.what) : goodbye);
  if (why.sys_errno != 0) text += fmt::format(": {}", std::strerror(why.sys_errno));
  return text;
}

/// Where it may be better soon, without anybody's help.
bool is_transient(Status status) {
  return status == Status::kUnavailable || status == Status::kBusy || status == Status::kDeadline ||
         status == Status::kCanceled;
}

/// The server restarted with fewer workers. A flush by an older map: the remaining ones flush its shards. A list: there
/// is nothing in what is no worker.
bool is_for_no_worker(const Unit& unit, const wire::Welcome& welcome) {
  const Kind kind = unit.op->spec->kind;
  if (kind == Kind::kFlush && unit.worker == wire::kAnyWorker) return false;
  return (kind == Kind::kFlush || kind == Kind::kList) && unit.worker >= welcome.worker_count;
}

}  // namespace

RemoteServer::RemoteServer(Shared& shared, size_t index, const ServerAddress& address)
    : shared_(shared),
      index_(index),
      facts_{address, {}},
      resolver_(address.host, address.port),
      routes_(shared, *this, facts_),
      one_sided_(shared, *this, facts_, resolver_, routes_),
      alarm_(
          shared.machine, [](io::Timer& timer) { static_cast<RemoteServer*>(timer.context)->on_time(); }, this) {}

RemoteServer::~RemoteServer() { MEMKV_ASSERT(routes_.at_rest() && unrouted_.empty()); }

// The way of a unit.

Status RemoteServer::refusal_of(const Request& op) {
  if (breaker_.is_open() || !op.gpu || !welcomed_ || op.pinned) return breaker_.refusal();
  const bool there = routes_.choice().untried(Transport::kRdma) || routes_.pick_gpu_rail(op);
  one_sided_.open_marked();
  return there ? Status::kOk : Status::kUnsupported;
}

Remote::Workers RemoteServer::workers() const {
  if (!welcomed_ || breaker_.is_open()) return {};
  return {facts_.welcome.worker_count, facts_.map_number};
}

/// A server that is not known yet gets a connection first, and the unit waits for its WELCOME. After that it stands in the
/// queue of one connection, which may have to be opened.
void RemoteServer::route(Unit& unit) {
  MEMKV_ASSERT(unit.queue == nullptr && unit.frame == nullptr);
  if (const Status refusal = refusal_of(*unit.op); refusal != Status::kOk) {
    return shared_.units.on_refused(unit, refusal);
  }
  dirty_ = true;
  if (!welcomed_) {
    add_to(unrouted_, unit);
    if (routes_.first().state() == Connection::State::kIdle) connect_soon(0);
    return;
  }
  if (AdminSlot* slot = unit.op->spec->admin) {
    slot->worker_count = facts_.welcome.worker_count;
    if (is_for_no_worker(unit, facts_.welcome)) {
      wire::OpReply nothing_to_do;
      nothing_to_do.status = Status::kOk;
      return shared_.units.on_reply(unit, nothing_to_do, {});
    }
  }
  if (Connection* connection = routes_.pick(unit))
    enqueue(*connection, unit);
  else
    shared_.units.on_delayed(unit);  // in front of the first probe of rdma; after that ops do not wait for rails
  one_sided_.open_marked();
}

/// The connection is opened if need be: never inside a submit, always from a timer.
void RemoteServer::enqueue(Connection& connection, Unit& unit) {
  connection.enqueue(unit);
  if (connection.state() != Connection::State::kIdle) return;
  if (connection.transport() == Transport::kTcp)
    connect_soon(0);
  else
    one_sided_.open_by(connection.not_before_ns);
}

void RemoteServer::pump() {
  if (std::exchange(dirty_, false)) routes_.pump();
}

void RemoteServer::on_room(Connection& connection) {
  connection.pump();
  shared_.units.on_room(*this);
}

/// While the server refuses ops, or answers are not awaited, there is room: each op ends at once.
bool RemoteServer::has_room(uint32_t quarters) const {
  if (breaker_.is_open()) return true;
  return welcomed_ ? routes_.has_room(quarters) : unrouted_.size() < kUnroutedMax;
}

/// All that has not left.
void RemoteServer::take_waiting(UnitQueue& units) {
  routes_.take_queued(units);
  while (Unit* unit = unrouted_.pop_front()) add_to(units, *unit);
}

void RemoteServer::reroute_all() {
  UnitQueue units;
  take_waiting(units);
  while (Unit* unit = units.front()) {
    unit->leave_queue();
    shared_.units.on_moved(*unit);
  }
}

void RemoteServer::refuse_waiting() {
  MEMKV_ASSERT(breaker_.is_open());
  UnitQueue units;
  take_waiting(units);
  // on_refused takes the unit, and maybe others of its op, out of the queue.
  while (Unit* unit = units.front()) shared_.units.on_refused(*unit, breaker_.refusal());
}

// Memory and uploads.

void RemoteServer::quiet(const Request& op) {
  for (const auto& connection : routes_.all()) connection->quiet(op);
}

bool RemoteServer::is_open(Path path) const {
  const Connection& connection = routes_.at(path.connection);
  return connection.open() && connection.line().epoch == path.epoch;
}

bool RemoteServer::confirms_release(const Request& op) const {
  return std::any_of(routes_.all().begin(), routes_.all().end(), [&](const auto& connection) {
    return connection->transport() == Transport::kRdma && connection->holds_memory_of(op);
  });
}

void RemoteServer::close_holders(const Request& op) {
  for (const auto& connection : routes_.all()) {
    if (connection->holds_memory_of(op)) connection->close(Status::kDeadline);
  }
}

// Connecting over tcp. Never inside a submit: always from the timer.

void RemoteServer::connect_soon(uint64_t delay_ns) {
  if (!stopping_) alarm_.set(std::max(shared_.machine.now_ns() + delay_ns, breaker_.not_before_ns()));
}

void RemoteServer::on_time() {
  resolver_.start(shared_.machine.reactor());
  on_resolved();
}

/// Opens what ops wait for, and the probe of a server that is not known, or refused.
void RemoteServer::on_resolved() {
  if (stopping_ || alarm_.armed() || !resolver_.ready()) return;  // a wake says when it is
  const bool probing = breaker_.is_open() || (!welcomed_ && !unrouted_.empty());
  bool needed = false;
  for (size_t i = 0; i < routes_.all().size(); i++) {
    Connection& connection = routes_.at(i);
    if (connection.transport() != Transport::kTcp || connection.state() != Connection::State::kIdle) continue;
    if (!connection.has_queued() && !(probing && i == 0)) continue;
    needed = true;
    if (const io::SocketAddress* address = resolver_.present())
      connection.connect(address->get(), address->length, shared_.machine.now_ns() + kConnectNs);
  }
  if (needed && !resolver_.present()) open_breaker(Status::kUnavailable, resolver_.failure());
}

void RemoteServer::on_connect_failed(Connection& connection, const Error& why, std::string_view goodbye) {
  if (stopping_) return;
  const std::string text = text_of(why, goodbye);
  if (connection.transport() != Transport::kTcp) return on_one_sided_failed(connection, why.status, text);
  resolver_.take_next();
  if (breaker_.tries_another(why.status, resolver_.addresses().size())) return connect_soon(0);
  if (!routes_.any_open()) {
    return open_breaker(Breaker::is_refusal(why.status) ? why.status : Status::kUnavailable, text);
  }
  breaker_.on_failed_beside_others(text, shared_.machine.now_ns());
  connection.delay_queued();
}

/// The list says who should answer at an address: a mix-up would scatter keys for good.
bool RemoteServer::accept_name(std::string_view server_name) {
  if (facts_.address.named && !server_name.empty()) return server_name == facts_.address.name;
  const bool nothing_amiss = !facts_.address.named && server_name.empty();
  if (nothing_amiss || std::exchange(name_warned_, true)) return true;
  if (facts_.address.named) {
    MEMKV_LOG(kWarn, "server {} tells no name of its own: that it is the right one cannot be checked",
              facts_.address.name);
  } else {
    MEMKV_LOG(kWarn, "server {} calls itself '{}': write {}={} in the list, or its keys move when its address changes",
              name(), server_name, server_name, facts_.address.name);
  }
  return true;
}

void RemoteServer::on_welcome(Connection& connection, const wire::Welcome& welcome) {
  const uint64_t map_before = facts_.map_number;
  const bool same_process = facts_.learn(welcome, connection.transport());
  shared_.machine.counters().connects.add();
  if (connection.transport() == Transport::kTcp) {
    breaker_.on_address_works();
    if (!same_process) routes_.choice().start_anew(shared_.machine.now_ns());
    one_sided_.open_by(0);
    if (routes_.choice().only_one_sided()) return;  // what it told is enough
  } else if (!one_sided_.on_open(connection, same_process)) {
    return;
  }
  if (breaker_.close()) MEMKV_LOG(kInfo, "server {} is used again", name());
  const bool moved = facts_.map_number != map_before;
  if (!std::exchange(welcomed_, true) || moved || connection.has_queued()) reroute_all();
  shared_.units.on_room(*this);
  pump();
}

void RemoteServer::on_map(const wire::WorkerMap& map) {
  facts_.welcome.worker_count = map.worker_count;
  facts_.welcome.shard_count = map.shard_count;
  facts_.welcome.worker_of_shard = map.worker_of_shard;
  facts_.map_number++;
  reroute_all();
  shared_.units.on_room(*this);
  pump();
}

// Liveness.

bool RemoteServer::silent_since(uint64_t since_ns) const {
  const uint64_t heard_ns = std::max({since_ns, heard_ns_, routes_.heard_ns()});
  return shared_.machine.now_ns() - heard_ns >= kNoticedNs;
}

void RemoteServer::check_liveness(uint64_t now_ns) {
  for (const auto& connection : routes_.all()) {
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
  if (breaker_.is_open()) return probe_again();
  const uint64_t now = shared_.machine.now_ns();
  breaker_.on_lost(text_of(why, {}), now - connection.line().since_ns, now);
  if (!unrouted_.empty() || routes_.any_queued()) connect_soon(0);
}

/// Its transport is left when no other connection of it is open, nor being opened. Without the only one that may be
/// used the server is not usable.
void RemoteServer::on_one_sided_failed(Connection& connection, Status why, const std::string& text) {
  const Transport transport = connection.transport();
  connection.should_open = false;
  one_sided_.back_off(connection, text);
  connection.delay_queued();
  if (routes_.any_open(transport) || routes_.any_opening(transport)) return;
  one_sided_.leave(transport, text);
  if (!routes_.choice().is_only(transport) || breaker_.is_open()) return;
  facts_.known = welcomed_ = false;
  open_breaker(is_transient(why) ? Status::kUnavailable : why,
               fmt::format("transport {}: {}", to_string(transport), text));
}

void RemoteServer::on_one_sided_lost(Connection& connection, const std::string& text) {
  const Transport transport = connection.transport();
  if (transport == Transport::kRdma) {
    shared_.machine.rdma_host()->rail(connection.rail()).counters.switches.fetch_add(1);
  }
  one_sided_.back_off(connection, text);
  if (routes_.any_open(transport)) return;
  one_sided_.leave(transport, text);
  if (!routes_.choice().is_only(transport)) return;
  // Maybe another process serves there now: tcp tells, when there are ops. One that is open has told already. It may have
  // opened while this connection was still being closed, and nothing would ask it a second time.
  facts_.known = base::rules().rdma_probed_again && routes_.first().open();
  welcomed_ = false;
  breaker_.note(text);
  reroute_all();  // also what waits for connections that are not open
}

/// The connection over which a refused server was watched is lost: maybe another process serves there soon.
void RemoteServer::probe_again() {
  MEMKV_ASSERT(breaker_.backoff_ns() > 0);
  if (alarm_.armed()) return;
  facts_.known = false;
  connect_soon(shared_.machine.jitter_ns(breaker_.backoff_ns() / 2, breaker_.backoff_ns()));
}

void RemoteServer::open_breaker(Status status, const std::string& why) {
  if (breaker_.is_news(status, why)) {
    MEMKV_LOG(kWarn, "server {} is not used for now: {}", name(), why.empty() ? to_string(status) : why);
  }
  if (!breaker_.is_open()) shared_.machine.counters().breaker_opened.add();
  breaker_.open(status, why);
  routes_.close_all(Status::kUnavailable);
  refuse_waiting();
  connect_soon(shared_.machine.jitter_ns(breaker_.backoff_ns() / 2, breaker_.backoff_ns()));
}

// The end, and what people are told.

void RemoteServer::shut_down() {
  stopping_ = true;
  alarm_.stop();
  one_sided_.stop();
  routes_.close_all(Status::kCanceled);
}

ServerLine RemoteServer::describe() const {
  const std::string where = io::format_host_port(facts_.address.host, facts_.address.port);
  const std::string who = facts_.address.named ? facts_.address.name + " at " + where : where;
  if (breaker_.is_open()) {
    return {fmt::format("{}: {}: {}", who, to_string(breaker_.refusal()), breaker_.why()), ServerLine::Knows::kWhyNot};
  }
  std::array<size_t, kTransportCount> open{};  // by transport
  std::string congestion = "?";
  for (const auto& connection : routes_.all()) {
    if (!connection->open()) continue;
    open[static_cast<size_t>(connection->transport())]++;
    if (connection->transport() == Transport::kTcp) congestion = io::get_congestion(connection->line().link->fd());
  }
  if (!routes_.any_open()) {
    return {fmt::format("{}: not connected{}{}", who, breaker_.why().empty() ? "" : ": ", breaker_.why()),
            breaker_.why() == kNotUsedYet ? ServerLine::Knows::kNothing : ServerLine::Knows::kWhyNot};
  }
  std::string text = fmt::format("{}: connected, {}", who, routes_.choice().describe());
  if (routes_.choice().now() == Transport::kTcp) text += ", congestion control " + congestion;
  text += fmt::format(", workers {}, connections {}", facts_.welcome.worker_count,
                      open[static_cast<size_t>(routes_.choice().now())]);
  if (routes_.choice().switches() > 0) text += fmt::format(", transport switches {}", routes_.choice().switches());
  return {text, ServerLine::Knows::kConnected};
}

}  // namespace memkv::client
