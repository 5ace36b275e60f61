#pragma once
/// The run of one seed: the plan's actions against simulated processes, with every answer checked.

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "client/placement.h"
#include "sim/client.h"
#include "sim/model.h"
#include "sim/network.h"
#include "sim/plan.h"
#include "sim/seat.h"
#include "sim/world.h"

namespace memkv::sim {

struct RunResult {
  std::string violation;  ///< empty: all was well
  uint64_t trace_hash = 0, trace_lines = 0;
  uint64_t ops = 0, reads = 0, changes = 0, given_up = 0, misses_excused = 0, stale_excused = 0;
  uint64_t kills = 0, faults = 0;
  uint64_t simulated_ns = 0;
  uint32_t servers = 0, rails = 0;
  bool shm = false;
  uint64_t windows = 0, switches = 0;  ///< of shm connections; of clients that then used another transport
  uint64_t rdma_bytes = 0;
};

/// Thread: the world's.
class Run {
 public:
  struct Options {
    bool log = false;
    bool one_server = false;  ///< also in a seed that would have several
    bool no_shm = false;      ///< also in a seed that would have it
    bool no_rdma = false;     ///< also in a seed that would have it
    MayHave may_have() const { return {.several = !one_server, .shm = !no_shm, .rdma = !no_rdma}; }
  };
  Run(uint64_t seed, const Plan& plan, const Options& options);
  ~Run();
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  RunResult go();

 private:
  struct OpInfo;
  struct Registered;
  struct Pending;
  struct ClientSeat {
    std::unique_ptr<ClientProcess> process;
    uint32_t id = 0;  ///< of this process, as the model knows it
    uint32_t tenant = 0;
    uint32_t listed = 1;             ///< so many servers stand in its list, from the first on
    uint64_t disturbed_ns = 0;       ///< until then the process, or a thread of it, stood still
    uint64_t troubled_until_ns = 0;  ///< until then it may have no working way to servers
    bool rdma = false;               ///< it may use RDMA
    uint64_t helpers_late_ns = 0;    ///< until then its RDMA may be slow to let go of memory
    bool half_open = false;          ///< a connection is or was: that may be noticed long after
    bool scribbled = false;          ///< it wrote nonsense into memory that it shares
    uint64_t ops_done = 0;
    uint64_t corrupt_before = 0, breakers_before = 0;  ///< as the process counted them
  };

  void act(const Action& action);
  void act_on_client(const Action& action);
  void kill_client(size_t seat);
  void kill_clients_on(uint32_t machine);
  void scribble(ClientSeat& seat, uint64_t seed);
  bool uses_shm(const ClientSeat& seat) const {
    return plan_.setup.has_shm() && seat.process->spec().transport != Transport::kTcp;
  }
  void act_on_rdma(const Action& action);
  void seat_client(size_t seat, uint32_t tenant);
  void seat_auditors();
  void start_due();
  void watch_counters();
  bool expects_progress(const ClientSeat& seat, const ServerSeat& server, uint64_t ns) const;
  void must_start(bool started, const ServerSeat& server);
  void settle();
  void heal();
  void audit(size_t seat);
  void check_damage_counted();
  /// Submits one op of an honest client, and again as long as it is refused for now. False: no answer came.
  bool ask_until_answered(size_t seat, const std::function<void(Pending&)>& add);
  void finish();

  // The workload.
  void submit_batch(size_t seat, uint64_t seed);
  void add_op(Pending& pending, base::Random& random, bool first);
  void add_change(Pending& pending, base::Random& random, Change::Kind kind, uint32_t key);
  void add_flushes(Pending& pending);
  void add_hints(Pending& pending, uint64_t seed);
  void add_read(Pending& pending, uint32_t key, uint64_t offset, uint64_t length);
  void add_read_of_all(Pending& pending, uint32_t key);
  void start(std::unique_ptr<Pending> pending, uint64_t deadline_ns, size_t context);
  void on_done(Pending& pending);
  void check_progress(const Pending& pending, const OpInfo& op, const Outcome& outcome);
  void on_op_done(Pending& pending, OpInfo& op, const Outcome& outcome);
  void check_quiet(Pending& pending);
  void register_buffers(Pending& pending);
  /// As a Region that ends: no new use, and once nothing is in flight the NICs forget the memory.
  void deregister(const std::shared_ptr<Registered>& registered);
  uint64_t latest_end_ns(const Pending& pending) const;
  void forget_old();
  uint64_t draw_size(base::Random& random) const;
  std::string key_name(uint32_t key) const;
  uint32_t server_of(const ClientSeat& seat, uint32_t key) const;
  void abandon_ops(const ClientProcess& client);

  void fail(std::string what);
  bool failed() const { return !result_.violation.empty(); }
  void log(std::string_view text) { world_.trace().add(world_.now_ns(), text); }

  const Plan plan_;
  const Options options_;
  World world_;
  Network network_;
  Model model_;
  RunResult result_;
  std::vector<Tenant> tenants_;
  std::vector<std::unique_ptr<ServerSeat>> servers_;
  std::vector<client::Placement> placements_;  ///< of lists of 1, 2, … servers
  uint32_t listed_ = 1;                        ///< servers in the list of a client that starts now
  std::vector<std::unique_ptr<ClientProcess>> client_graves_;
  std::vector<ClientSeat> seats_;  ///< those that the plan's actions name, then auditors
  uint32_t client_ids_ = 0;
  std::list<std::unique_ptr<Pending>> pending_, done_;
  bool damage_seen_ = false;  ///< by a server, in any of its stores
};

/// Runs one seed in this process. `keep`: places of the plan's actions to keep; null: all.
RunResult run_seed(uint64_t seed, const Run::Options& options, const std::vector<size_t>* keep = nullptr);

}  // namespace memkv::sim
