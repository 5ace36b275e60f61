#pragma once
/// A place in the list of servers, with what happens there: its drives, and the processes that serve there one after the
/// other.

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "sim/drive.h"
#include "sim/hostile.h"
#include "sim/model.h"
#include "sim/network.h"
#include "sim/plan.h"
#include "sim/server.h"
#include "sim/world.h"

namespace memkv::sim {

/// How long after the end of a fault a client may still take its server for gone: the breaker's longest pause, and a
/// connect.
inline constexpr uint64_t kUnreachableNs = 8 * kSecond;

/// Tells the model of each event that gives a reason for what is missing. Thread: the world's.
class ServerSeat {
 public:
  ServerSeat(World& world, Network& network, Model& model, uint32_t number, const ServerSetup& setup,
             const std::vector<Tenant>& tenants, uint32_t connections_max, uint64_t seed, const ShmSpec& shm);

  /// False: it refuses to start. Recovery has ended when it returns.
  bool start();
  bool up() const { return server_ != nullptr; }
  const ServerProcess& process() const { return *server_; }
  void act(const Action& action);
  /// Looks at what the server counted.
  void watch();
  /// Between actions, since the world goes on meanwhile: starts the server when its time has come.
  void start_if_due();
  /// Ends all faults; what was taken away comes back. False: the server does not start.
  bool heal();
  void stop() { server_->stop(); }

  uint32_t host() const { return spec_.host; }
  const std::string& name() const { return spec_.name; }
  /// Nothing has happened to it for so long that each client has a working way to it.
  bool calm_since(uint64_t ns) const { return troubled_until_ns_ <= ns && !half_open_; }
  bool damaged() const { return damaged_; }
  /// Damage, or reads that failed: what cannot be read counts as corrupt.
  bool may_be_corrupt() const { return damaged_ || io_errors_; }
  void note_drop() { model_.note_drop(number_, world_.now_ns()); }
  /// Until `ns`, and as long again as clients may take to see it, it may be out of reach.
  void note_trouble(uint64_t ns);
  uint64_t kills() const { return kills_; }
  size_t ops_on_drives() const;

 private:
  void make_drives();
  void act_on_server(const Action& action);
  void act_on_drive(const Action& action);
  void act_on_network(const Action& action);
  void act_on_shm(const Action& action);
  void kill(bool power);
  void bury(bool power);
  void goes(const char* how, uint64_t down_ns);
  void replace_store();
  void log(std::string_view text);

  World& world_;
  Network& network_;
  Model& model_;
  const uint32_t number_;
  const ServerSetup setup_;
  const uint64_t seed_;
  ServerSpec spec_;
  Hostiles hostiles_;
  uint32_t stores_ = 0;  ///< that it has had
  std::vector<std::unique_ptr<Drive>> drives_, old_drives_;
  std::unique_ptr<ServerProcess> server_;
  std::vector<std::unique_ptr<ServerProcess>> graves_;  ///< servers that were killed
  uint64_t start_at_ns_ = 0;                            ///< when the server starts again; 0: it is up
  uint64_t dropped_before_ = 0, kills_ = 0, troubled_until_ns_ = 0;
  uint64_t slow_until_ns_ = 0;    ///< a drive may have ops until then, even when all faults have ended
  bool damaged_ = false;          ///< rot, lost or misdirected writes happened: what a start finds missing has a reason
  bool io_errors_ = false;        ///< reads failed
  bool drives_were_out_ = false;  ///< drives that were out come back empty
  bool half_open_ = false;        ///< a connection of it is or was: that may be noticed long after
  bool new_store_ = false;        ///< its next start is with new drives
};

}  // namespace memkv::sim
