#include "sim/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "format/layout.h"
#include "sim/calls.h"
#include "sim/fabric.h"
#include "sim/pending.h"
#include "sim/wire.h"
#include "transport/shm/window.h"

namespace memkv::sim {
namespace {

constexpr uint32_t kFirstClientHost = 100;
constexpr uint64_t kReadyNsMax = 60 * kSecond;
constexpr uint64_t kHelperJobsMax = 3;  ///< that stand one behind the other at a late helper, when a fault ends

ShmSpec shm_of(const Setup& setup) {
  if (!setup.has_shm()) return {};
  const wire::Windows windows{.get_ring_bytes = setup.shm.get_ring_bytes, .put_ring_bytes = setup.shm.put_ring_bytes};
  return {.windows = windows, .bytes_max = setup.shm.windows_max * transport::ShmWindow::bytes(windows)};
}

wire::Secret secret_of(uint32_t tenant) {
  wire::Secret secret{};
  for (size_t i = 0; i < secret.size(); i++) secret[i] = static_cast<uint8_t>(base::mix64(tenant * 64 + i + 1));
  return secret;
}

}  // namespace

Run::Run(uint64_t seed, const Plan& plan, const Options& options)
    : plan_(plan), options_(options), world_(seed), network_(world_), model_(plan.setup.servers()) {
  if (options.log) world_.trace().print();
  const Setup& setup = plan_.setup;
  log(describe(setup));
  for (uint32_t i = 1; i < setup.servers(); i++) log(fmt::format("s{}: {}", i, describe(setup.server(i))));
  if (setup.has_shm()) log(describe(setup.shm));
  if (setup.servers() > 1) log(fmt::format("{} of {} servers are in the list", setup.listed, setup.servers()));
  for (uint32_t i = 0; i < setup.servers(); i++) {
    for (uint32_t rail = 0; rail < setup.rails; rail++) network_.rdma().add_device(1 + i, rail);
  }
  if (setup.slow_network)
    network_.plan() = {.latency_ns_min = 100 * kUs, .latency_ns_max = 5 * kMs, .jitter_ns_max = 20 * kMs};
  network_.plan().window_bytes = setup.window_bytes;
  for (uint32_t i = 0; i < setup.tenants; i++) tenants_.push_back({fmt::format("tenant{}", i), secret_of(i)});
  std::vector<std::string> names;
  // Each time that the list grows there are auditors more.
  const uint32_t connections_max = setup.servers() == 1 ? 32 : 96;
  for (uint32_t i = 0; i < setup.servers(); i++) {
    servers_.push_back(std::make_unique<ServerSeat>(world_, network_, model_, i, setup.server(i), tenants_,
                                                    connections_max, i == 0 ? seed : base::mix64(seed ^ i),
                                                    shm_of(setup)));
    names.push_back(servers_.back()->name());
    placements_.emplace_back(names);
  }
  listed_ = setup.listed;
}

Run::~Run() = default;

RunResult Run::go() {
  for (auto& server : servers_) {
    if (!server->start()) fail(server->name() + " does not start");
  }
  for (size_t i = 0; i < plan_.setup.clients; i++) seat_client(i, static_cast<uint32_t>(i) % plan_.setup.tenants);
  seat_auditors();
  for (const Action& action : plan_.actions) {
    if (failed()) break;
    act(action);
    world_.run_for(action.wait_ns);
    start_due();
  }
  if (!failed()) settle();
  if (!failed()) finish();
  result_.trace_hash = world_.trace().hash();
  result_.trace_lines = world_.trace().lines();
  for (const auto& server : servers_) result_.kills += server->kills();
  result_.servers = plan_.setup.servers();
  result_.shm = plan_.setup.has_shm();
  result_.windows = network_.memory().files_made() / 2;
  for (const ClientSeat& seat : seats_) result_.switches += seat.process->counters().transport_switches;
  result_.rails = plan_.setup.rails;
  result_.rdma_bytes = network_.rdma().wire().bytes_moved();
  result_.changes = model_.changes();
  result_.reads = model_.reads();
  result_.misses_excused = model_.misses_excused();
  result_.stale_excused = model_.stale_excused();
  result_.simulated_ns = world_.now_ns() - 1000 * kSecond;
  return result_;
}

void Run::fail(std::string what) {
  if (failed()) return;
  log(fmt::format("VIOLATION: {}", what));
  result_.violation = std::move(what);
}

// Processes.

void Run::seat_client(size_t seat, uint32_t tenant) {
  if (seats_.size() <= seat) seats_.resize(seat + 1);
  ClientSeat& s = seats_[seat];
  s.id = ++client_ids_;
  s.tenant = tenant;
  s.listed = listed_;
  s.half_open = s.scribbled = false;
  s.troubled_until_ns = 0;
  s.ops_done = s.corrupt_before = s.breakers_before = 0;
  std::vector<std::string> list;  // of an order of its own, which does not matter
  for (uint32_t i = 0; i < listed_; i++) {
    const ServerSeat& server = *servers_[(i + s.id) % listed_];
    list.push_back(fmt::format("{}=10.0.0.{}:{}", server.name(), server.host(), Network::kPort));
  }
  const uint32_t host = kFirstClientHost + s.id;
  const bool placed = plan_.setup.has_shm() && seat < plan_.setup.clients;  // auditors are elsewhere
  const ClientPlace place = placed ? plan_.setup.shm.clients[seat] : ClientPlace{};
  Transport transport = place.transport;
  if (transport != Transport::kTcp) network_.place(host, servers_[place.machine]->host());
  if (plan_.setup.rails != 0) {
    for (uint32_t rail = 0; rail < plan_.setup.rails; rail++) network_.rdma().add_device(host, rail);
    constexpr Transport kTransports[] = {Transport::kAuto, Transport::kAuto, Transport::kRdma, Transport::kRdma,
                                         Transport::kTcp};
    transport = kTransports[base::mix64(s.id ^ plan_.actions.front().seed) % std::size(kTransports)];
  }
  s.rdma = plan_.setup.rails != 0 && transport != Transport::kTcp;
  s.helpers_late_ns = 0;
  s.process = std::make_unique<ClientProcess>(world_, network_,
                                              ClientSpec{.host = host,
                                                         .name = fmt::format("c{}", s.id),
                                                         .secret = tenants_[tenant].secret,
                                                         .servers = list,
                                                         .contexts = plan_.setup.contexts,
                                                         .connections_per_worker = plan_.setup.connections_per_worker,
                                                         .transport = transport});
}

/// One more client for each tenant, to which nothing ever happens.
void Run::seat_auditors() {
  for (uint32_t tenant = 0; tenant < plan_.setup.tenants; tenant++) seat_client(seats_.size(), tenant);
}

/// The server of a key, as the list of that client's process says.
uint32_t Run::server_of(const ClientSeat& seat, uint32_t key) const {
  return static_cast<uint32_t>(placements_[seat.listed - 1].server_of(key_name(key)));
}

/// Between actions: starts servers whose time has come.
void Run::start_due() {
  for (auto& server : servers_) server->start_if_due();
  watch_counters();
}

/// Looks at what servers and clients counted.
void Run::watch_counters() {
  for (auto& server : servers_) server->watch();
  // A client that finds damaged bytes reports a miss before the server has looked and dropped the block. A half-open
  // connection may be used, and noticed, long after it became so.
  const uint64_t now = world_.now_ns();
  for (ClientSeat& seat : seats_) {
    if (seat.process == nullptr || seat.process->dead()) continue;
    const ClientCounters counters = seat.process->counters();
    const bool found_damage = std::exchange(seat.corrupt_before, counters.corrupt) < counters.corrupt;
    const bool gave_up = std::exchange(seat.breakers_before, counters.breaker_opened) < counters.breaker_opened;
    for (auto& server : servers_) {
      if (found_damage && server->damaged()) server->note_drop();
      // Of a server to which nothing happened a client with good connections thinks no ill.
      if (gave_up && !expects_progress(seat, *server, now)) server->note_trouble(now);
    }
  }
  check_damage_counted();
  if (!network_.rdma().complaint().empty()) fail("rdma: " + network_.rdma().complaint());
}

/// True if nothing is known that could keep this client from this server, from `ns` on until now.
bool Run::expects_progress(const ClientSeat& seat, const ServerSeat& server, uint64_t ns) const {
  const Setup& setup = plan_.setup;
  if (setup.servers() == 1 || setup.slow_network || setup.large_blocks) return false;
  return server.calm_since(ns) && seat.troubled_until_ns <= ns && !seat.half_open;
}

// Actions.

void Run::act(const Action& action) {
  using Kind = Action::Kind;
  if (action.kind == Kind::kBatch) return submit_batch(action.a, action.seed);
  if (action.kind == Kind::kSettle) return settle();
  log(describe(action));
  result_.faults++;
  if (is_of_rdma(action.kind)) return act_on_rdma(action);
  switch (action.kind) {
    case Kind::kPauseClient:
    case Kind::kKillClient:
    case Kind::kCutNetwork:
    case Kind::kHalfOpen:
    case Kind::kBlackhole:
    case Kind::kScribble:
      return act_on_client(action);
    case Kind::kWallClock:
      return step_wall_clock(static_cast<int64_t>(action.b));
    case Kind::kGrowList:
      listed_ = std::min(listed_ + 1, plan_.setup.servers());
      return seat_auditors();
    default:
      watch_counters();
      if (action.kind == Kind::kPowerCut) kill_clients_on(action.server);
      return servers_[action.server]->act(action);
  }
}

void Run::kill_client(size_t number) {
  ClientSeat& seat = seats_[number];
  model_.client_died(seat.id, world_.now_ns());
  abandon_ops(*seat.process);
  result_.switches += seat.process->counters().transport_switches;
  seat.process->kill();
  client_graves_.push_back(std::move(seat.process));
  seat_client(number, seat.tenant);
}

/// A machine loses power with all that is on it.
void Run::kill_clients_on(uint32_t machine) {
  for (size_t i = 0; plan_.setup.has_shm() && i < plan_.setup.clients; i++) {
    if (uses_shm(seats_[i]) && plan_.setup.shm.clients[i].machine == machine) kill_client(i);
  }
}

/// Writes nonsense where the client writes what servers read: into an index, a word, or bytes that wait in the ring.
void Run::scribble(ClientSeat& seat, uint64_t seed) {
  seat.scribbled = true;
  base::Random random(seed);
  const auto memory = network_.memory().writable(seat.process->spec().host);
  if (!memory.empty()) scribble_in(memory[random.below(memory.size())], random);
}

void Run::act_on_client(const Action& action) {
  ClientSeat& seat = seats_[action.a];
  const uint32_t host = seat.process->spec().host;
  const uint64_t until = world_.now_ns() + action.b;
  switch (action.kind) {
    case Action::Kind::kPauseClient:
      action.seed % 2 == 0 ? seat.process->pause_until(until) : seat.process->stall_thread(action.seed, until);
      seat.disturbed_ns = seat.process->paused_until_ns();  // another thread may stand still for longer
      seat.troubled_until_ns = std::max(seat.troubled_until_ns, seat.disturbed_ns + kUnreachableNs);
      return;
    case Action::Kind::kKillClient:
      return kill_client(action.a);
    case Action::Kind::kScribble:
      if (!uses_shm(seat)) return;
      scribble(seat, action.seed);
      break;
    case Action::Kind::kCutNetwork:
      network_.reset_connections(host);
      break;
    case Action::Kind::kHalfOpen:
      network_.make_half_open(host, action.seed % 1'000'000);
      break;
    default:
      network_.blackhole_until(host, until);
      break;
  }
  seat.half_open = seat.half_open || action.kind == Action::Kind::kHalfOpen;
  seat.troubled_until_ns = std::max(seat.troubled_until_ns, until + kUnreachableNs);
  for (uint32_t i = 0; i < plan_.setup.servers(); i++) model_.note_unreachable(i, until + kUnreachableNs);
}

/// What clients and servers make of it shows as trouble with the network.
void Run::act_on_rdma(const Action& action) {
  ClientSeat& seat = seats_[action.a];
  const uint32_t host = action.of_client ? seat.process->spec().host : servers_[action.server]->host();
  const uint64_t until = world_.now_ns() + action.b;
  const uint32_t rail = static_cast<uint32_t>(action.seed % std::max(plan_.setup.rails, 1u));
  Fabric& fabric = network_.rdma();
  switch (action.kind) {
    case Action::Kind::kRailGone:
      fabric.remove_device(host, rail);
      world_.at(until, [&fabric, host, rail] { fabric.add_device(host, rail); });
      break;
    case Action::Kind::kRailDark:
      fabric.faults(host).dark_ns[rail] = until;
      break;
    case Action::Kind::kPairError:
      (void)fabric.wire().break_pair(host, action.seed % 1'000'000);
      break;
    case Action::Kind::kHelpersLate:
      fabric.faults(host).helpers_late_until_ns = until;
      if (action.of_client) seat.helpers_late_ns = until + kHelperJobsMax * kHelperLateNsMax;
      break;
    default:
      fabric.faults(host).no_memory_until_ns = until;
      break;
  }
  const uint64_t over = until + kHelperJobsMax * kHelperLateNsMax;
  if (action.of_client) {
    seat.troubled_until_ns = std::max(seat.troubled_until_ns, over + kUnreachableNs);
    for (uint32_t i = 0; i < plan_.setup.servers(); i++) model_.note_unreachable(i, over + kUnreachableNs);
  } else {
    servers_[action.server]->note_trouble(over);
  }
}

// The end of a round.

/// Ends all faults; what was taken away comes back.
void Run::heal() {
  for (ClientSeat& seat : seats_) {
    seat.process->pause_until(0);
    network_.rdma().heal(seat.process->spec().host);
    network_.blackhole_until(seat.process->spec().host, 0);
    seat.troubled_until_ns = std::min(seat.troubled_until_ns, world_.now_ns() + kUnreachableNs);
  }
  for (auto& server : servers_) {
    network_.rdma().heal(server->host());
    must_start(server->heal(), *server);
  }
}

void Run::must_start(bool started, const ServerSeat& server) {
  if (!started) fail(fmt::format("{} does not start though nothing is wrong any more", server.name()));
}

void Run::settle() {
  log("settle");
  heal();
  const auto ready = [](const auto& server) {
    return !server->up() || server->process().ready() || server->process().failed();
  };
  for (int tries = 0; !failed() && tries < 2; tries++) {
    world_.run_until(world_.now_ns() + kReadyNsMax,
                     [&] { return std::all_of(servers_.begin(), servers_.end(), ready); });
    start_due();
    for (auto& server : servers_) must_start(server->up() || server->start(), *server);
  }
  if (failed()) return;
  for (const auto& server : servers_) {
    if (!server->process().ready()) return fail(server->name() + " is not ready a minute after its start");
  }
  const auto at_rest = [&] { return pending_.empty() || failed(); };
  if (!world_.run_until(world_.now_ns() + kReadyNsMax, at_rest)) return fail("an op does not complete");
  world_.run_for(kUnreachableNs);
  forget_old();
  for (size_t seat = plan_.setup.clients; seat < seats_.size() && !failed(); seat++) audit(seat);
  check_damage_counted();
}

/// When nothing is wrong, an honest client reads every block, changes one of its own, and must get its answers.
void Run::audit(size_t seat) {
  log(fmt::format("audit of tenant {} with {} servers", seats_[seat].tenant, seats_[seat].listed));
  for (uint32_t key = 0; key < plan_.setup.keys && !failed(); key++) {
    if (!ask_until_answered(seat, [&](Pending& p) { add_read_of_all(p, key); })) {
      fail(fmt::format("no progress: a read of key{} is not answered", key));
    }
  }
  // Each client has a key that nobody else changes.
  for (size_t other = 0; other < seats_.size() && !failed(); other++) {
    const auto key = plan_.setup.keys + static_cast<uint32_t>(other);
    if (seats_[other].tenant != seats_[seat].tenant) continue;
    const auto put = [&](Pending& p) { add_change(p, world_.random(), Change::Kind::kPut, key); };
    if (!ask_until_answered(other, put))
      fail(fmt::format("no progress: a put of client {} is not answered", seats_[other].id));
    const auto get = [&](Pending& p) { add_read_of_all(p, key); };
    if (!failed() && !ask_until_answered(other, get)) fail("no progress: what was just put is not read");
  }
}

/// Where nothing damages bytes, no client may find damaged ones.
void Run::check_damage_counted() {
  bool damage = false;
  for (const auto& server : servers_) {
    damage = damage || server->may_be_corrupt();
    if (server->may_be_corrupt() || !server->up()) continue;
    const engine::StoreCounters store = server->process().counts().store;
    if (store.dropped_corrupt + store.recovered_rot == 0) continue;
    fail(fmt::format("{}: {} blocks were found corrupt, {} rotten, though nothing damaged them", server->name(),
                     store.dropped_corrupt, store.recovered_rot));
  }
  if (damage_seen_ = damage_seen_ || damage; damage_seen_) return;
  for (const ClientSeat& seat : seats_) {
    if (seat.process->counters().corrupt != 0 && !seat.scribbled)
      fail("a client was sent bytes that do not match their checksum");
  }
}

void Run::finish() {
  for (ClientSeat& seat : seats_) {
    if (seat.process->calls() != 0) return fail("a client has calls left");
    const ClientCounters counters = seat.process->counters();
    if (counters.ops != seat.ops_done) {
      return fail(fmt::format("counters: a client counts {} ops, {} completed", counters.ops, seat.ops_done));
    }
    seat.process->shut_down();
  }
  for (auto& server : servers_) server->stop();
  const auto stopped = [](const auto& server) { return server->process().stopped(); };
  if (!world_.run_until(world_.now_ns() + 20 * kSecond,
                        [&] { return std::all_of(servers_.begin(), servers_.end(), stopped); })) {
    return fail("a server does not stop");
  }
  for (const auto& server : servers_) {
    if (server->process().check_whole() != 0) fail("a client that has left keeps a window");
    if (server->ops_on_drives() != 0) fail("a drive has ops in flight after the end");
    if (network_.rdma().objects_of(server->host()) != 0) fail("a server leaves queue pairs behind");
  }
  if (network_.memory().files() != 0) fail("memory of windows is left that nobody uses");
}

RunResult run_seed(uint64_t seed, const Run::Options& options, const std::vector<size_t>* keep) {
  Plan plan = make_plan(seed, options.may_have());
  if (keep != nullptr) {
    std::vector<Action> kept;
    for (const size_t at : *keep) {
      if (at < plan.actions.size()) kept.push_back(plan.actions[at]);
    }
    plan.actions = std::move(kept);
  }
  // Never destroyed: a run that ends early leaves everything in the middle of its work.
  auto* run = new Run(seed, plan, options);
  return run->go();
}

}  // namespace memkv::sim
