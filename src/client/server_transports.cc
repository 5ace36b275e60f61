/// Which transport a server's ops take. One-sided transports (shm, rdma) are opened beside tcp, which tells what server
/// it is and carries ops until they are open and whenever they fail.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "client/context.h"
#include "client/server.h"
#include "io/socket.h"
#include "transport/rdma/devices.h"

namespace memkv::client {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kOpenNs = 1000 * kMs;  // one attempt, handshake included
// Queue pairs are set up one after the other, and each may block for a second: after a restart of the server that has
// many clients an attempt that gave up early would only begin again at the end of the line.
constexpr uint64_t kOpenRailNs = 10'000 * kMs;
constexpr uint64_t kGapNs = 20 * kMs;  // to the next attempt of one connection, while others are open
constexpr uint64_t kGapMaxNs = 2000 * kMs;

}  // namespace

/// What this program cannot use at all.
void RemoteServer::rule_out_one_sided() {
  if (context_.rdma()) return;
  choice_.rule_out(Transport::kRdma, context_.why_no_rdma());
}

// Which connection.

/// The best transport whose connection is open, else tcp, at once; what is not open yet is opened meanwhile.
Connection& RemoteServer::connection_for(uint16_t worker) {
  for (const Transport transport : TransportChoice::kOneSided) {
    if (!choice_.up(transport) && !choice_.is_only(transport)) continue;
    Connection& connection = connection_of(transport, worker);
    if (connection.open() || choice_.is_only(transport)) return connection;
    if (connection.state() != Connection::State::kIdle || connection.should_open) continue;
    connection.should_open = true;
    open_soon(connection);
  }
  return connection_of(Transport::kTcp, worker);
}

/// Null: none is open, nor being opened now. Another transport is no way out: it would touch the memory from here.
Connection* RemoteServer::gpu_rail_of(const Op& op) {
  const bool usable = context_.rdma() && (choice_.up(Transport::kRdma) || choice_.is_only(Transport::kRdma));
  const uint32_t rails = usable ? context_.gpu_rails(op.pieces) : 0;
  if (rails == 0) return nullptr;
  Connection& connection = rail_of(worker_of(op.key), rails);
  const bool waits = connection.state() == Connection::State::kIdle && connection.not_before_ns > context_.now_ns();
  return waits ? nullptr : &connection;
}

/// Of those of the rails that are open, the one with the least to do; those that are not are opened meanwhile.
Connection& RemoteServer::rail_of(uint16_t worker, uint32_t rails) {
  Connection* best = nullptr;
  Connection* first = nullptr;
  std::array<bool, transport::rdma::kRailsMax> seen{};
  const uint64_t now = context_.now_ns();
  for (const auto& connection : connections_) {
    if (connection->transport() != Transport::kRdma || connection->worker() != worker) continue;
    seen[connection->rail()] = true;
    if ((rails >> connection->rail() & 1) == 0) continue;
    if (!first || connection->state() != Connection::State::kIdle) first = connection.get();
    if (connection->open()) {
      if (!best || connection->less_loaded_than(*best)) best = connection.get();
    } else if (connection->state() == Connection::State::kIdle && !connection->should_open &&
               connection->not_before_ns <= now) {
      connection->should_open = true;
      open_soon(*connection);
    }
  }
  for (size_t rail = 0; rail < context_.rail_count(); rail++) {
    if (seen[rail]) continue;
    connections_.push_back(std::make_unique<Connection>(context_, *this, Transport::kRdma, worker, rail));
    connections_.back()->should_open = true;
    open_soon(*connections_.back());
    if (!first && (rails >> rail & 1) != 0) first = connections_.back().get();
  }
  return best ? *best : *first;
}

Connection& RemoteServer::connection_of(Transport transport, uint16_t worker) {
  if (transport == Transport::kRdma) return rail_of(worker);
  const size_t wanted = context_.settings().connections_per_worker;
  size_t found = 0;
  const size_t pick = wanted > 1 ? round_++ % wanted : 0;
  Connection* first = nullptr;
  for (const auto& connection : connections_) {
    if (connection->worker() != worker || connection->transport() != transport) continue;
    if (found++ == pick) return *connection;
    if (!first) first = connection.get();
  }
  if (found < wanted)
    return *connections_.emplace_back(std::make_unique<Connection>(context_, *this, transport, worker));
  return *first;
}

bool RemoteServer::any_open() const {
  return std::any_of(connections_.begin(), connections_.end(), [](const auto& c) { return c->open(); });
}

bool RemoteServer::any_opening(Transport transport) const {
  return std::any_of(connections_.begin(), connections_.end(), [&](const auto& c) {
    const bool opening = c->state() == Connection::State::kConnecting || c->state() == Connection::State::kWelcoming;
    return opening && c->transport() == transport;
  });
}

bool RemoteServer::any_open(Transport transport) const {
  return std::any_of(connections_.begin(), connections_.end(),
                     [&](const auto& c) { return c->open() && c->transport() == transport; });
}

// Opening. Never inside a submit: always from a timer.

void RemoteServer::open_soon(Connection& connection) {
  if (connection.transport() == Transport::kTcp) return connect_soon(0);
  const uint64_t now = context_.now_ns();
  one_sided_soon(connection.not_before_ns > now ? connection.not_before_ns - now : 0);
}

void RemoteServer::one_sided_soon(uint64_t delay_ns) {
  if (stopping_) return;
  const uint64_t due = context_.now_ns() + delay_ns;
  if (!one_sided_timer_.armed() || one_sided_timer_.deadline_ns > due) context_.reactor().start(one_sided_timer_, due);
}

/// Opens what is wanted of the transports that work, and probes those that may work again.
void RemoteServer::open_one_sided() {
  const uint64_t now = context_.now_ns();
  for (size_t i = 0; i < connections_.size(); i++) {
    Connection& connection = *connections_[i];
    if (!choice_.up(connection.transport()) || connection.state() != Connection::State::kIdle) continue;
    if (!connection.should_open && !connection.has_queued()) continue;
    if (connection.not_before_ns > now)
      one_sided_soon(connection.not_before_ns - now);
    else
      try_one_sided(connection);
  }
  for (const Transport transport : TransportChoice::kOneSided) {
    if (!known_ || !choice_.allowed(transport) || choice_.up(transport)) continue;
    if (!choice_.due(transport, now)) {
      if (choice_.due_ns(transport) != UINT64_MAX) one_sided_soon(choice_.due_ns(transport) - now);
      continue;
    }
    Connection& probe = connection_of(transport, welcome_.worker);
    if (transport == Transport::kRdma)
      try_rails();
    else if (probe.state() == Connection::State::kIdle)
      try_one_sided(probe);
  }
}

/// All of them at once: one that works is enough.
void RemoteServer::try_rails() {
  for (size_t i = 0; i < connections_.size(); i++) {
    Connection& connection = *connections_[i];
    const bool probe = connection.transport() == Transport::kRdma && connection.worker() == welcome_.worker;
    if (probe && connection.state() == Connection::State::kIdle) try_one_sided(connection);
  }
}

/// One attempt. Its outcome: on_one_sided_open, or on_one_sided_failed.
void RemoteServer::try_one_sided(Connection& connection) {
  connection.should_open = true;
  if (connection.transport() == Transport::kRdma) return try_rdma(connection);
  const std::string path = find_socket();
  const auto address = io::unix_address(path);
  if (path.empty() || !address) {
    return on_one_sided_failed(connection, Error{Status::kInvalid, 0, ""}, "its socket is not on this host");
  }
  connection.connect(address->get(), address->length, context_.now_ns() + kOpenNs);
}

/// The control connection goes where tcp goes.
void RemoteServer::try_rdma(Connection& connection) {
  const auto& addresses = resolver_.addresses();
  if (addresses.empty()) {
    return on_one_sided_failed(connection, Error{Status::kUnavailable, 0, ""}, "no address is known");
  }
  const io::SocketAddress& address = addresses[next_address_ % addresses.size()];
  connection.connect(address.get(), address.length, context_.now_ns() + kOpenRailNs);
}

/// The server's unix socket, by its boot id; empty: it is not on this host, or has none.
std::string RemoteServer::find_socket() const {
  const std::string name = transport::shm_socket_name(welcome_.boot_id);
  for (const std::string& dir : context_.settings().shm_dirs) {
    std::string path = dir + "/" + name;
    if (access(path.c_str(), F_OK) == 0) return path;
  }
  return {};
}

// What came of it.

/// False: it is not the server that tcp leads to.
bool RemoteServer::on_one_sided_open(Connection& connection, bool same_process) {
  if (!same_process) {
    connection.close(Status::kUnavailable);  // on_lost follows
    return false;
  }
  connection.should_open = false;
  connection.backoff_ns = 0;
  one_sided_soon(0);  // for others that should be open
  if (choice_.set_up(connection.transport())) on_switch(fmt::format("{} works", to_string(connection.transport())));
  // There is nothing that it could be used for.
  if (choice_.only_one_sided() && connections_[0]->open()) connections_[0]->close(Status::kOk);
  return true;
}

void RemoteServer::on_one_sided_failed(Connection& connection, const Error& why, const std::string& text) {
  const Transport transport = connection.transport();
  connection.should_open = false;
  back_off(connection, text);
  retry_queued(connection);
  if (any_open(transport) || any_opening(transport)) return;
  leave(transport, text);
  if (!choice_.is_only(transport) || refusal_ != Status::kOk) return;
  known_ = welcomed_ = false;
  const bool transient = why.status == Status::kUnavailable || why.status == Status::kBusy ||
                         why.status == Status::kDeadline || why.status == Status::kCanceled;
  open_breaker(transient ? Status::kUnavailable : why.status,
               fmt::format("transport {}: {}", to_string(transport), text));
}

void RemoteServer::on_one_sided_lost(Connection& connection, const std::string& text) {
  const Transport transport = connection.transport();
  if (transport == Transport::kRdma) context_.rdma_host()->rail(connection.rail()).counters.switches.fetch_add(1);
  back_off(connection, text);
  if (any_open(transport)) return;
  leave(transport, text);
  if (!choice_.is_only(transport)) return;
  // Maybe another process serves there now: tcp tells, when there are ops.
  known_ = welcomed_ = false;
  why_ = text;
  reroute_all();  // also what waits for connections that are not open
}

/// Not again for a while, longer each time.
void RemoteServer::back_off(Connection& connection, const std::string& text) {
  connection.backoff_ns = std::clamp(connection.backoff_ns * 2, kGapNs, kGapMaxNs);
  connection.not_before_ns = context_.now_ns() + connection.backoff_ns;
  if (connection.transport() != Transport::kRdma) return;
  MEMKV_LOG_EVERY(1, kInfo, "server {}: rail {} is not used for now: {}", address_.name, connection.rail(), text);
}

/// Its ops go another way at once; a probe looks whether it works again.
void RemoteServer::leave(Transport transport, const std::string& text) {
  const bool switched = choice_.set_down(transport, text, context_.now_ns(),
                                         [&](uint64_t low, uint64_t high) { return context_.jitter_ns(low, high); });
  if (switched) on_switch(fmt::format("{}: {}", to_string(transport), text));
  const uint64_t now = context_.now_ns(), due = choice_.due_ns(transport);
  if (due != UINT64_MAX) one_sided_soon(due > now ? due - now : 0);
}

void RemoteServer::on_switch(const std::string& text) {
  context_.counters().transport_switches.add();
  MEMKV_LOG(kInfo, "server {}: ops go over {} now ({})", address_.name, to_string(choice_.now()), text);
}

}  // namespace memkv::client
