#include "sim/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/random.h"
#include "sim/world.h"

namespace memkv::sim {
namespace {

using Kind = Action::Kind;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint32_t kWindowOfLargeBlocks = 256 * 1024;  // on a slow network

struct Weighted {
  Kind kind;
  uint32_t weight;
};

/// What a seed may meet besides its workload. Each seed draws only a few of these groups, so that most runs stay simple
/// enough for strict answers (a miss needs a reason).
const std::vector<std::vector<Weighted>>& groups() {
  static const std::vector<std::vector<Weighted>> kGroups = {
      {{Kind::kKillServer, 3}, {Kind::kStopServer, 1}},
      {{Kind::kPowerCut, 2}, {Kind::kKillServer, 1}},
      {{Kind::kPauseServer, 3}, {Kind::kStallThread, 2}},
      {{Kind::kCutNetwork, 2}, {Kind::kHalfOpen, 1}, {Kind::kBlackhole, 2}},
      {{Kind::kPauseClient, 1}, {Kind::kKillClient, 2}, {Kind::kWallClock, 1}},
      {{Kind::kDriveErrors, 2}, {Kind::kDriveSlow, 2}, {Kind::kDriveDead, 1}, {Kind::kDriveBack, 2}},
      {{Kind::kReadsOnceBad, 1}, {Kind::kKillServer, 2}},
      {{Kind::kRot, 3}, {Kind::kZero, 1}, {Kind::kKillServer, 2}, {Kind::kReadFlips, 1}},
      {{Kind::kLostWrites, 1}, {Kind::kMisdirected, 1}, {Kind::kKillServer, 1}},
      {{Kind::kHostile, 3}},
  };
  return kGroups;
}

Setup make_setup(base::Random& random) {
  Setup setup;
  setup.drives = random.chance(1, 2) ? 1 : static_cast<uint32_t>(random.between(2, 3));
  setup.shards = random.chance(2, 3) ? 1 : 2;
  setup.workers = static_cast<uint32_t>(random.between(1, 2));
  setup.drive_bytes = (1 + setup.shards * random.between(17, 40)) * kMiB;
  setup.volatile_cache = random.chance(1, 2);
  setup.index_entries_max = random.chance(1, 6) ? random.between(8, 40) : kManyIndexEntries;
  setup.tenants = random.chance(2, 3) ? 1 : 2;
  setup.clients = static_cast<uint32_t>(random.between(1, 3));
  setup.contexts = static_cast<uint32_t>(random.between(1, 2));
  setup.connections_per_worker = static_cast<uint32_t>(random.between(1, 2));
  setup.keys = static_cast<uint32_t>(random.chance(1, 4) ? random.between(25, 60) : random.between(3, 24));
  setup.large_blocks = random.chance(1, 10);
  setup.slow_network = random.chance(1, 5);
  setup.window_bytes = static_cast<uint32_t>(8192u << random.below(7));
  // With less, a block of 5 MB would take longer than an op of the auditor may.
  if (setup.slow_network && setup.large_blocks) setup.window_bytes = std::max(setup.window_bytes, kWindowOfLargeBlocks);
  // With op times that differ much, a drive has many ops in flight, which end in any order, when something goes wrong.
  setup.drive_latency_ns_max = random.chance(2, 3) ? 200 * kUs : random.between(1, 10) * kMs;
  return setup;
}

uint64_t log_uniform(base::Random& random, uint64_t low, uint64_t high) {
  uint64_t top = low;
  while (top < high && random.chance(3, 4)) top *= 2;
  return std::min(high, top / 2 + random.below(top / 2 + 1));
}

Action make_fault(base::Random& random, Kind kind, const Setup& setup) {
  Action action;
  action.kind = kind;
  action.seed = random.next_u64();
  switch (kind) {
    case Kind::kPauseClient:
    case Kind::kKillClient:
    case Kind::kCutNetwork:
    case Kind::kHalfOpen:
    case Kind::kBlackhole:
      action.a = static_cast<uint32_t>(random.below(setup.clients));
      break;
    default:
      action.a = static_cast<uint32_t>(random.below(setup.drives));
      break;
  }
  action.b = log_uniform(random, 10 * kMs, 4 * kSecond);
  if (kind == Kind::kWallClock) action.b = random.below(100'000) - 50'000;
  action.wait_ns = log_uniform(random, 100 * kUs, 100 * kMs);
  const bool goes = kind == Kind::kKillServer || kind == Kind::kStopServer || kind == Kind::kPowerCut;
  if (goes && random.chance(3, 4)) {
    // Usually it is back soon, and clients find it again before the next action: what one life leaves behind shows in
    // the lives after it.
    action.b = log_uniform(random, 100 * kUs, 20 * kMs);
    action.wait_ns += action.b + log_uniform(random, 20 * kMs, 400 * kMs);
  }
  return action;
}

/// A story: faults that belong together, on machines that suit them. Chance alone would bring them together too seldom,
/// so seven seeds in 32 tell a story.
struct Story {
  void (*prepare)(Setup& setup, base::Random& random) = nullptr;
  std::vector<Weighted> faults;
  uint64_t batches_before = 0;                         ///< before the first fault
  uint64_t batches_more = 0;                           ///< added to each round
  uint64_t batches_a_fault = 9, batches_a_second = 9;  ///< on average; faults count in pairs
};

/// More keys than the smallest index (64 entries) has room for. The server starts with that index and with a large one
/// by turns.
void for_a_small_index(Setup& setup, base::Random& random) {
  setup.keys = static_cast<uint32_t>(random.between(110, 140));
  setup.drives = setup.shards = setup.tenants = 1;
  setup.large_blocks = setup.slow_network = setup.flushes = false;
}

/// The same with small blocks, usually on several drives. An open segment then holds more of them than the index: what
/// a start dropped for want of room lies where a full index lets nothing be reclaimed.
void for_small_blocks(Setup& setup, base::Random& random) {
  setup.keys = static_cast<uint32_t>(random.between(150, 200));
  setup.drives = static_cast<uint32_t>(random.between(1, 3));
  setup.shards = setup.tenants = 1;
  setup.block_bytes_max = 4096;
  setup.index_entries_max = kManyIndexEntries;
  setup.index_by_turns = true;
  setup.large_blocks = setup.slow_network = setup.flushes = false;
}

/// A log that comes round, with extents of one size. So what a segment held in the round before often has an extent at
/// the very place where its new ones end.
void for_a_log_that_comes_round(Setup& setup, base::Random& random) {
  setup.keys = static_cast<uint32_t>(random.between(30, 60));
  setup.drives = setup.shards = setup.tenants = 1;
  setup.drive_bytes = 18 * kMiB;
  setup.block_bytes_min = setup.block_bytes_max = static_cast<uint32_t>(random.between(150'000, 300'000));
  setup.index_entries_max = kManyIndexEntries;
  setup.large_blocks = setup.slow_network = setup.flushes = false;
}

/// Changes of few keys over several connections while the server is stopped. Changes that were given up meanwhile lie
/// in its sockets beside newer ones.
void for_given_up_changes(Setup& setup, base::Random& random) {
  setup.keys = static_cast<uint32_t>(random.between(1, 3));
  setup.clients = setup.tenants = 1;
  setup.contexts = setup.connections_per_worker = 2;
  setup.large_blocks = setup.slow_network = false;
}

/// Drives so slow that many ops are given up while a drive still has their slots, and nothing else that could explain
/// bytes that are damaged.
void for_late_ops(Setup& setup, base::Random& random) {
  setup.keys = static_cast<uint32_t>(random.between(4, 12));
  setup.clients = static_cast<uint32_t>(random.between(2, 3));
  setup.contexts = 2;
  setup.drive_latency_ns_max = random.between(5, 20) * kMs;
  setup.large_blocks = setup.slow_network = false;
}

/// The story of a seed; one without faults means that it tells none.
Story story_of(uint64_t seed) {
  static const Story kSmallIndex = {.prepare = for_a_small_index,
                                    .faults = {{Kind::kKillServer, 1}},
                                    .batches_more = 100,
                                    .batches_a_fault = 30,
                                    .batches_a_second = 30};
  static const Story kGivenUp = {.prepare = for_given_up_changes,
                                 .faults = {{Kind::kPauseServer, 2}, {Kind::kStallThread, 1}}};
  static const Story kSmallBlocks = {.prepare = for_small_blocks,
                                     .faults = {{Kind::kKillServer, 1}},
                                     .batches_before = 100,
                                     .batches_more = 100,
                                     .batches_a_fault = 20,
                                     .batches_a_second = 8};
  static const Story kRound = {.prepare = for_a_log_that_comes_round,
                               .faults = {{Kind::kKillServer, 2}, {Kind::kPowerCut, 1}},
                               .batches_more = 60};
  static const Story kLateOps = {.prepare = for_late_ops, .faults = {{Kind::kDriveSlow, 1}}, .batches_more = 40};
  const uint64_t drawn = base::mix64(seed ^ 0x5701135) % 32;
  if (drawn % 16 == 0) return kSmallIndex;
  if (drawn % 16 == 1) return kGivenUp;
  return drawn == 2 ? kSmallBlocks : drawn == 3 ? kLateOps : drawn == 18 ? kRound : Story{};
}

/// A third of the seeds have a RAM tier, from one so small that no chunk fits to one that takes all. It is not drawn with
/// the rest, which stays as it is without.
uint64_t tier_bytes_of(uint64_t seed) {
  base::Random random(base::mix64(seed ^ 0x71e4));
  return random.chance(1, 3) ? (random.between(4, 8) * kMiB) >> random.below(7) : 0;
}

// Several servers.

bool is_of_server(Kind kind) {
  const bool of_drive = kind >= Kind::kDriveErrors && kind <= Kind::kReadFlips;
  const bool of_process = kind >= Kind::kPauseServer && kind <= Kind::kPowerCut && kind != Kind::kPauseClient;
  return of_drive || of_process || kind == Kind::kHostile;
}

/// What only lists of servers meet. A seed draws up to two of them.
const std::vector<std::vector<Weighted>>& groups_of_lists() {
  static const std::vector<std::vector<Weighted>> kGroups = {
      {{Kind::kNewStore, 1}},
      {{Kind::kKillServer, 1}, {Kind::kPowerCut, 1}},  // for long: until the round ends
      {{Kind::kCutServer, 1}, {Kind::kDarkServer, 2}},
  };
  return kGroups;
}

/// Gives each fault that the plan has a server. Half of the network's faults are the server's instead of a client's.
void spread_over_servers(Plan& plan, base::Random& random) {
  const Setup& setup = plan.setup;
  for (Action& action : plan.actions) {
    const bool of_network = action.kind == Kind::kCutNetwork || action.kind == Kind::kBlackhole;
    if (of_network && random.chance(1, 2))
      action.kind = action.kind == Kind::kBlackhole ? Kind::kDarkServer : Kind::kCutServer;
    else if (!is_of_server(action.kind))
      continue;
    action.server = static_cast<uint32_t>(random.below(setup.servers()));
    action.a = static_cast<uint32_t>(random.below(setup.server(action.server).drives));
  }
}

Action make_list_fault(base::Random& random, Kind kind, const Setup& setup) {
  Action action;
  action.kind = kind;
  action.seed = random.next_u64();
  action.server = static_cast<uint32_t>(random.below(setup.servers()));
  const bool for_long = kind == Kind::kKillServer || kind == Kind::kPowerCut;
  action.b = for_long ? random.between(5, 60) * kSecond : log_uniform(random, 10 * kMs, 2 * kSecond);
  action.wait_ns = log_uniform(random, 100 * kUs, 100 * kMs);
  return action;
}

/// Adds faults of lists between the plan's actions, and lets the list grow: some clients start again at that moment, and
/// the others go on with the list that they have.
void add_list_faults(Plan& plan, base::Random& random) {
  const Setup& setup = plan.setup;
  std::vector<Weighted> faults;
  for (uint64_t i = random.below(3); i > 0; i--) {
    const auto& group = groups_of_lists()[random.below(groups_of_lists().size())];
    faults.insert(faults.end(), group.begin(), group.end());
  }
  std::vector<size_t> grows;
  for (uint32_t i = setup.listed; i < setup.servers(); i++) grows.push_back(random.below(plan.actions.size()));
  std::vector<Action> actions;
  for (size_t i = 0; i < plan.actions.size(); i++) {
    for (auto due = std::count(grows.begin(), grows.end(), i); due > 0; due--) {
      actions.push_back({.kind = Kind::kGrowList});
      for (uint32_t client = 0; client < setup.clients; client++) {
        if (random.chance(1, 2)) actions.push_back({.kind = Kind::kKillClient, .a = client});
      }
    }
    actions.push_back(plan.actions[i]);
    if (faults.empty() || !random.chance(1, 25)) continue;
    actions.push_back(make_list_fault(random, faults[random.below(faults.size())].kind, setup));
  }
  plan.actions = std::move(actions);
}

/// All that is drawn for several servers comes from a stream of its own. So a seed with one server stays what it is.
void draw_servers(Plan& plan, uint64_t seed) {
  base::Random random(base::mix64(seed ^ 0x5e7e75));
  if (!random.chance(3, 10)) return;
  Setup& setup = plan.setup;
  const uint64_t more = 1 + random.below(random.between(1, 3));  // two are what costs least
  for (uint64_t i = 0; i < more; i++) setup.more.push_back(make_setup(random));
  setup.listed = setup.servers();
  if (random.chance(1, 2)) setup.listed = static_cast<uint32_t>(random.between(1, more));
  spread_over_servers(plan, random);
  add_list_faults(plan, random);
}

// Shared memory.

/// What shm meets more often than chance would have it. A seed draws up to two of them.
const std::vector<std::vector<Weighted>>& groups_of_shm() {
  static const std::vector<std::vector<Weighted>> kGroups = {
      {{Kind::kKillClient, 2}, {Kind::kPauseClient, 1}},
      {{Kind::kScribble, 1}},
      {{Kind::kHostileShm, 1}},
      {{Kind::kNoWindows, 2}, {Kind::kNoSocket, 1}},
      {{Kind::kPauseServer, 2}, {Kind::kStallThread, 1}},
      {{Kind::kKillServer, 2}, {Kind::kStopServer, 1}},
  };
  return kGroups;
}

Action make_shm_fault(base::Random& random, Kind kind, const Setup& setup) {
  Action action = make_fault(random, kind, setup);
  action.server = static_cast<uint32_t>(random.below(setup.servers()));
  const bool of_client = kind == Kind::kKillClient || kind == Kind::kPauseClient || kind == Kind::kScribble;
  if (of_client) action.a = static_cast<uint32_t>(random.below(setup.clients));
  if (kind == Kind::kHostileShm) action.a = 0;
  return action;
}

/// Where windows are few, some take them and keep them.
void add_shm_faults(Plan& plan, base::Random& random, bool few) {
  std::vector<Weighted> faults;
  if (few && random.chance(1, 2)) faults.assign(2, {Kind::kHostileShm, 1});
  for (uint64_t i = random.below(3); i > 0; i--) {
    const auto& group = groups_of_shm()[random.below(groups_of_shm().size())];
    for (const Weighted& fault : group) faults.insert(faults.end(), fault.weight, fault);
  }
  if (faults.empty()) return;
  std::vector<Action> actions;
  for (const Action& action : plan.actions) {
    actions.push_back(action);
    if (action.kind == Kind::kSettle || !random.chance(1, 20)) continue;
    actions.push_back(make_shm_fault(random, faults[random.below(faults.size())].kind, plan.setup));
  }
  plan.actions = std::move(actions);
}

/// A fifth of the seeds have shm. All that is drawn for it comes from a stream of its own, so the others stay what they
/// are. Where windows are few, or there are several servers, no client depends on shm alone.
void draw_shm(Plan& plan, uint64_t seed) {
  base::Random random(base::mix64(seed ^ 0x5a3e));
  if (!random.chance(1, 5)) return;
  Setup& setup = plan.setup;
  setup.shm.get_ring_bytes = 4096u << random.below(7);
  setup.shm.put_ring_bytes = 4096u << random.below(7);
  const bool few = random.chance(1, 4);
  const uint64_t a_client = uint64_t{setup.contexts} * setup.connections_per_worker * 2;  // of up to two workers
  setup.shm.windows_max = few ? random.between(1, 2 * a_client) : 4 * a_client * (setup.clients + 2);
  for (uint32_t i = 0; i < setup.clients; i++) {
    const bool may_depend = !few && setup.servers() == 1;
    const uint64_t way = random.below(may_depend ? 8 : 6);
    setup.shm.clients.push_back({.transport = way == 0  ? Transport::kTcp
                                              : way < 6 ? Transport::kAuto
                                                        : Transport::kShm,
                                 .machine = static_cast<uint32_t>(random.below(setup.servers()))});
  }
  add_shm_faults(plan, random, few);
}

// RDMA.

const std::vector<std::vector<Weighted>>& groups_of_rdma() {
  static const std::vector<std::vector<Weighted>> kGroups = {
      {{Kind::kRailGone, 1}},
      {{Kind::kRailDark, 1}},
      {{Kind::kPairError, 1}},
      {{Kind::kHelpersLate, 1}, {Kind::kPairError, 1}},
      {{Kind::kNoMemory, 1}, {Kind::kPairError, 1}},
  };
  return kGroups;
}

Action make_rdma_fault(base::Random& random, Kind kind, const Setup& setup) {
  Action action;
  action.kind = kind;
  action.seed = random.next_u64();
  action.of_client = random.chance(1, 2);
  action.server = static_cast<uint32_t>(random.below(setup.servers()));
  action.a = static_cast<uint32_t>(random.below(setup.clients));
  action.b = log_uniform(random, 10 * kMs, 6 * kSecond);
  action.wait_ns = log_uniform(random, 100 * kUs, 100 * kMs);
  return action;
}

/// A fifth of the seeds without shm have RDMA, with one rail or two, and by chance up to two groups of its faults. That comes from a
/// stream of its own as well.
void draw_rdma(Plan& plan, uint64_t seed) {
  base::Random random(base::mix64(seed ^ 0x4d4a));
  if (!random.chance(1, 5)) return;
  plan.setup.rails = static_cast<uint32_t>(random.between(1, 2));
  std::vector<Weighted> faults;
  for (uint64_t i = random.below(3); i > 0; i--) {
    const auto& group = groups_of_rdma()[random.below(groups_of_rdma().size())];
    faults.insert(faults.end(), group.begin(), group.end());
  }
  std::vector<Action> actions;
  for (const Action& action : plan.actions) {
    actions.push_back(action);
    if (faults.empty() || !random.chance(1, 12)) continue;
    actions.push_back(make_rdma_fault(random, faults[random.below(faults.size())].kind, plan.setup));
  }
  if (actions.back().kind != Kind::kSettle) actions.push_back({.kind = Kind::kSettle});
  plan.actions = std::move(actions);
}

}  // namespace

bool is_of_rdma(Kind kind) { return kind >= Kind::kRailGone && kind <= Kind::kNoMemory; }

/// Draws the machines, then rounds of batches with faults between them: those of some groups, or of the seed's story.
Plan make_plan(uint64_t seed, const MayHave& may_have) {
  base::Random random(base::mix64(seed));
  Plan plan;
  plan.setup = make_setup(random);
  std::vector<Weighted> faults;
  const Story story = story_of(seed);
  const auto chosen = random.below(4);  // how many groups; with none, nothing goes wrong
  for (uint64_t i = 0; i < chosen; i++) {
    const auto& group = groups()[random.below(groups().size())];
    faults.insert(faults.end(), group.begin(), group.end());
  }
  if (!story.faults.empty()) {
    faults = story.faults;
    story.prepare(plan.setup, random);
  }
  plan.setup.tier_bytes = tier_bytes_of(seed);
  uint64_t weight = 0;
  for (const Weighted& fault : faults) weight += fault.weight;
  uint64_t begun = 0;
  bool second = false;  // the next fault is the second one of a pair
  const uint64_t rounds = random.between(1, 3);
  for (uint64_t round = 0; round < rounds; round++) {
    const uint64_t batches = story.batches_more + random.between(10, plan.setup.large_blocks ? 25 : 60);
    for (uint64_t i = 0; i < batches; i++) {
      Action batch;
      batch.a = static_cast<uint32_t>(random.below(plan.setup.clients));
      batch.seed = random.next_u64();
      batch.wait_ns = random.chance(1, 3) ? 0 : log_uniform(random, 50 * kUs, 20 * kMs);
      plan.actions.push_back(batch);
      if (weight == 0 || ++begun <= story.batches_before) continue;
      if (!random.chance(1, second ? story.batches_a_second : story.batches_a_fault)) continue;
      second = !second;
      uint64_t pick = random.below(weight);
      for (const Weighted& fault : faults) {
        if (pick < fault.weight) {
          plan.actions.push_back(make_fault(random, fault.kind, plan.setup));
          break;
        }
        pick -= fault.weight;
      }
    }
    plan.actions.push_back({.kind = Kind::kSettle});
  }
  if (may_have.several && story.faults.empty()) draw_servers(plan, seed);
  for (size_t i = 0; i < plan.setup.more.size(); i++)
    plan.setup.more[i].tier_bytes = tier_bytes_of(base::mix64(seed ^ (i + 1)));
  if (may_have.shm) draw_shm(plan, seed);
  if (may_have.rdma && !plan.setup.has_shm()) draw_rdma(plan, seed);
  return plan;
}

std::string describe(const Action& action) {
  constexpr const char* kNames[] = {
      "batch",       "pause server", "stall thread", "pause client", "kill server",  "stop server", "power cut",
      "kill client", "cut network",  "half open",    "blackhole",    "drive errors", "drive dead",  "drive slow",
      "drive back",  "reads fail",   "rot",          "zero",         "lost writes",  "misdirected", "read flips",
      "hostile",     "wall clock",   "new store",    "cut server",   "dark server",  "grow list",   "scribble",
      "no windows",  "no socket",    "hostile shm",  "rail gone",    "rail dark",    "pair error",  "helpers late",
      "no memory",   "settle"};
  if (is_of_rdma(action.kind)) {
    return fmt::format("{} of {}{} for {:.3f} ms", kNames[static_cast<size_t>(action.kind)],
                       action.of_client ? "client " : "s", action.of_client ? action.a : action.server,
                       static_cast<double>(action.b) * 1e-6);
  }
  return fmt::format("{} {} (s{}) for {:.3f} ms", kNames[static_cast<size_t>(action.kind)], action.a, action.server,
                     static_cast<double>(action.b) * 1e-6);
}

std::string describe(const ServerSetup& s) {
  return fmt::format(
      "{} drives of {} MiB, up to {:.1f} ms an op, cache {}, {} shards, {} workers, {} index entries, "
      "{} KiB of tier",
      s.drives, s.drive_bytes >> 20, static_cast<double>(s.drive_latency_ns_max) * 1e-6,
      s.volatile_cache ? "volatile" : "safe", s.shards, s.workers, s.index_entries_max, s.tier_bytes >> 10);
}

std::string describe(const ShmSetup& s) {
  std::string text = fmt::format("shm with rings of {} and {} KiB, at most {} windows:", s.get_ring_bytes >> 10,
                                 s.put_ring_bytes >> 10, s.windows_max);
  for (const ClientPlace& place : s.clients)
    text += fmt::format(" {} at s{}", to_string(place.transport), place.machine);
  return text;
}

std::string describe(const Setup& s) {
  return fmt::format(
      "{}, {} tenants, {} clients with {} contexts and {} connections, {} keys{}{}{}{}", describe(s.server(0)),
      s.tenants, s.clients, s.contexts, s.connections_per_worker, s.keys, s.large_blocks ? ", large blocks" : "",
      s.block_bytes_max != 0 ? fmt::format(", puts of {} to {} bytes", s.block_bytes_min, s.block_bytes_max) : "",
      s.slow_network ? ", slow network" : "", s.rails != 0 ? fmt::format(", {} rails of rdma", s.rails) : "");
}

}  // namespace memkv::sim
