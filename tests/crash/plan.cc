#include "tests/crash/plan.h"

#include <algorithm>
#include <iterator>
#include <sstream>

namespace memkv::test {
namespace {

struct FeatureInfo {
  const char* name;
  bool on;
  const char* what;
};

constexpr FeatureInfo kFeatures[kFeatureCount] = {
    {"order", true, "a change that was given up is never applied after a newer acknowledged one"},
    {"stalls", true, "SIGSTOP of the server under load, with changes that are given up meanwhile"},
    {"stops", true, "SIGTERM instead of some of the kills; the exit code must be 0"},
    {"starts", true, "kill -9 while the server starts"},
    {"clients", true, "kill -9 of a client under load"},
    {"drives", true, "drives taken away while the server is down, and given back"},
    {"eviction", true, "stores so small that they evict: blocks may be missing, never older"},
    {"rot", true, "sectors of drives flipped or zeroed while the server is down: blocks may be missing, never older"},
};

constexpr uint64_t kMiB = uint64_t{1} << 20;

}  // namespace

Features::Features() {
  for (size_t i = 0; i < kFeatureCount; ++i) on_[i] = kFeatures[i].on;
}

bool Features::set(const std::string& names, bool on) {
  std::istringstream list(names);
  for (std::string name; std::getline(list, name, ',');) {
    const auto* found = std::find_if(std::begin(kFeatures), std::end(kFeatures),
                                     [&](const FeatureInfo& feature) { return name == feature.name; });
    if (found == std::end(kFeatures)) return false;
    on_[found - std::begin(kFeatures)] = on;
  }
  return true;
}

std::string Features::help() {
  std::string text;
  for (const FeatureInfo& feature : kFeatures) {
    std::string name = feature.name;
    name.resize(10, ' ');
    text += "    " + name + (feature.on ? "on   " : "off  ") + feature.what + "\n";
  }
  return text;
}

int RoundPlan::kills() const {
  const auto killed = std::count_if(lives.begin(), lives.end(),
                                    [](const LifePlan& life) { return life.end != LifePlan::End::kTerminate; });
  return static_cast<int>(killed) + (killed_while_starting ? 1 : 0);
}

StorePlan Planner::next_store() {
  constexpr int kDriveCounts[] = {3, 1, 12};
  const int turn = stores_++;
  StorePlan store;
  store.drives = drives_ > 0 ? drives_ : kDriveCounts[turn % 3];
  store.evicts = turn % 2 == 1 && features_.has(Feature::kEviction);
  if (store.evicts) {
    store.drive_bytes = (store.drives == 1 ? 64 : store.drives <= 4 ? 40 : 24) * kMiB;
    return store;
  }
  store.shards = store.drives <= 4 ? 4 : 2;
  store.drive_bytes = (store.drives == 1 ? 512 : store.drives <= 4 ? 256 : 80) * kMiB;
  return store;
}

RoundPlan Planner::next_round(const StorePlan& store) {
  RoundPlan round;
  const uint64_t damage = below(4);
  round.damage_seed = random_();
  if (damage == 0 && features_.has(Feature::kRot)) round.damage = RoundPlan::Damage::kRot;
  if (damage == 1 && store.drives > 2 && features_.has(Feature::kDrives)) {
    round.damage = RoundPlan::Damage::kDriveLeaves;
  }
  round.workers = 1 + static_cast<int>(below(static_cast<uint64_t>(store.shards)));
  round.io = below(2) == 0 ? "uring" : "epoll";
  round.killed_while_starting = below(6) == 0 && features_.has(Feature::kStarts);
  round.starting_ms = static_cast<int>(below(60));
  round.clients_end_first = below(3) == 0;
  const uint64_t lives = 1 + below(3);
  for (uint64_t i = 0; i < lives; ++i) round.lives.push_back(next_life());
  return round;
}

LifePlan Planner::next_life() {
  LifePlan life;
  life.load_ms = 60 + static_cast<int>(below(300));
  life.stall_ms = 20 + static_cast<int>(below(120));
  const int stalls = static_cast<int>(below(5));
  if (features_.has(Feature::kStalls)) life.stalls = stalls;
  life.kills_client = below(5) == 0 && features_.has(Feature::kClients);
  const uint64_t end = below(8);
  if (end == 0) life.end = LifePlan::End::kFreezeAndKill;
  if (end == 1 && features_.has(Feature::kStops)) life.end = LifePlan::End::kTerminate;
  return life;
}

}  // namespace memkv::test
