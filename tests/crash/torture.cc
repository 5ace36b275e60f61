/// Kills real servers under the load of client processes, again and again, and compares every block with a model.

#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/crash/client.h"
#include "tests/crash/fleet.h"
#include "tests/crash/plan.h"
#include "tests/crash/resets.h"
#include "tests/crash/store.h"

namespace memkv::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kKillsPerStore = 7;     ///< then a fresh store is made
constexpr uint64_t kBudgetShare = 6;  ///< where nothing may be evicted, clients write at most 1/6 of the drives
constexpr uint64_t kAcknowledgedPerLife = 50;  ///< on a busy machine the load goes on until then, up to kLoadMax
constexpr auto kLoadMax = std::chrono::seconds(4);

volatile sig_atomic_t interrupted = 0;

struct Options {
  int kills = 20;
  int minutes = 0;
  int drives = 0;
  uint64_t seed = std::random_device{}();
  Features features;
};

unsigned long ul(uint64_t value) { return value; }

/// One store, from its format to the last check.
class Torture {
 public:
  Torture(const Options& options, Planner& planner, Totals& totals)
      : planner_(planner),
        totals_(totals),
        plan_(planner.next_store()),
        store_(plan_),
        fleet_({.ordered = options.features.has(Feature::kOrder), .may_miss = plan_.evicts, .may_return = plan_.evicts},
               totals) {
    std::printf("store %d: %d drives of %lu MiB, %d shards%s\n", totals.stores, plan_.drives,
                ul(plan_.drive_bytes >> 20), plan_.shards, plan_.evicts ? ", evicts" : "");
  }

  /// Runs rounds until `kills_wanted` kills are done in all, or this store has had its share.
  void run(int kills_wanted, Clock::time_point end) {
    int kills = 0;
    while (totals_.good() && kills < kKillsPerStore && totals_.kills < kills_wanted && Clock::now() < end &&
           interrupted == 0) {
      const RoundPlan round = planner_.next_round(plan_);
      if (!one_round(round)) break;
      kills += round.kills();
      ++round_;
      std::printf("kill %d of %d: %s\n", totals_.kills, kills_wanted, totals_.figures().c_str());
      std::fflush(stdout);
    }
    if (totals_.good()) last_check();
    if (!totals_.good()) store_.keep_folder();
  }

  const std::string& folder() const { return store_.folder(); }

 private:
  bool broken(const std::string& what) {
    if (interrupted != 0) return false;  // Ctrl-C reaches servers and clients as well
    std::printf("%s\n", what.c_str());
    ++totals_.broken;
    return false;
  }

  bool start(const RoundPlan& round, bool same_address) {
    std::string why;
    return store_.start(round, same_address, why) || broken("the server did not get ready: " + why);
  }

  bool stop_server() {
    ++totals_.stops;
    const int code = store_.server().stop();
    return code == 0 || broken("the server ended with " + std::to_string(code) + " after SIGTERM");
  }

  Access access() { return {store_.server().address(), store_.folder(), {store_.credential(0), store_.credential(1)}}; }

  bool check() {
    const uint64_t before = totals_.broken;
    fleet_.check(access());
    if (interrupted != 0) totals_.broken = before;
    return totals_.good();
  }

  void damage(const RoundPlan& round) {
    const DamageDone done = store_.damage(round);
    fleet_.rules().may_miss = plan_.evicts || done.may_miss;
    for (const BlockId& block : done.may_be_older) fleet_.allow_older(block);
  }

  bool one_round(const RoundPlan& round) {
    damage(round);
    if (round.killed_while_starting) {
      store_.kill_while_starting(round);
      ++totals_.kills;
    }
    if (!start(round, false) || !check()) return false;
    fleet_.rules().may_miss = plan_.evicts;  // from now on it is known what the damage took, and that stays away
    fleet_.start(access(), {.seed = round.damage_seed, .run = round_, .budget = budget(), .journals = ""});
    for (size_t i = 0; i < round.lives.size(); ++i) {
      const bool last = i + 1 == round.lives.size();
      load(round.lives[i]);
      if (last && round.clients_end_first) fleet_.finish();
      if (!end_life(round.lives[i])) return false;
      if (!last && !start(round, true)) return false;
    }
    fleet_.finish();
    fleet_.at_rest();
    return totals_.good();
  }

  void last_check() {
    const RoundPlan plain;
    damage(plain);
    if (start(plain, false) && check()) stop_server();
  }

  /// How many bytes a round may write: so few that a store that must not evict never has to.
  uint64_t budget() const {
    const uint64_t bytes = plan_.drive_bytes * static_cast<uint64_t>(plan_.drives);
    return plan_.evicts ? bytes : bytes / kBudgetShare / kKillsPerStore;
  }

  void load(const LifePlan& life) {
    const auto begin = Clock::now();
    const uint64_t wanted = totals_.changes.acknowledged + kAcknowledgedPerLife;
    const auto slice = static_cast<useconds_t>(life.load_ms * 1000 / (life.stalls + 1));
    for (int i = 0; i < life.stalls; ++i) {
      usleep(slice);
      store_.server().freeze();
      usleep(static_cast<useconds_t>(life.stall_ms) * 1000);
      store_.server().thaw();
    }
    if (life.kills_client) fleet_.kill_first();
    usleep(slice);
    while (totals_.changes.acknowledged < wanted && Clock::now() - begin < kLoadMax) usleep(5000);
  }

  bool end_life(const LifePlan& life) {
    if (life.end == LifePlan::End::kTerminate) return stop_server();
    if (life.end == LifePlan::End::kFreezeAndKill) store_.server().freeze();
    store_.server().kill_now();
    ++totals_.kills;
    return true;
  }

  Planner& planner_;
  Totals& totals_;
  StorePlan plan_;
  TortureStore store_;
  Fleet fleet_;
  int round_ = 0;
};

int torture(const Options& options) {
  Totals totals;
  Planner planner(options.seed, options.features, options.drives);
  const auto end =
      options.minutes > 0 ? Clock::now() + std::chrono::minutes(options.minutes) : Clock::time_point::max();
  std::string evidence;
  while (totals.good() && totals.kills < options.kills && Clock::now() < end && interrupted == 0) {
    ++totals.stores;
    Torture store(options, planner, totals);
    store.run(options.kills, end);
    if (!totals.good()) evidence = store.folder();
  }
  const bool passed = totals.good() && totals.changes.acknowledged > 0;
  if (!evidence.empty()) {
    std::printf("torture: drives, configuration and logs are in %s; again with --seed %lu\n", evidence.c_str(),
                ul(options.seed));
  }
  std::printf("torture: %s: seed %lu, %d kills, %d stops, %d stores, %s\n", passed ? "passed" : "FAILED",
              ul(options.seed), totals.kills, totals.stops, totals.stores, totals.figures().c_str());
  return passed ? 0 : 1;
}

int usage(FILE* to) {
  std::fprintf(
      to,
      "usage: ./dev torture [--kills N] [--seed S] [--minutes M] [--drives D] [--with LIST] [--without LIST]\n"
      "  Kills a server N times (20) under the load of four client processes of two tenants, over tcp and shm,\n"
      "  and compares every block with a model of what was acknowledged.\n"
      "  --seed S        what is done is drawn from S (random); runs with distinct seeds add up\n"
      "  --minutes M     ends after M minutes, also with fewer kills\n"
      "  --drives D      of every store (by turns 3, 1 and 12)\n"
      "  --with LIST, --without LIST    comma lists of:\n%s"
      "  The last line is the verdict in figures. After a failure the store's folder stays. Exit: 0 passed, 1 failed,\n"
      "  2 wrong command line.\n",
      Features::help().c_str());
  return to == stdout ? 0 : 2;
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* value = argv[i + 1];
    char* rest = nullptr;
    const uint64_t number = std::strtoull(value, &rest, 10);
    const bool is_number = rest != value && *rest == '\0';
    if (name == "--with" || name == "--without") {
      if (!options.features.set(value, name == "--with")) return false;
    } else if (!is_number) {
      return false;
    } else if (name == "--kills") {
      options.kills = static_cast<int>(number);
    } else if (name == "--seed") {
      options.seed = number;
    } else if (name == "--minutes") {
      options.minutes = static_cast<int>(number);
    } else if (name == "--drives" && number >= 1 && number <= 12) {
      options.drives = static_cast<int>(number);
    } else {
      return false;
    }
  }
  return argc % 2 == 1;
}

int run(int argc, char** argv) {
  const std::vector<std::string> arguments(argv, argv + argc);
  if (argc > 1 && arguments[1] == "client") {
    ClientPlan plan;
    return ClientPlan::parse(arguments, plan) ? run_client(plan) : 2;
  }
  if (argc > 1 && arguments[1] == "reset") return run_until_reset(arguments);
  if (argc > 1 && (arguments[1] == "--help" || arguments[1] == "-h")) return usage(stdout);
  Options options;
  if (!parse(argc, argv, options)) return usage(stderr);
  signal(SIGINT, [](int) { interrupted = 1; });
  signal(SIGTERM, [](int) { interrupted = 1; });
  signal(SIGPIPE, SIG_IGN);
  std::printf("torture: seed %lu\n", ul(options.seed));
  return torture(options);
}

}  // namespace
}  // namespace memkv::test

int main(int argc, char** argv) { return memkv::test::run(argc, argv); }
