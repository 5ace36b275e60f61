/// One-sided transports (shm, rdma) are opened beside tcp, which tells what server it is and carries ops until they are
/// open and whenever they fail.

#include "client/remote/one_sided.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
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

// Opening. Never inside a submit: always from a timer.

OneSided::OneSided(Shared& shared, ConnectionOwner& owner, const ServerFacts& server, const Resolver& resolver,
                   Routes& routes)
    : shared_(shared),
      owner_(owner),
      server_(server),
      resolver_(resolver),
      routes_(routes),
      alarm_(
          shared.machine, [](io::Timer& timer) { static_cast<OneSided*>(timer.context)->on_time(); }, this) {}

void OneSided::open_by(uint64_t due_ns) {
  if (!stopped_) alarm_.set(std::max(due_ns, shared_.machine.now_ns()));
}

void OneSided::open_marked() {
  if (uint64_t due_ns = 0; routes_.take_marked(due_ns)) open_by(due_ns);
}

void OneSided::stop() {
  stopped_ = true;
  alarm_.stop();
}

/// Opens what is wanted of the transports that work, and probes those that may work again.
void OneSided::on_time() {
  const uint64_t now = shared_.machine.now_ns();
  for (size_t i = 0; i < routes_.all().size(); i++) {
    Connection& connection = routes_.at(i);
    if (connection.transport() == Transport::kTcp || !choice().up(connection.transport())) continue;
    if (connection.state() != Connection::State::kIdle) continue;
    if (!connection.should_open && !connection.has_queued()) continue;
    if (connection.not_before_ns > now)
      open_by(connection.not_before_ns);
    else
      try_one(connection);
  }
  for (const Transport transport : TransportChoice::kOneSided) {
    if (!server_.known || !choice().allowed(transport) || choice().up(transport)) continue;
    if (choice().due(transport, now))
      probe(transport);
    else if (choice().due_ns(transport) != UINT64_MAX)
      open_by(choice().due_ns(transport));
  }
  open_marked();
}

void OneSided::probe(Transport transport) {
  Connection& connection = routes_.pick(transport, server_.welcome.worker);
  if (transport == Transport::kRdma)
    try_rails();
  else if (connection.state() == Connection::State::kIdle)
    try_one(connection);
}

/// All of them at once: one that works is enough.
void OneSided::try_rails() {
  for (size_t i = 0; i < routes_.all().size(); i++) {
    Connection& connection = routes_.at(i);
    const bool probe = connection.transport() == Transport::kRdma && connection.worker() == server_.welcome.worker;
    if (probe && connection.state() == Connection::State::kIdle) try_one(connection);
  }
}

/// One attempt. Its outcome: ConnectionOwner::on_welcome, or on_connect_failed.
void OneSided::try_one(Connection& connection) {
  MEMKV_ASSERT(connection.state() == Connection::State::kIdle && connection.transport() != Transport::kTcp);
  connection.should_open = true;
  if (connection.transport() == Transport::kRdma) return try_rdma(connection);
  const std::string path = find_socket();
  const auto address = io::unix_address(path);
  if (path.empty() || !address) {
    return owner_.on_connect_failed(connection, Error{Status::kInvalid, 0, ""}, "its socket is not on this host");
  }
  connection.connect(address->get(), address->length, shared_.machine.now_ns() + kOpenNs);
}

/// The control connection goes where tcp goes.
void OneSided::try_rdma(Connection& connection) {
  const io::SocketAddress* address = resolver_.present();
  if (!address) {
    return owner_.on_connect_failed(connection, Error{Status::kUnavailable, 0, ""}, "no address is known");
  }
  connection.connect(address->get(), address->length, shared_.machine.now_ns() + kOpenRailNs);
}

/// The server's unix socket, by its boot id; empty: it is not on this host, or has none.
std::string OneSided::find_socket() const {
  const std::string name = transport::shm_socket_name(server_.welcome.boot_id);
  for (const std::string& dir : shared_.machine.settings().shm_dirs) {
    std::string path = dir + "/" + name;
    if (access(path.c_str(), F_OK) == 0) return path;
  }
  return {};
}

// What came of it.

/// False: it is not the server that tcp leads to.
bool OneSided::on_open(Connection& connection, bool same_process) {
  if (!same_process) {
    connection.close(Status::kUnavailable);  // on_lost follows
    return false;
  }
  MEMKV_ASSERT(connection.open());
  connection.should_open = false;
  connection.backoff_ns = 0;
  open_by(0);  // for others that should be open
  if (choice().set_up(connection.transport())) on_switch(fmt::format("{} works", to_string(connection.transport())));
  // There is nothing that it could be used for.
  if (choice().only_one_sided() && routes_.first().open()) routes_.first().close(Status::kOk);
  return true;
}

/// Not again for a while, longer each time.
void OneSided::back_off(Connection& connection, const std::string& text) {
  connection.backoff_ns = std::clamp(connection.backoff_ns * 2, kGapNs, kGapMaxNs);
  connection.not_before_ns = shared_.machine.now_ns() + connection.backoff_ns;
  if (connection.transport() != Transport::kRdma) return;
  MEMKV_LOG_EVERY(1, kInfo, "server {}: rail {} is not used for now: {}", server_.name(), connection.rail(), text);
}

/// Its ops go another way at once; a probe looks whether it works again.
void OneSided::leave(Transport transport, const std::string& text) {
  MEMKV_ASSERT(!routes_.any_open(transport), "ops still go over it");
  const bool switched = choice().set_down(transport, text, shared_.machine.now_ns(), [&](uint64_t low, uint64_t high) {
    return shared_.machine.jitter_ns(low, high);
  });
  if (switched) on_switch(fmt::format("{}: {}", to_string(transport), text));
  if (const uint64_t due = choice().due_ns(transport); due != UINT64_MAX) open_by(due);
}

void OneSided::on_switch(const std::string& text) {
  shared_.machine.counters().transport_switches.add();
  MEMKV_LOG(kInfo, "server {}: ops go over {} now ({})", server_.name(), to_string(choice().now()), text);
}

}  // namespace memkv::client
