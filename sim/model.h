#pragma once
/// What the store may answer: every change that was asked for, what became of it, and the rules that reads are held to
/// (docs/simulator.md). It knows nothing of servers.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memkv/client.h"

namespace memkv::sim {

/// One change of one block, from the moment when it was asked for.
struct Change {
  enum class Kind : uint8_t { kPut, kWrite, kRemove, kFlush };
  /// kMaybe: given up, or its reply was lost. kNever: refused for sure.
  enum class Fate : uint8_t { kUnderWay, kApplied, kNever, kMaybe };
  Kind kind = Kind::kPut;
  Fate fate = Fate::kUnderWay;
  bool if_absent = false;
  uint32_t client = 0;  ///< the process; another one after each start
  uint32_t key = 0;     ///< of kFlush: none
  uint32_t tenant = 0;
  uint64_t offset = 0, length = 0;
  uint64_t start_ns = 0, end_ns = 0;
  uint64_t deadline_ns = 0;
  Generation generation = 0;

  /// True if it says what the byte at `at` is (a put also says what is not there).
  bool covers(uint64_t at) const { return kind != Kind::kWrite || (at >= offset && at < offset + length); }
  bool whole() const { return kind != Kind::kWrite; }
};

/// Numbers of changes are versions: they stand in the bytes. From 1.
using Version = uint32_t;

/// Bytes of a version: eight bytes say which version, key and place they are of.
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
    uint64_t length = 0;               ///< asked for
  };

  Version begin(const Change& change);
  /// What the client said of it.
  void end(Version version, Status status, Generation generation, uint64_t now_ns);
  /// The client is dead: whatever was under way may have happened.
  void client_died(uint32_t client, uint64_t now_ns);
  Change& change(Version version) { return changes_[version - 1]; }
  /// No version of the block that was asked for so far has more bytes.
  uint64_t longest(uint32_t tenant, uint32_t key) const;
  size_t changes() const { return changes_.size(); }

  /// Since when an acknowledged block that is gone has a reason: something was evicted or dropped then.
  void note_drop(uint64_t now_ns) { last_drop_ns_ = now_ns; }
  /// Answers of that time may be misses since no server could be asked.
  void note_unreachable(uint64_t until_ns) { unreachable_until_ns_ = std::max(unreachable_until_ns_, until_ns); }
  /// The newest write of a log was damaged: the one exception (an older version may appear). `key`s of all tenants.
  void note_newest_damaged(uint64_t now_ns) { newest_damaged_ns_ = now_ns; }

  /// Nothing, or what is wrong with the answer.
  std::optional<std::string> check(const Read& read) const;
  uint64_t reads() const { return reads_; }
  uint64_t misses_excused() const { return misses_excused_; }
  uint64_t stale_excused() const { return stale_excused_; }

  bool check_order_across_clients = false;  ///< given-up changes of others count as over at their deadline

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
