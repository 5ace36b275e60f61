#include "client/remote/routes.h"

#include <algorithm>

#include "transport/rdma/devices.h"

namespace memkv::client {
namespace {

using State = Connection::State;
constexpr size_t kQueuedMax = 64;  // units of lists that wait at a connection, for a worker that is slower than others

bool is_same_map(const wire::Welcome& a, const wire::Welcome& b) {
  return a.shard_seed == b.shard_seed && a.namespace_id == b.namespace_id && a.worker_of_shard == b.worker_of_shard &&
         a.shard_count == b.shard_count && a.worker_count == b.worker_count;
}

}  // namespace

bool ServerFacts::learn(const wire::Welcome& told, Transport transport) {
  const bool same_process = known && told.boot_id == welcome.boot_id;
  if (!is_same_map(told, welcome)) map_number++;
  welcome = told;
  if (transport == Transport::kTcp) known = true;
  return same_process;
}

Routes::Routes(Shared& shared, ConnectionOwner& owner, const ServerFacts& server)
    : shared_(shared), owner_(owner), server_(server), choice_(shared.machine.settings().transport) {
  add(Transport::kTcp, wire::kAnyWorker);
  // What this program cannot use at all.
  if (!shared_.machine.rdma()) choice_.rule_out(Transport::kRdma, shared_.machine.why_no_rdma());
}

Connection& Routes::add(Transport transport, uint16_t worker, size_t rail) {
  const auto number = static_cast<uint32_t>(connections_.size());
  const Connection::Role role{.number = number, .transport = transport, .wanted_worker = worker, .rail = rail};
  return *connections_.emplace_back(std::make_unique<Connection>(shared_, owner_, server_, role));
}

uint16_t Routes::worker_of(std::string_view key) const {
  const wire::Welcome& welcome = server_.welcome;
  return welcome.worker_of_shard[wire::shard_of(key, welcome.shard_seed, welcome.namespace_id, welcome.shard_count)];
}

// Picking.

void Routes::mark(Connection& connection) {
  MEMKV_ASSERT(connection.transport() != Transport::kTcp && connection.state() == State::kIdle);
  connection.should_open = true;
  marked_due_ns_ = std::min(marked_due_ns_, std::max(shared_.machine.now_ns(), connection.not_before_ns));
}

bool Routes::take_marked(uint64_t& due_ns) {
  due_ns = std::exchange(marked_due_ns_, UINT64_MAX);
  return due_ns != UINT64_MAX;
}

Connection* Routes::pick(const Unit& unit) {
  const Request& op = *unit.op;
  MEMKV_ASSERT(!op.pinned || op.pinned.connection < connections_.size());
  if (op.pinned) return connections_[op.pinned.connection].get();
  if (op.gpu) return pick_gpu_rail(op);
  if (op.spec->kind == Kind::kStatus) return &pick(server_.welcome.worker);
  return &pick(op.spec->admin ? unit.worker : worker_of(op.key));
}

/// The best transport whose connection is open, else tcp, at once; what is not open yet is marked.
Connection& Routes::pick(uint16_t worker) {
  for (const Transport transport : TransportChoice::kOneSided) {
    if (!choice_.up(transport) && !choice_.is_only(transport)) continue;
    Connection& connection = pick(transport, worker);
    if (connection.open() || choice_.is_only(transport)) return connection;
    if (connection.state() == State::kIdle && !connection.should_open) mark(connection);
  }
  return pick(Transport::kTcp, worker);
}

Connection& Routes::pick(Transport transport, uint16_t worker) {
  if (transport == Transport::kRdma) return pick_rail(worker, kAllRails);
  const size_t wanted = shared_.machine.settings().connections_per_worker;
  size_t found = 0;
  const size_t pick = wanted > 1 ? round_++ % wanted : 0;
  Connection* first = nullptr;
  for (const auto& connection : connections_) {
    if (connection->worker() != worker || connection->transport() != transport) continue;
    if (found++ == pick) return *connection;
    if (!first) first = connection.get();
  }
  if (found < wanted) return add(transport, worker);
  return *first;
}

Connection* Routes::pick_gpu_rail(const Request& op) {
  const bool usable = shared_.machine.rdma() && (choice_.up(Transport::kRdma) || choice_.is_only(Transport::kRdma));
  const uint32_t rails = usable ? shared_.machine.gpu_rails(op.pieces) : 0;
  if (rails == 0) return nullptr;
  Connection& connection = pick_rail(worker_of(op.key), rails);
  const bool waits = connection.state() == State::kIdle && connection.not_before_ns > shared_.machine.now_ns();
  return waits ? nullptr : &connection;
}

/// Of those of the rails that are open, the one with the least to do; those that are not are marked.
Connection& Routes::pick_rail(uint16_t worker, uint32_t rails) {
  Connection* best = nullptr;
  Connection* first = nullptr;
  size_t made = 0;
  const uint64_t now = shared_.machine.now_ns();
  for (const auto& connection : connections_) {
    if (connection->transport() != Transport::kRdma || connection->worker() != worker) continue;
    made++;
    if ((rails >> connection->rail() & 1) == 0) continue;
    if (!first || connection->state() != State::kIdle) first = connection.get();
    if (connection->open()) {
      if (!best || connection->less_loaded_than(*best)) best = connection.get();
    } else if (connection->state() == State::kIdle && !connection->should_open && connection->not_before_ns <= now) {
      mark(*connection);
    }
  }
  if (made < shared_.machine.rail_count()) {
    add_rails(worker);
    return pick_rail(worker, rails);
  }
  return best ? *best : *first;
}

void Routes::add_rails(uint16_t worker) {
  std::array<bool, transport::rdma::kRailsMax> seen{};
  for (const auto& connection : connections_) {
    if (connection->transport() == Transport::kRdma && connection->worker() == worker) seen[connection->rail()] = true;
  }
  for (size_t rail = 0; rail < shared_.machine.rail_count(); rail++) {
    if (!seen[rail]) mark(add(Transport::kRdma, worker, rail));
  }
}

// All of them.

bool Routes::any_open() const {
  return std::any_of(connections_.begin(), connections_.end(), [](const auto& c) { return c->open(); });
}

bool Routes::any_open(Transport transport) const {
  return std::any_of(connections_.begin(), connections_.end(),
                     [&](const auto& c) { return c->open() && c->transport() == transport; });
}

bool Routes::any_opening(Transport transport) const {
  return std::any_of(connections_.begin(), connections_.end(), [&](const auto& c) {
    const bool opening = c->state() == State::kConnecting || c->state() == State::kWelcoming;
    return opening && c->transport() == transport;
  });
}

bool Routes::any_queued() const {
  return std::any_of(connections_.begin(), connections_.end(), [](const auto& c) { return c->has_queued(); });
}

bool Routes::has_room(uint32_t quarters) const {
  bool room = false;
  for (const auto& connection : connections_) {
    if (connection->queued() >= kQueuedMax) return false;
    const bool used = connection->open() && connection->transport() == choice_.now();
    room = room || (used && connection->has_room(quarters));
  }
  return room || !any_open();
}

void Routes::pump() {
  for (size_t i = 0; i < connections_.size(); i++) connections_[i]->pump();
}

void Routes::take_queued(UnitQueue& units) {
  for (const auto& connection : connections_) connection->take_queued(units);
}

void Routes::close_all(Status why) {
  for (const auto& connection : connections_) connection->close(why);
}

bool Routes::at_rest() const {
  return std::all_of(connections_.begin(), connections_.end(), [](const auto& c) { return c->quiet_at_rest(); });
}

size_t Routes::frames() const {
  size_t frames = 0;
  for (const auto& connection : connections_)
    frames += connection->frames() + (connection->state() == State::kWelcoming);
  return frames;
}

uint64_t Routes::heard_ns() const {
  uint64_t heard_ns = 0;
  for (const auto& connection : connections_) heard_ns = std::max(heard_ns, connection->heard_ns());
  return heard_ns;
}

}  // namespace memkv::client
