#pragma once
/// The client processes of the torture, and the models of all their blocks.

#include <memory>
#include <string>
#include <vector>

#include "memkv/client.h"
#include "tests/crash/client.h"
#include "tests/crash/model.h"

namespace memkv::test {

/// The numbers of the verdict.
struct Totals {
  int kills = 0, stops = 0, stores = 0;
  uint64_t hits = 0, misses = 0;
  uint64_t findings[5] = {};  ///< counted by Finding
  uint64_t broken = 0;        ///< servers that did not start or did not end as asked, and gets that failed
  ClientCounts changes;

  bool good() const;
  uint64_t of(Finding finding) const { return findings[static_cast<size_t>(finding)]; }
  /// "3 changes acknowledged, ...".
  std::string figures() const;
};

/// Where the server is, and the credentials of its tenants.
struct Access {
  std::string address;
  std::string shm_dir;
  std::string credentials[kTenants];
};

/// How this run of the clients differs from others.
struct FleetPlan {
  uint64_t seed = 0;
  int run = 0;           ///< counts up: versions of a run are larger than those of the run before
  uint64_t budget = 0;   ///< how many bytes all clients together may write
  std::string journals;  ///< if not empty, each client also keeps its reports in a file that begins so
};

class Fleet {
 public:
  Fleet(const Rules& rules, Totals& totals);

  void start(const Access& access, const FleetPlan& plan);
  void kill_first();
  /// Asks all clients to end, kills those that do not, and waits for the last report.
  void finish();
  /// Tells the models that server and clients are gone.
  void at_rest();
  /// Allows an older version of the block in the next check.
  void allow_older(const BlockId& block) { blocks_[static_cast<size_t>(block.client)][block.key].allow_older(); }
  /// Reads every block and compares it. Server and clients must be at rest.
  void check(const Access& access);
  /// Replays the reports of an earlier run's clients, which a reset of the machine ended.
  void load_journals(const std::string& journals);
  Rules& rules() { return rules_; }

 private:
  ClientPlan plan_of(int client, const Access& access, const FleetPlan& plan) const;
  void check_client(Client& reader, int client);
  void check_block(BlockModel& block, const Outcome& got, const unsigned char* data);

  Rules rules_;
  Totals& totals_;
  std::vector<std::vector<BlockModel>> blocks_;  ///< by client, then by key
  std::vector<std::unique_ptr<ClientProcess>> clients_;
};

}  // namespace memkv::test
