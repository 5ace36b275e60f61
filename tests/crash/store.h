#pragma once
/// A store of the torture in a folder of its own: its drives, its server, and what is done to them.

#include <memory>
#include <string>

#include "tests/crash/plan.h"
#include "tests/support/server_process.h"

namespace memkv::test {

/// Of the second tenant.
inline constexpr const char* kSecondCredential = "6ab1c5e0f4d7927b38a05c1f6e9d2b84730fd18ea96c5b42e7081d3fa4c69e57";

class TortureStore {
 public:
  explicit TortureStore(const StorePlan& plan);

  /// Starts the server; false: it did not get ready, `why` says what it logged. All lives of a round have one address.
  bool start(const RoundPlan& round, bool same_address, std::string& why);
  /// Starts the server and kills it `round.starting_ms` later, ready or not.
  void kill_while_starting(const RoundPlan& round);
  ServerProcess& server() { return *server_; }

  /// Done while no server runs. Gives back the drive that was away; then no other one leaves: the store has to run with
  /// all drives in between. True: blocks may be missing from now on.
  bool damage(const RoundPlan& round);

  std::string credential(int tenant) const;
  const std::string& folder() const { return dir_.path(); }
  void keep_folder() { dir_.keep(); }

 private:
  ServerProcess::Options options(const RoundPlan& round, const std::string& address) const;
  std::string drive_path(int drive) const;
  void rot(uint64_t seed);
  void rot_drive(int drive, uint64_t random) const;

  StorePlan plan_;
  TempDir dir_;
  std::string config_;
  std::unique_ptr<ServerProcess> server_;
  int away_ = -1;  ///< the drive that is not there; -1: none
};

}  // namespace memkv::test
