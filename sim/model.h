#pragma once
/// The model: what the store may answer. It knows every change that was asked for and what became of it, and holds
/// reads to the rules of docs/simulator.md. It knows nothing of servers.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
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
  uint32_t key = 0;     ///< not used by kFlush
  uint32_t tenant = 0;
  uint64_t offset = 0, length = 0;
  uint64_t start_ns = 0, end_ns = 0;
  uint64_t deadline_ns = 0;
  Generation generation = 0;

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
    uint32_t key = 0;
    uint32_t tenant = 0;
    uint64_t offset = 0;
    uint64_t start_ns = 0, end_ns = 0;
    Outcome outcome;
    std::span<const std::byte> bytes;  ///< as many as were delivered
    uint64_t length = 0;               ///< as many as were asked for
  };

  Version begin(const Change& change);
  /// Records what the client was told.
  void end(Version version, Status status, Generation generation, uint64_t now_ns);
  /// The client is dead: each of its changes under way may have happened or not.
  void client_died(uint32_t client, uint64_t now_ns);
  Change& change(Version version) { return changes_[version - 1]; }
  /// An upper bound: no version of the block that was asked for so far has more bytes.
  uint64_t longest(uint32_t tenant, uint32_t key) const;
  size_t changes() const { return changes_.size(); }

  /// Something was evicted or dropped at this time. From then on a missing block has a reason.
  void note_drop(uint64_t now_ns) { last_drop_ns_ = now_ns; }
  /// Until this time answers may be misses because no server could be asked.
  void note_unreachable(uint64_t until_ns) { unreachable_until_ns_ = std::max(unreachable_until_ns_, until_ns); }
  /// The newest write of a log was damaged. This is the one exception: an older version may appear, of any key of any
  /// tenant.
  void note_newest_damaged(uint64_t now_ns) { newest_damaged_ns_ = now_ns; }

  /// What is wrong with the answer; nothing if it is right.
  std::optional<std::string> check(const Read& read) const;
  uint64_t reads() const { return reads_; }
  uint64_t misses_excused() const { return misses_excused_; }
  uint64_t stale_excused() const { return stale_excused_; }

  bool check_order_across_clients = false;  ///< given-up changes of others are over at their deadline

 private:
  std::vector<Version> of(uint32_t tenant, uint32_t key) const;
  bool before(const Change& older, const Change& newer) const;
  std::optional<std::string> check_hit(const Read& read, const std::vector<Version>& versions) const;
  bool may_have_hole(const Change& put, const Read& read, const std::vector<Version>& versions) const;
  std::optional<std::string> check_miss(const Read& read, const std::vector<Version>& versions) const;
  std::optional<std::string> check_version(const Read& read, const std::vector<Version>& versions, Version version,
                                           uint64_t at) const;
  std::string describe(Version version) const;

  std::vector<Change> changes_;
  std::map<std::pair<uint32_t, uint32_t>, std::vector<Version>> by_key_;
  std::map<uint32_t, std::vector<Version>> flushes_;  ///< by tenant
  uint64_t last_drop_ns_ = 0, unreachable_until_ns_ = 0, newest_damaged_ns_ = 0;
  mutable uint64_t reads_ = 0, misses_excused_ = 0, stale_excused_ = 0;
};

}  // namespace memkv::sim
