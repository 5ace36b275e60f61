#include "sim/seat.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "format/layout.h"
#include "sim/calls.h"
#include "sim/fabric.h"

namespace memkv::sim {
namespace {

constexpr uint32_t kFirstHost = 1, kFirstHostileHost = 10'000, kHostilesMax = 10'000;

}  // namespace

ServerSeat::ServerSeat(World& world, Network& network, Model& model, uint32_t number, const ServerSetup& setup,
                       const std::vector<Tenant>& tenants, uint32_t connections_max, uint64_t seed, const ShmSpec& shm)
    : world_(world),
      network_(network),
      model_(model),
      number_(number),
      setup_(setup),
      seed_(seed),
      spec_{.host = kFirstHost + number,
            .name = fmt::format("s{}", number),
            .workers = setup.workers,
            .index_entries_max = setup.index_entries_max,
            .tier_bytes = setup.tier_bytes,
            .connections_max = connections_max,
            .tenants = tenants,
            .accept_loss = {},
            .shm = shm},
      hostiles_(world, network, spec_.host, kFirstHostileHost + number * kHostilesMax, tenants.back()) {
  make_drives();
}

void ServerSeat::log(std::string_view text) {
  world_.trace().add(world_.now_ns(), fmt::format("{} {}", spec_.name, text));
}

void ServerSeat::make_drives() {
  const auto layout = format::choose_layout(setup_.drive_bytes, setup_.shards);
  MEMKV_ASSERT(layout.has_value());
  std::vector<std::unique_ptr<io::DriveFile>> files;
  std::vector<io::DriveFile*> borrowed;
  for (uint32_t i = 0; i < setup_.drives; i++) {
    drives_.push_back(std::make_unique<Drive>(world_, i,
                                              Drive::Options{.bytes = setup_.drive_bytes,
                                                             .volatile_cache = setup_.volatile_cache,
                                                             .latency_ns_max = setup_.drive_latency_ns_max},
                                              base::mix64(seed_ + i + stores_ * setup_.drives)));
    drives_.back()->set_slices({format::kSlicesOffset, layout->slice_bytes});
    // A drive whose superblocks are both damaged is refused for good, and then no round could end well.
    drives_.back()->set_copies(
        {format::kSuperblockOffsets[0] / base::kSectorBytes, format::kSuperblockOffsets[1] / base::kSectorBytes});
    files.push_back(drives_.back()->open());
    borrowed.push_back(files.back().get());
  }
  stores_++;
  auto formatted = volume::Volume::format(borrowed, {.shards = setup_.shards});
  MEMKV_ASSERT(formatted.ok(), "format");
}

void ServerSeat::note_trouble(uint64_t ns) {
  troubled_until_ns_ = std::max(troubled_until_ns_, ns + kUnreachableNs);
  model_.note_unreachable(number_, ns + kUnreachableNs);
}

size_t ServerSeat::ops_on_drives() const {
  size_t sum = 0;
  for (const auto& drive : drives_) sum += drive->in_flight();
  return sum;
}

// Lives.

bool ServerSeat::start() {
  start_at_ns_ = 0;
  if (std::exchange(new_store_, false)) {
    log("comes back with a new, empty store");
    make_drives();
    damaged_ = io_errors_ = drives_were_out_ = false;
    model_.note_new_store(number_, world_.now_ns());
  }
  std::vector<Drive*> drives;
  for (auto& drive : drives_) drives.push_back(drive.get());
  // Whether the exception applies is decided by the newest write of a log as recovery reads it, and each read may be
  // wrong.
  for (auto& drive : drives_) {
    const DriveFaults& faults = drive->faults();
    const bool read_wrong = faults.read_flip > 0 && world_.now_ns() < faults.errors_until_ns;
    if (drive->newest_damaged() || read_wrong) model_.note_newest_damaged(number_, world_.now_ns());
  }
  network_.power_on(spec_.host);
  network_.rdma().prepare_start(spec_.host);
  use_host(spec_.host);
  auto started = ServerProcess::start(world_, network_, spec_, drives);
  dropped_before_ = 0;
  note_trouble(world_.now_ns());
  if (!started) {
    log(fmt::format("refuses to start: {}", started.error().text));
    return false;
  }
  server_ = std::move(*started);
  const std::vector<std::string> missing = server_->volume().missing();
  log(fmt::format("starts with {} workers, {} index entries, {} drives missing", server_->worker_count(),
                  spec_.index_entries_max, missing.size()));
  if (damaged_ || drives_were_out_ || !missing.empty()) note_drop();
  drives_were_out_ = !missing.empty();
  return true;
}

void ServerSeat::kill(bool power) {
  watch();
  if (server_) bury(power);
}

void ServerSeat::bury(bool power) {
  server_->kill();
  if (power) network_.cut_power(spec_.host);
  for (auto& drive : drives_) power ? drive->cut_power() : drive->tear_in_flight();
  graves_.push_back(std::move(server_));
  kills_++;
}

void ServerSeat::goes(const char* how, uint64_t down_ns) {
  log(fmt::format("goes: {}", how));
  base::Random& random = world_.random();
  if (random.chance(1, 2)) spec_.workers = static_cast<uint32_t>(random.between(1, 2));
  const bool by_turns = setup_.index_by_turns;
  if (by_turns || random.chance(1, 2)) {
    const bool small = by_turns ? spec_.index_entries_max == kManyIndexEntries : random.chance(1, 2);
    spec_.index_entries_max = small ? random.between(8, 16) : kManyIndexEntries;
  }
  start_at_ns_ = world_.now_ns() + down_ns;
}

/// What its drives hold is gone for good. They stay where they are, since the dead have ops on them.
void ServerSeat::replace_store() {
  if (std::exchange(new_store_, true)) return;
  model_.note_store_gone(number_, world_.now_ns());
  for (auto& drive : drives_) old_drives_.push_back(std::move(drive));
  drives_.clear();
}

void ServerSeat::start_if_due() {
  MEMKV_ASSERT(world_.current() == nullptr, "recovery waits for its drives inside start()");
  if (!server_ && start_at_ns_ != 0 && world_.now_ns() >= start_at_ns_) {
    if (!start()) start_at_ns_ = world_.now_ns() + 100 * kMs;
  }
  if (server_ && server_->failed()) {
    log("gives up: a store does not open");
    bury(false);
    start_at_ns_ = world_.now_ns() + 100 * kMs;
  }
}

void ServerSeat::watch() {
  if (!server_ || !server_->ready()) note_trouble(world_.now_ns());
  if (!server_) return;
  const uint64_t dropped = server_->counts().dropped;
  if (dropped != dropped_before_) note_drop();
  dropped_before_ = dropped;
  if (server_->drives_out() != 0) drives_were_out_ = true;
}

bool ServerSeat::heal() {
  bool drives_return = server_ && server_->drives_out() != 0;
  for (auto& drive : drives_) {
    drives_return = drives_return || drive->faults().gone;
    drive->faults() = {};
  }
  network_.blackhole_until(spec_.host, 0);
  network_.memory().refuse_until(spec_.host, 0);
  hostiles_.leave();
  if (server_) server_->pause_until(0);
  if (drives_return && server_) {
    drives_were_out_ = true;
    kill(false);
  }
  troubled_until_ns_ = std::min(troubled_until_ns_, std::max(world_.now_ns(), slow_until_ns_) + kUnreachableNs);
  return server_ || start();
}

// Faults.

void ServerSeat::act(const Action& action) {
  using Kind = Action::Kind;
  switch (action.kind) {
    case Kind::kPauseServer:
    case Kind::kStallThread:
    case Kind::kKillServer:
    case Kind::kStopServer:
    case Kind::kPowerCut:
    case Kind::kNewStore:
      return act_on_server(action);
    case Kind::kCutServer:
    case Kind::kDarkServer:
      return act_on_network(action);
    case Kind::kNoWindows:
    case Kind::kNoSocket:
      return act_on_shm(action);
    case Kind::kHostile:
    case Kind::kHostileShm:
      troubled_until_ns_ = Actor::kNever;  // until the round ends: they take what honest clients would have
      return hostiles_.act(action.seed, action.kind == Kind::kHostileShm ? server_.get() : nullptr);
    default:
      return act_on_drive(action);
  }
}

void ServerSeat::act_on_server(const Action& action) {
  using Kind = Action::Kind;
  if (!server_) return action.kind == Kind::kNewStore ? replace_store() : void();
  const uint64_t until = world_.now_ns() + action.b;
  note_trouble(until);
  switch (action.kind) {
    case Kind::kPauseServer:
      return server_->pause_until(until);
    case Kind::kStallThread:
      return server_->stall_thread(action.seed, until);
    case Kind::kStopServer:
      server_->stop();
      world_.run_until(world_.now_ns() + 2 * kSecond, [&] { return server_->stopped(); });
      if (!server_->stopped()) return kill(false), goes("killed, since it does not stop", action.b);
      watch();
      server_->check_whole();
      MEMKV_ASSERT(network_.rdma().objects_of(spec_.host) == 0, "a server leaves queue pairs behind");
      server_->kill();
      graves_.push_back(std::move(server_));
      return goes("stopped in peace", action.b);
    default:
      kill(action.kind == Kind::kPowerCut);
      if (action.kind == Kind::kNewStore) replace_store();
      return goes(action.kind == Kind::kPowerCut ? "power cut" : "killed", action.b);
  }
}

void ServerSeat::act_on_network(const Action& action) {
  const uint64_t until = world_.now_ns() + action.b;
  note_trouble(until);
  if (action.kind == Action::Kind::kDarkServer) return network_.blackhole_until(spec_.host, until);
  if (action.seed % 2 == 0) return network_.reset_connections(spec_.host);
  half_open_ = true;
  network_.make_half_open(spec_.host, action.seed % 1'000'000);
}

/// Clients go on over tcp, but for those that may use shm alone.
void ServerSeat::act_on_shm(const Action& action) {
  const uint64_t until = world_.now_ns() + action.b;
  model_.note_unreachable(number_, until + kUnreachableNs);
  if (action.kind == Action::Kind::kNoWindows) return network_.memory().refuse_until(spec_.host, until);
  if (server_) server_->remove_socket();
}

void ServerSeat::act_on_drive(const Action& action) {
  if (drives_.empty()) return;  // the new store is not made yet
  Drive& drive = *drives_[action.a];
  DriveFaults& faults = drive.faults();
  const uint64_t until = world_.now_ns() + action.b;
  const double probability = static_cast<double>(action.seed % 100 + 1) * 0.003;
  using Kind = Action::Kind;
  troubled_until_ns_ = Actor::kNever;  // until the round ends: the drive may be given up at any time
  if (action.kind == Kind::kDriveDead) faults.gone = io_errors_ = true;
  if (action.kind == Kind::kDriveBack) faults.gone = false;
  if (action.kind == Kind::kDriveSlow) {
    faults.slow_ns_max = action.seed % 3 == 0 ? 3 * kSecond : 100 * kMs;
    faults.slow_until_ns = until;
    // Long enough for some that a drive is taken out.
    if (action.seed % 4 == 0) faults.hangs_until_ns = world_.now_ns() + 3 * action.b;
    slow_until_ns_ = std::max({slow_until_ns_, until + faults.slow_ns_max, faults.hangs_until_ns});
  }
  if (action.kind == Kind::kRot || action.kind == Kind::kZero) {
    const auto sector = action.kind == Kind::kRot ? drive.rot(action.seed % 8 == 0) : drive.zero_sector();
    if (sector) log(fmt::format("drive {}: sector {} is damaged", action.a, *sector));
    damaged_ = true;
    note_drop();
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

}  // namespace memkv::sim
