#pragma once
/// What the torture does, drawn from its seed: the stores, and for each store the rounds of a server's lives.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace memkv::test {

/// Things that can be left out (--without) or put in (--with).
enum class Feature : uint8_t { kOrder, kStalls, kStops, kStarts, kClients, kDrives, kEviction, kRot };
inline constexpr size_t kFeatureCount = 8;

class Features {
 public:
  bool has(Feature feature) const { return on_[static_cast<size_t>(feature)]; }
  /// Switches those of a comma list on or off. False: one of the names is unknown.
  bool set(const std::string& names, bool on);
  /// One line for each feature: its name, whether it is on by default, and what it does.
  static std::string help();
  Features();

 private:
  bool on_[kFeatureCount];
};

/// One life of the server: clients write for a while, then it ends.
struct LifePlan {
  enum class End : uint8_t { kKill, kFreezeAndKill, kTerminate };
  int load_ms = 0;
  int stalls = 0;  ///< how often the server is stopped by SIGSTOP meanwhile
  int stall_ms = 0;
  bool kills_client = false;
  End end = End::kKill;
};

/// The time between two checks of all blocks. Clients live through all lives of a round.
struct RoundPlan {
  enum class Damage : uint8_t { kNone, kRot, kDriveLeaves };
  Damage damage = Damage::kNone;  ///< done while the server is down, before the round
  uint64_t damage_seed = 0;
  int workers = 1;
  const char* io = "uring";
  bool killed_while_starting = false;
  int starting_ms = 0;
  bool clients_end_first = false;  ///< clients end before the last life does, so nothing is under way then
  std::vector<LifePlan> lives;

  int kills() const;
};

struct StorePlan {
  int drives = 1;
  uint64_t drive_bytes = 0;
  int shards = 1;
  bool evicts = false;  ///< so small that its logs wrap
};

/// Draws plans. A seed gives the same plans whatever features are on: features that are off are drawn, too, and
/// ignored.
class Planner {
 public:
  Planner(uint64_t seed, const Features& features, int drives) : random_(seed), features_(features), drives_(drives) {}
  StorePlan next_store();
  RoundPlan next_round(const StorePlan& store);

 private:
  uint64_t below(uint64_t n) { return random_() % n; }
  LifePlan next_life();

  std::mt19937_64 random_;
  const Features& features_;
  int drives_;  ///< of each store; 0: 3, 1 and 12 in turn
  int stores_ = 0;
};

}  // namespace memkv::test
