#pragma once
/// What a run does. All of it is drawn from the seed before the run begins, so that shrinking can leave parts out.

#include <cstdint>
#include <string>
#include <vector>

#include "memkv/types.h"

namespace memkv::sim {

inline constexpr uint64_t kManyIndexEntries = 20'000;  ///< no run has so many blocks

/// A server, and the machine that it is on.
struct ServerSetup {
  uint32_t drives = 1, shards = 1, workers = 1;
  uint64_t drive_bytes = 0;
  bool volatile_cache = false;
  uint64_t drive_latency_ns_max = 0;
  uint64_t index_entries_max = kManyIndexEntries;
  bool index_by_turns = false;  ///< each start has the other index, the smallest or a large one; else chance decides
  uint64_t tier_bytes = 0;      ///< of memory for hot chunks, in each shard
};

/// Where a client is, and what it may use.
struct ClientPlace {
  Transport transport = Transport::kTcp;
  uint32_t machine = 0;  ///< of which server; the client of a place without shm is elsewhere
};

/// Shared memory between servers and clients on their machines. Without `clients` there is none.
struct ShmSetup {
  uint64_t get_ring_bytes = 0, put_ring_bytes = 0;
  uint64_t windows_max = 0;          ///< of all clients of a server together
  std::vector<ClientPlace> clients;  ///< by their place
};

/// The machines of a run. It is itself the first server.
struct Setup : ServerSetup {
  std::vector<ServerSetup> more;  ///< servers beside the first
  uint32_t listed = 1;            ///< so many of the servers stand in the lists of the first clients
  uint32_t tenants = 1, clients = 2, contexts = 2, connections_per_worker = 1;
  uint32_t keys = 16;
  bool large_blocks = false;  ///< many blocks have a chunk or more
  uint32_t block_bytes_min = 0,
           block_bytes_max = 0;  ///< what a put has at least and at most; max 0: all kinds of sizes
  bool slow_network = false;
  bool flushes = true;  ///< clients flush from time to time
  uint32_t window_bytes = 256 * 1024;
  ShmSetup shm;
  uint32_t rails = 0;  ///< RDMA devices of each host

  bool has_shm() const { return !shm.clients.empty(); }
  uint32_t servers() const { return 1 + static_cast<uint32_t>(more.size()); }
  const ServerSetup& server(uint32_t i) const { return i == 0 ? *this : more[i - 1]; }
};

struct Action {
  enum class Kind : uint8_t {
    kBatch,         ///< client `a` submits ops drawn from `seed`
    kPauseServer,   ///< SIGSTOP of the server for `b`
    kStallThread,   ///< one thread of the server gets no CPU for `b`
    kPauseClient,   ///< SIGSTOP of client `a` for `b`
    kKillServer,    ///< kill -9 of the server; it starts again `b` later
    kStopServer,    ///< SIGTERM of the server; it starts again `b` later
    kPowerCut,      ///< the server's machine loses power; it starts again `b` later
    kKillClient,    ///< client `a` is killed; another process takes its place
    kCutNetwork,    ///< connections of client `a` are reset
    kHalfOpen,      ///< one connection of client `a` is half open
    kBlackhole,     ///< nothing passes to or from client `a` for `b`
    kDriveErrors,   ///< drive `a`, for `b`: reads and writes fail by chance
    kDriveDead,     ///< drive `a` fails for good
    kDriveSlow,     ///< drive `a`, for `b`: up to seconds an op; one in four hangs, three times as long
    kDriveBack,     ///< drive `a` is there again at the next start
    kReadsOnceBad,  ///< drive `a`: the first reads of the next start fail
    kRot,           ///< drive `a`: a bit turns over in a written sector
    kZero,          ///< drive `a`: a written sector is zeroed
    kLostWrites,    ///< drive `a`, for `b`: a write by chance never lands
    kMisdirected,   ///< drive `a`, for `b`: a write by chance lands elsewhere
    kReadFlips,     ///< drive `a`, for `b`: reads come with a bit turned over, by chance
    kHostile,       ///< a hostile client does what `seed` says
    kWallClock,     ///< the wall clock jumps by `b` seconds (signed)
    kNewStore,      ///< kill -9 of the server; `b` later it starts with new, empty drives
    kCutServer,     ///< connections of the server are reset, or one of them is half open
    kDarkServer,    ///< nothing passes to or from the server for `b`
    kGrowList,      ///< clients that start from now on have one more server in their list
    kScribble,      ///< client `a` writes nonsense into the memory that it shares with a server
    kNoWindows,     ///< the server gets no memory for windows for `b`
    kNoSocket,      ///< somebody removes the server's unix socket
    kHostileShm,    ///< a hostile client on the server's machine does what `seed` says
    kRailGone,      ///< a device of the server or of client `a` goes, and is back `b` later
    kRailDark,      ///< nothing passes to or from one of these devices for `b`
    kPairError,     ///< a queue pair of the server or of client `a` fails
    kHelpersLate,   ///< what blocks of the server's or of client `a`'s RDMA takes up to seconds, for `b`
    kNoMemory,      ///< the server or client `a` can register no memory for `b`
    kSettle,        ///< all faults end, then everything is checked
  };
  Kind kind = Kind::kBatch;
  uint32_t server = 0;     ///< to which it happens, or to one of its drives
  bool of_client = false;  ///< RDMA's faults: to client `a`
  uint32_t a = 0;
  uint64_t b = 0;
  uint64_t seed = 0;
  uint64_t wait_ns = 0;  ///< until the next action
};

struct Plan {
  Setup setup;
  std::vector<Action> actions;
};

/// What some seeds have beside one server and its clients over tcp. If they may not have it, the others stay as they are.
struct MayHave {
  bool several = true;  ///< about a quarter of the seeds have several servers
  bool shm = true;      ///< a fifth have clients that use shm
  bool rdma = true;     ///< a fifth of the rest have RDMA
};
Plan make_plan(uint64_t seed, const MayHave& may_have);
inline Plan make_plan(uint64_t seed) { return make_plan(seed, MayHave{}); }
bool is_of_rdma(Action::Kind kind);
std::string describe(const Action& action);
std::string describe(const ServerSetup& setup);
std::string describe(const ShmSetup& setup);
std::string describe(const Setup& setup);  ///< the first server, and what there is beside servers

}  // namespace memkv::sim
