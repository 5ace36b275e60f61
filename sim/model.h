#pragma once
/// The model: what the servers may answer. It knows every change that was asked for and what became of it, and holds
/// reads to the rules of docs/simulator.md. A block has a history of its own at each server: which one a client asks,
/// its list says, and servers know nothing of each other.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "memkv/client.h"

namespace memkv::sim {

/// One change of one block, from when it was asked for.
struct Change {
  enum class Kind : uint8_t { kPut, kWrite, kRemove, kFlush };
  /// kMaybe: it was given up, or its reply was lost. kNever: it was refused for certain.
  enum class Fate : uint8_t { kUnderWay, kApplied, kNever, kMaybe };
  Kind kind = Kind::kPut;
  Fate fate = Fate::kUnderWay;
  bool if_absent = false;
  uint32_t client = 0;  ///< the process; a new one after each start
  uint32_t server = 0;  ///< that was asked
  uint32_t key = 0;     ///< not used by kFlush
  uint32_t tenant = 0;
  uint64_t offset = 0, length = 0;
  uint64_t start_ns = 0, end_ns = 0;
  uint64_t deadline_ns = 0;
  Generation generation = 0;
  /// Stores of its server, counted from 0, in which it may have been applied: from when it was asked for and when it was
  /// over.
  uint32_t first_store = 0, last_store = UINT32_MAX;

  /// True if the change decides what the byte at `at` is (a put also decides what is not there).
  bool covers(uint64_t at) const { return kind != Kind::kWrite || (at >= offset && at < offset + length); }
  bool whole() const { return kind != Kind::kWrite; }
};

/// Changes are numbered from 1. The number is the version, and stands in the bytes that the change writes.
using Version = uint32_t;

/// Fills in bytes of a version: each eight bytes say their version, key and place.
void fill_content(std::span<std::byte> out, uint32_t key, Version version, uint64_t offset);

class Model {
 public:
  struct Read {
    uint32_t server = 0;
    uint32_t key = 0;
    uint32_t tenant = 0;
    uint64_t offset = 0;
    uint64_t start_ns = 0, end_ns = 0;
    Outcome outcome;
    std::span<const std::byte> bytes;  ///< as many as were delivered
    uint64_t length = 0;               ///< as many as were asked for
  };

  explicit Model(uint32_t servers = 1) : servers_(servers) {}

  Version begin(const Change& change);
  /// Records what the client was told.
  void end(Version version, Status status, Generation generation, uint64_t now_ns);
  /// The client is dead: each of its changes under way may have happened or not.
  void client_died(uint32_t client, uint64_t now_ns);
  Change& change(Version version) { return changes_[version - 1]; }
  /// An upper bound: no version of the block that was asked for so far has more bytes.
  uint64_t longest(uint32_t server, uint32_t tenant, uint32_t key) const;
  size_t changes() const { return changes_.size(); }

  // What happens to one server says nothing of the others.
  /// Something was evicted or dropped at this time. From then on a missing block has a reason.
  void note_drop(uint32_t server, uint64_t now_ns) { servers_[server].last_drop_ns = now_ns; }
  /// Until this time answers may be misses because the server could not be asked.
  void note_unreachable(uint32_t server, uint64_t until_ns) {
    servers_[server].unreachable_until_ns = std::max(servers_[server].unreachable_until_ns, until_ns);
  }
  /// The newest write of a log was damaged. This is the one exception: an older version may appear, of any key of any
  /// tenant.
  void note_newest_damaged(uint32_t server, uint64_t now_ns) { servers_[server].newest_damaged_ns = now_ns; }
  /// The server's store is gone for good, with all that was changed in it.
  void note_store_gone(uint32_t server, uint64_t now_ns) { servers_[server].gone_ns.push_back(now_ns); }
  /// From now on an empty one is in its place.
  void note_new_store(uint32_t server, uint64_t now_ns) { servers_[server].begun_ns.push_back(now_ns); }

  /// What is wrong with the answer; nothing if it is right.
  std::optional<std::string> check(const Read& read) const;
  uint64_t reads() const { return reads_; }
  uint64_t misses_excused() const { return misses_excused_; }
  uint64_t stale_excused() const { return stale_excused_; }

  bool check_order_across_clients = false;  ///< given-up changes of others are over at their deadline

 private:
  struct Server {
    uint64_t last_drop_ns = 0, unreachable_until_ns = 0, newest_damaged_ns = 0;
    std::vector<uint64_t> gone_ns, begun_ns;  ///< of its stores but the last and but the first
  };
  using Block = std::tuple<uint32_t, uint32_t, uint32_t>;  // server, tenant, key

  std::vector<Version> of(const Read& read, uint32_t store) const;
  void end(Change& change, uint64_t now_ns);
  std::optional<std::string> check_in(uint32_t store, const Read& read) const;
  bool before(const Change& older, const Change& newer) const;
  std::optional<std::string> check_hit(const Read& read, const std::vector<Version>& versions) const;
  bool may_have_hole(const Change& put, const Read& read, const std::vector<Version>& versions) const;
  std::optional<std::string> check_miss(const Read& read, const std::vector<Version>& versions) const;
  std::optional<std::string> check_version(const Read& read, const std::vector<Version>& versions, Version version,
                                           uint64_t at) const;
  std::string describe(Version version) const;

  std::vector<Change> changes_;
  std::map<Block, std::vector<Version>> by_block_;
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Version>> flushes_;  ///< by server and tenant
  std::vector<Server> servers_;
  mutable uint64_t reads_ = 0, misses_excused_ = 0, stale_excused_ = 0;
};

}  // namespace memkv::sim
