#include "sim/run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "format/layout.h"
#include "sim/calls.h"
#include "sim/pending.h"

namespace memkv::sim {
namespace {

constexpr uint32_t kServerHost = 1, kFirstClientHost = 100;
/// How long after the end of a fault a client may still take its server for gone: the breaker's longest pause, and a
/// connect.
constexpr uint64_t kUnreachableNs = 8 * kSecond;
constexpr uint64_t kReadyNsMax = 60 * kSecond;

wire::Secret secret_of(uint32_t tenant) {
  wire::Secret secret{};
  for (size_t i = 0; i < secret.size(); i++) secret[i] = static_cast<uint8_t>(base::mix64(tenant * 64 + i + 1));
  return secret;
}

}  // namespace

Run::Run(uint64_t seed, const Plan& plan, const Options& options)
    : plan_(plan), options_(options), world_(seed), network_(world_) {
  if (options.log) world_.trace().print();
  log(describe(plan_.setup));
  const Setup& setup = plan_.setup;
  if (setup.slow_network)
    network_.plan() = {.latency_ns_min = 100 * kUs, .latency_ns_max = 5 * kMs, .jitter_ns_max = 20 * kMs};
  network_.plan().window_bytes = setup.window_bytes;
  const auto layout = format::choose_layout(setup.drive_bytes, setup.shards);
  MEMKV_ASSERT(layout.has_value());
  std::vector<std::unique_ptr<io::DriveFile>> files;
  std::vector<io::DriveFile*> borrowed;
  for (uint32_t i = 0; i < setup.drives; i++) {
    drives_.push_back(std::make_unique<Drive>(world_, i,
                                              Drive::Options{.bytes = setup.drive_bytes,
                                                             .volatile_cache = setup.volatile_cache,
                                                             .latency_ns_max = setup.drive_latency_ns_max},
                                              base::mix64(seed + i)));
    drives_.back()->set_slices({format::kSlicesOffset, layout->slice_bytes});
    // A drive whose superblocks are both damaged is refused for good, and then no round could end well.
    drives_.back()->set_copies(
        {format::kSuperblockOffsets[0] / base::kSectorBytes, format::kSuperblockOffsets[1] / base::kSectorBytes});
    files.push_back(drives_.back()->open());
    borrowed.push_back(files.back().get());
  }
  auto formatted = volume::Volume::format(borrowed, {.shards = setup.shards});
  MEMKV_ASSERT(formatted.ok(), "format");
  for (uint32_t i = 0; i < setup.tenants; i++) tenants_.push_back({fmt::format("tenant{}", i), secret_of(i)});
  spec_ = {.host = kServerHost,
           .name = "s0",
           .workers = setup.workers,
           .index_entries_max = setup.index_entries_max,
           .tier_bytes = setup.tier_bytes,
           .tenants = tenants_};
  hostiles_ = std::make_unique<Hostiles>(world_, network_, kServerHost, tenants_.back());
}

Run::~Run() = default;

RunResult Run::go() {
  if (!start_server()) fail("the server does not start");
  for (size_t i = 0; i < plan_.setup.clients; i++) seat_client(i, static_cast<uint32_t>(i) % plan_.setup.tenants);
  // One more client for each tenant, to which nothing ever happens: the auditors.
  for (uint32_t tenant = 0; tenant < plan_.setup.tenants; tenant++) seat_client(plan_.setup.clients + tenant, tenant);
  for (const Action& action : plan_.actions) {
    if (failed()) break;
    act(action);
    world_.run_for(action.wait_ns);
    watch_counters();
  }
  if (!failed()) settle();
  if (!failed()) finish();
  result_.trace_hash = world_.trace().hash();
  result_.trace_lines = world_.trace().lines();
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
  s.ops_done = 0;
  s.process = std::make_unique<ClientProcess>(
      world_, network_,
      ClientSpec{.host = kFirstClientHost + s.id,
                 .name = fmt::format("c{}", s.id),
                 .secret = tenants_[tenant].secret,
                 .servers = {fmt::format("s0=10.0.0.{}:{}", kServerHost, Network::kPort)},
                 .contexts = plan_.setup.contexts,
                 .connections_per_worker = plan_.setup.connections_per_worker});
}

bool Run::start_server() {
  start_at_ns_ = 0;
  std::vector<Drive*> drives;
  for (auto& drive : drives_) drives.push_back(drive.get());
  // Whether the exception applies is decided by the newest write of a log as recovery reads it, and each read may be
  // wrong.
  for (auto& drive : drives_) {
    const DriveFaults& faults = drive->faults();
    const bool read_wrong = faults.read_flip > 0 && world_.now_ns() < faults.errors_until_ns;
    if (drive->newest_damaged() || read_wrong) model_.note_newest_damaged(world_.now_ns());
  }
  network_.power_on(kServerHost);
  use_host(kServerHost);
  auto started = ServerProcess::start(world_, network_, spec_, drives);
  dropped_before_ = 0;
  model_.note_unreachable(world_.now_ns() + kUnreachableNs);
  if (!started) {
    log(fmt::format("the server refuses to start: {}", started.error().text));
    return false;
  }
  server_ = std::move(*started);
  const std::vector<std::string> missing = server_->volume().missing();
  log(fmt::format("the server starts with {} workers, {} index entries, {} drives missing", server_->worker_count(),
                  spec_.index_entries_max, missing.size()));
  if (damaged_ || drives_were_out_ || !missing.empty()) model_.note_drop(world_.now_ns());
  drives_were_out_ = !missing.empty();
  return true;
}

void Run::kill_server(bool power) {
  watch_counters();
  if (server_) bury_server(power);
}

void Run::bury_server(bool power) {
  server_->kill();
  if (power) network_.cut_power(kServerHost);
  for (auto& drive : drives_) power ? drive->cut_power() : drive->tear_in_flight();
  graves_.push_back(std::move(server_));
  result_.kills++;
}

void Run::server_goes(const char* how, uint64_t down_ns) {
  log(fmt::format("the server goes: {}", how));
  base::Random& random = world_.random();
  if (random.chance(1, 2)) spec_.workers = static_cast<uint32_t>(random.between(1, 2));
  const bool by_turns = plan_.setup.index_by_turns;
  if (by_turns || random.chance(1, 2)) {
    const bool small = by_turns ? spec_.index_entries_max == kManyIndexEntries : random.chance(1, 2);
    spec_.index_entries_max = small ? random.between(8, 16) : kManyIndexEntries;
  }
  start_at_ns_ = world_.now_ns() + down_ns;
}

/// Between actions: looks at what the servers counted, and starts a server whose time has come.
void Run::watch_counters() {
  const bool may_start = world_.current() == nullptr;  // recovery waits for its drives inside start()
  if (may_start && !server_ && start_at_ns_ != 0 && world_.now_ns() >= start_at_ns_) {
    if (!start_server()) start_at_ns_ = world_.now_ns() + 100 * kMs;
  }
  if (may_start && server_ && server_->failed()) {
    log("the server gives up: a store does not open");
    bury_server(false);
    start_at_ns_ = world_.now_ns() + 100 * kMs;
  }
  if (!server_ || !server_->ready()) model_.note_unreachable(world_.now_ns() + kUnreachableNs);
  // A client that finds damaged bytes reports a miss before the server has looked and dropped the block. A half-open
  // connection may be used, and noticed, long after it became so.
  uint64_t corrupt = 0, opened = 0;
  for (const ClientSeat& seat : seats_) {
    if (seat.process == nullptr || seat.process->dead()) continue;
    const ClientCounters counters = seat.process->counters();
    corrupt += counters.corrupt;
    opened += counters.breaker_opened;
  }
  if (std::exchange(corrupt_before_, corrupt) < corrupt && damaged_) model_.note_drop(world_.now_ns());
  if (std::exchange(breakers_before_, opened) < opened) model_.note_unreachable(world_.now_ns() + kUnreachableNs);
  if (!server_) return;
  check_damage_counted();
  const uint64_t dropped = server_->counts().dropped;
  if (dropped != dropped_before_) model_.note_drop(world_.now_ns());
  dropped_before_ = dropped;
  if (server_->drives_out() != 0) drives_were_out_ = true;
}

// Actions.

void Run::act(const Action& action) {
  using Kind = Action::Kind;
  if (action.kind == Kind::kBatch) return submit_batch(action.a, action.seed);
  if (action.kind == Kind::kSettle) return settle();
  log(describe(action));
  result_.faults++;
  switch (action.kind) {
    case Kind::kPauseServer:
    case Kind::kStallThread:
    case Kind::kKillServer:
    case Kind::kStopServer:
    case Kind::kPowerCut:
      return act_on_server(action);
    case Kind::kPauseClient:
    case Kind::kKillClient:
    case Kind::kCutNetwork:
    case Kind::kHalfOpen:
    case Kind::kBlackhole:
      return act_on_network(action);
    case Kind::kWallClock:
      return step_wall_clock(static_cast<int64_t>(action.b));
    case Kind::kHostile:
      return hostiles_->act(action.seed);
    default:
      return act_on_drive(action);
  }
}

void Run::act_on_server(const Action& action) {
  if (!server_) return;
  const uint64_t until = world_.now_ns() + action.b;
  model_.note_unreachable(until + kUnreachableNs);
  switch (action.kind) {
    case Action::Kind::kPauseServer:
      return server_->pause_until(until);
    case Action::Kind::kStallThread:
      return server_->stall_thread(action.seed, until);
    case Action::Kind::kStopServer:
      server_->stop();
      world_.run_until(world_.now_ns() + 2 * kSecond, [&] { return server_->stopped(); });
      if (!server_->stopped()) return kill_server(false), server_goes("killed, since it does not stop", action.b);
      watch_counters();
      server_->check_whole();
      server_->kill();
      graves_.push_back(std::move(server_));
      return server_goes("stopped in peace", action.b);
    default:
      kill_server(action.kind == Action::Kind::kPowerCut);
      return server_goes(action.kind == Action::Kind::kPowerCut ? "power cut" : "killed", action.b);
  }
}

void Run::act_on_network(const Action& action) {
  ClientSeat& seat = seats_[action.a];
  const uint32_t host = seat.process->spec().host;
  const uint64_t until = world_.now_ns() + action.b;
  switch (action.kind) {
    case Action::Kind::kPauseClient:
      action.seed % 2 == 0 ? seat.process->pause_until(until) : seat.process->stall_thread(action.seed, until);
      seat.disturbed_ns = seat.process->paused_until_ns();  // another thread may stand still for longer
      return;
    case Action::Kind::kKillClient:
      model_.client_died(seat.id, world_.now_ns());
      abandon_ops(*seat.process);
      seat.process->kill();
      client_graves_.push_back(std::move(seat.process));
      return seat_client(action.a, seat.tenant);
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
  model_.note_unreachable(until + kUnreachableNs);
}

void Run::act_on_drive(const Action& action) {
  Drive& drive = *drives_[action.a];
  DriveFaults& faults = drive.faults();
  const uint64_t until = world_.now_ns() + action.b;
  const double probability = static_cast<double>(action.seed % 100 + 1) * 0.003;
  using Kind = Action::Kind;
  if (action.kind == Kind::kDriveDead) faults.gone = io_errors_ = true;
  if (action.kind == Kind::kDriveBack) faults.gone = false;
  if (action.kind == Kind::kDriveSlow) {
    faults.slow_ns_max = action.seed % 3 == 0 ? 3 * kSecond : 100 * kMs;
    faults.slow_until_ns = until;
    // Long enough for some that a drive is taken out.
    if (action.seed % 4 == 0) faults.hangs_until_ns = world_.now_ns() + 3 * action.b;
  }
  if (action.kind == Kind::kRot || action.kind == Kind::kZero) {
    const auto sector = action.kind == Kind::kRot ? drive.rot(action.seed % 8 == 0) : drive.zero_sector();
    if (sector) log(fmt::format("drive {}: sector {} is damaged", action.a, *sector));
    damaged_ = true;
    model_.note_drop(world_.now_ns());
  }
  const bool chance = action.kind == Kind::kDriveErrors || action.kind == Kind::kReadsOnceBad ||
                      action.kind == Kind::kLostWrites || action.kind == Kind::kMisdirected ||
                      action.kind == Kind::kReadFlips;
  if (!chance) return;
  faults.errors_until_ns = until;
  faults.read_error = action.kind == Kind::kDriveErrors || action.kind == Kind::kReadsOnceBad ? probability : 0;
  faults.write_error = action.kind == Kind::kDriveErrors ? probability : 0;
  faults.lost_write = action.kind == Kind::kLostWrites ? probability : 0;
  faults.misdirected_write = action.kind == Kind::kMisdirected ? probability : 0;
  faults.read_flip = action.kind == Kind::kReadFlips ? probability : 0;
  if (action.kind == Kind::kDriveErrors || action.kind == Kind::kReadsOnceBad)
    io_errors_ = true;
  else
    damaged_ = true;
}

// The end of a round.

/// Ends all faults; what was taken away comes back.
void Run::heal() {
  bool drives_return = server_ && server_->drives_out() != 0;
  for (auto& drive : drives_) {
    drives_return = drives_return || drive->faults().gone;
    drive->faults() = {};
  }
  for (ClientSeat& seat : seats_) {
    seat.process->pause_until(0);
    network_.blackhole_until(seat.process->spec().host, 0);
  }
  hostiles_->leave();
  if (server_) server_->pause_until(0);
  if (drives_return && server_) {
    drives_were_out_ = true;
    kill_server(false);
  }
  if (!server_ && !start_server()) fail("the server does not start though nothing is wrong any more");
}

void Run::settle() {
  log("settle");
  heal();
  const auto ready = [&] { return !server_ || server_->ready() || server_->failed(); };
  for (int tries = 0; !failed() && tries < 2; tries++) {
    world_.run_until(world_.now_ns() + kReadyNsMax, ready);
    watch_counters();
    if (!server_ && !start_server()) fail("the server does not start though nothing is wrong any more");
  }
  if (failed()) return;
  if (!server_->ready()) return fail("the server is not ready a minute after its start");
  const auto at_rest = [&] { return pending_.empty() || failed(); };
  if (!world_.run_until(world_.now_ns() + kReadyNsMax, at_rest)) return fail("an op does not complete");
  world_.run_for(kUnreachableNs);
  forget_old();
  for (uint32_t tenant = 0; tenant < plan_.setup.tenants && !failed(); tenant++) audit(plan_.setup.clients + tenant);
  check_damage_counted();
}

/// When nothing is wrong, an honest client reads every block, changes one of its own, and must get its answers.
void Run::audit(size_t seat) {
  log(fmt::format("audit of tenant {}", seats_[seat].tenant));
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
  if (damaged_ || io_errors_ || !server_) return;
  const engine::StoreCounters store = server_->counts().store;
  if (store.dropped_corrupt + store.recovered_rot != 0) {
    fail(fmt::format("{} blocks were found corrupt, {} rotten, though nothing damaged them", store.dropped_corrupt,
                     store.recovered_rot));
  }
  for (const ClientSeat& seat : seats_) {
    if (seat.process->counters().corrupt != 0) fail("a client was sent bytes that do not match their checksum");
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
  server_->stop();
  if (!world_.run_until(world_.now_ns() + 20 * kSecond, [&] { return server_->stopped(); })) {
    return fail("the server does not stop");
  }
  server_->check_whole();
  for (const auto& drive : drives_) {
    if (drive->in_flight() != 0) fail("a drive has ops in flight after the end");
  }
}

RunResult run_seed(uint64_t seed, const Run::Options& options, const std::vector<size_t>* keep) {
  Plan plan = make_plan(seed);
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
