#pragma once
/// A store of the torture in a folder of its own: its drives, its server, and damage to them.

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/crash/change.h"
#include "tests/crash/drive_image.h"
#include "tests/crash/plan.h"
#include "tests/support/server_process.h"

namespace memkv::test {

/// The credential of the second tenant.
inline constexpr const char* kSecondCredential = "6ab1c5e0f4d7927b38a05c1f6e9d2b84730fd18ea96c5b42e7081d3fa4c69e57";

/// What the damage done to its drives may cause at the store's next start, and not later.
struct DamageDone {
  bool may_miss = false;           ///< some blocks may be missing
  std::set<BlockId> may_be_older;  ///< of these an older version may appear
};

class TortureStore {
 public:
  explicit TortureStore(const StorePlan& plan);

  /// Starts the server. False: it did not get ready; `why` holds its log. All lives of a round have the same address.
  bool start(const RoundPlan& round, bool same_address, std::string& why);
  /// Starts the server, and kills it `round.starting_ms` later, ready or not.
  void kill_while_starting(const RoundPlan& round);
  ServerProcess& server() { return *server_; }

  /// Call it while no server runs. It also gives back the drive that was away. In that case no other drive leaves:
  /// between two such losses the store must run with all drives.
  DamageDone damage(const RoundPlan& round);

  std::string credential(int tenant) const;
  const std::string& folder() const { return dir_.path(); }
  void keep_folder() { dir_.keep(); }

 private:
  ServerProcess::Options options(const RoundPlan& round, const std::string& address) const;
  std::string drive_path(int drive) const;
  DamageDone rot(uint64_t seed);
  void rot_drive(int drive, uint64_t random, DamageDone& done) const;

  StorePlan plan_;
  TempDir dir_;
  std::string config_;
  std::unique_ptr<ServerProcess> server_;
  int away_ = -1;  ///< the drive that is away; -1: none
};

}  // namespace memkv::test
