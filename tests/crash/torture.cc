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

#include "memkv/client.h"
#include "tests/crash/client.h"
#include "tests/crash/model.h"
#include "tests/crash/plan.h"
#include "tests/crash/store.h"
#include "tests/support/pattern.h"

namespace memkv::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kClients = 4;           ///< processes, half of them of each tenant
constexpr int kKillsPerStore = 7;     ///< then a fresh one
constexpr uint64_t kBudgetShare = 6;  ///< where nothing may be evicted, clients write this part of the drives in all
constexpr size_t kBlocksPerCheck = 8;
constexpr uint64_t kAcknowledgedPerLife = 50;  ///< a busy machine gets more time for its load, up to kLoadMax
constexpr auto kLoadMax = std::chrono::seconds(4);
constexpr int kStoppedExit = 0;

volatile sig_atomic_t interrupted = 0;

struct Options {
  int kills = 20;
  int minutes = 0;
  int drives = 0;
  uint64_t seed = std::random_device{}();
  Features features;
};

struct Totals {
  int kills = 0, stops = 0, stores = 0;
  uint64_t hits = 0, misses = 0;
  uint64_t findings[5] = {};  ///< by Finding
  uint64_t broken = 0;        ///< servers that did not start, or did not end as asked; gets that failed
  ClientCounts changes;

  bool good() const {
    uint64_t bad = broken + changes.wrong_reads;
    for (size_t i = 1; i < std::size(findings); ++i) bad += findings[i];
    return bad == 0;
  }
  uint64_t of(Finding finding) const { return findings[static_cast<size_t>(finding)]; }
};

unsigned long ul(uint64_t value) { return value; }

/// One store, from its format to the last check.
class Torture {
 public:
  Torture(const Options& options, Planner& planner, Totals& totals)
      : options_(options), planner_(planner), totals_(totals), plan_(planner.next_store()), store_(plan_) {
    for (int client = 0; client < kClients; ++client) {
      blocks_.emplace_back();
      for (uint32_t key = 0; key < kBlocksPerClient; ++key) {
        blocks_.back().emplace_back(block_name(tenant_of(client), client / kTenants, key));
      }
    }
    rules_.ordered = options.features.has(Feature::kOrder);
    rules_.may_miss = plan_.evicts;
    std::printf("store %d: %d drives of %lu MiB, %d shards%s\n", totals.stores, plan_.drives,
                ul(plan_.drive_bytes >> 20), plan_.shards, plan_.evicts ? ", evicts" : "");
  }

  /// Rounds until `kills_wanted` kills are done in all, or this store has had its share.
  void run(int kills_wanted, Clock::time_point end) {
    int kills = 0;
    while (totals_.good() && kills < kKillsPerStore && totals_.kills < kills_wanted && Clock::now() < end &&
           interrupted == 0) {
      const RoundPlan round = planner_.next_round(plan_);
      if (!one_round(round)) break;
      kills += round.kills();
      ++round_;
      report_progress(kills_wanted);
    }
    if (totals_.good()) last_check();
    if (!totals_.good()) store_.keep_folder();
  }

  const std::string& folder() const { return store_.folder(); }

 private:
  static int tenant_of(int client) { return client % kTenants; }

  bool broken(const std::string& what) {
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
    return code == kStoppedExit || broken("the server ended with " + std::to_string(code) + " after SIGTERM");
  }

  bool one_round(const RoundPlan& round) {
    if (store_.damage(round)) rules_.may_miss = true;
    if (round.killed_while_starting) {
      store_.kill_while_starting(round);
      ++totals_.kills;
    }
    if (!start(round, false) || !check_all()) return false;
    start_clients(round);
    for (size_t i = 0; i < round.lives.size(); ++i) {
      const bool last = i + 1 == round.lives.size();
      load(round.lives[i]);
      if (last && round.clients_end_first) finish_clients();
      if (!end_life(round.lives[i])) return false;
      if (!last && !start(round, true)) return false;
    }
    finish_clients();
    for (auto& blocks : blocks_) {
      for (BlockModel& block : blocks) block.at_rest();
    }
    return totals_.good();
  }

  void last_check() {
    RoundPlan plain;
    store_.damage(plain);
    if (start(plain, false) && check_all()) stop_server();
  }

  void start_clients(const RoundPlan& round) {
    constexpr const char* kTransports[] = {"tcp", "shm", "auto"};
    const uint64_t store_budget =
        plan_.evicts ? plan_.drive_bytes * static_cast<uint64_t>(plan_.drives)
                     : plan_.drive_bytes * static_cast<uint64_t>(plan_.drives) / kBudgetShare / kKillsPerStore;
    for (int client = 0; client < kClients; ++client) {
      const uint64_t random = mix(round.damage_seed + static_cast<uint64_t>(client));
      ClientPlan plan;
      plan.address = store_.server().address();
      plan.tenant = tenant_of(client);
      plan.credential = store_.credential(plan.tenant);
      plan.transport = kTransports[random % 3];
      plan.shm_dir = store_.folder();
      plan.id = client / kTenants;
      plan.session = random / 3 % 2 == 0;
      plan.verifies = !rules_.may_miss;
      plan.ordered = rules_.ordered;
      plan.seed = random;
      plan.version = static_cast<uint64_t>(round_ + 1) << 32;
      plan.budget = static_cast<int64_t>(store_budget / kClients);
      clients_.push_back(std::make_unique<ClientProcess>(plan, rules_, blocks_[static_cast<size_t>(client)],
                                                         totals_.changes, store_.folder() + "/clients.log"));
    }
  }

  void finish_clients() {
    for (auto& client : clients_) client->ask_to_end();
    for (auto& client : clients_) client->finish();
    clients_.clear();
  }

  void load(const LifePlan& life) {
    const auto begin = Clock::now();
    const uint64_t wanted = totals_.changes.acknowledged + kAcknowledgedPerLife;
    usleep(static_cast<useconds_t>(life.load_ms) * 500);
    if (life.kills_client && !clients_.empty()) clients_.front()->kill_now();
    if (life.stall_ms > 0) {
      store_.server().freeze();
      usleep(static_cast<useconds_t>(life.stall_ms) * 1000);
      store_.server().thaw();
    }
    usleep(static_cast<useconds_t>(life.load_ms) * 500);
    while (totals_.changes.acknowledged < wanted && Clock::now() - begin < kLoadMax) usleep(5000);
  }

  bool end_life(const LifePlan& life) {
    if (life.end == LifePlan::End::kTerminate) return stop_server();
    if (life.end == LifePlan::End::kFreezeAndKill) store_.server().freeze();
    store_.server().kill_now();
    ++totals_.kills;
    return true;
  }

  bool check_all() {
    for (int tenant = 0; tenant < kTenants; ++tenant) {
      ClientOptions options;
      options.servers = {store_.server().address()};
      options.namespace_key = store_.credential(tenant);
      options.get_timeout = std::chrono::seconds(20);
      Client reader = Client::connect(options).value();
      for (int client = tenant; client < kClients; client += kTenants) check_client(reader, client);
    }
    return totals_.good();
  }

  void check_client(Client& reader, int client) {
    std::vector<std::vector<unsigned char>> buffers(kBlocksPerCheck, std::vector<unsigned char>(kBlockBytesMax * 2));
    for (uint32_t first = 0; first < kBlocksPerClient; first += kBlocksPerCheck) {
      Batch batch;
      for (uint32_t i = 0; i < kBlocksPerCheck; ++i) batch.get(key_text(client / kTenants, first + i), buffers[i]);
      const std::vector<Outcome> outcomes = reader.run(batch);
      for (uint32_t i = 0; i < kBlocksPerCheck; ++i) {
        check_block(blocks_[static_cast<size_t>(client)][first + i], outcomes[i], buffers[i].data());
      }
    }
  }

  void check_block(BlockModel& block, const Outcome& got, const unsigned char* data) {
    if (got.status != Status::kOk && got.status != Status::kMiss) {
      broken(block.name() + ": " + std::string(to_string(got.status)) + " instead of a hit or a miss");
      return;
    }
    const bool hit = got.status == Status::kOk;
    ++(hit ? totals_.hits : totals_.misses);
    const Finding finding = block.check({hit, data, got.bytes}, rules_);
    ++totals_.findings[static_cast<size_t>(finding)];
    if (finding == Finding::kAllowed) return;
    std::printf("%s: %s (%lu bytes); its last changes:\n%s", block.name().c_str(), name_of(finding), ul(got.bytes),
                block.history().c_str());
  }

  void report_progress(int kills_wanted) const {
    std::printf("kill %d of %d: %lu changes acknowledged, %lu given up, %lu blocks and %lu misses checked\n",
                totals_.kills, kills_wanted, ul(totals_.changes.acknowledged), ul(totals_.changes.given_up),
                ul(totals_.hits), ul(totals_.misses));
    std::fflush(stdout);
  }

  const Options& options_;
  Planner& planner_;
  Totals& totals_;
  StorePlan plan_;
  TortureStore store_;
  Rules rules_;
  std::vector<std::vector<BlockModel>> blocks_;  ///< by client, by key
  std::vector<std::unique_ptr<ClientProcess>> clients_;
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
  std::printf(
      "torture: %s: seed %lu, %d kills, %d stops, %d stores, %lu changes acknowledged, %lu given up, %lu blocks and "
      "%lu "
      "misses checked, %lu lost, %lu older, %lu revived, %lu wrong, %lu misread, %lu broken\n",
      passed ? "passed" : "FAILED", ul(options.seed), totals.kills, totals.stops, totals.stores,
      ul(totals.changes.acknowledged), ul(totals.changes.given_up), ul(totals.hits), ul(totals.misses),
      ul(totals.of(Finding::kLost)), ul(totals.of(Finding::kOld)), ul(totals.of(Finding::kRevived)),
      ul(totals.of(Finding::kWrong)), ul(totals.changes.wrong_reads), ul(totals.broken));
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
