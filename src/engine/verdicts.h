#pragma once
/// Which record of a block lives, when a store is opened.

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/found_records.h"
#include "engine/log.h"
#include "engine/record_ref.h"

namespace memkv::engine {

/// A place in a log.
struct LogPlace {
  uint64_t epoch = 0;
  uint64_t offset = 0;  ///< on the drive
  friend auto operator<=>(const LogPlace&, const LogPlace&) = default;
};

/// A tombstone to be written.
struct MissingTombstone {
  uint8_t drive;
  Digest digest;
  uint64_t sequence;
};

/// Decides for one block after another, from all records of it that the logs hold: the highest sequence lives, if
/// nothing in its own log kills it. Those that are dead, and that a later start could take for living, are named.
///
/// Thread: worker.
class Verdicts {
 public:
  explicit Verdicts(size_t drives) : logs_(drives) {}

  // What is known of a log, beside the records of blocks.
  void saw_segment(const Log& log, uint64_t epoch);
  void saw_flush(uint8_t drive, uint32_t namespace_number, uint64_t sequence, LogPlace at) {
    logs_[drive].flushes[namespace_number].add(sequence, at);
  }
  /// All before `end` is dropped: found now, so what moved just behind it may be older than what it took.
  void cut(uint8_t drive, LogPlace end) { logs_[drive].cut = std::max(logs_[drive].cut, end); }
  void set_usable(uint8_t drive) { logs_[drive].usable = true; }

  /// The record that is the block; null: there is no block.
  const FoundRecord* decide(FoundRecords::Block records);
  /// Tombstones that the dead ones of those records lack.
  const std::vector<MissingTombstone>& missing() const { return missing_; }
  /// Chunks live and die with the head that names them: an upload may begin before a flush and commit behind it. False:
  /// the head's payload, or one of them, is lost.
  bool find_chunks(FoundRecords::Block records, const FoundRecords::Head& head, ChunkRefs& chunks);

 private:
  /// Of the tombstones of one digest, or the flushes of one namespace, in one log.
  struct Tomb {
    uint64_t highest = 0;  // sequence
    uint64_t last = 0;     // sequence of the one furthest on in the log: it is kept longest
    LogPlace last_at;
    void add(uint64_t sequence, LogPlace at);
  };
  struct OfLog {
    bool usable = false;
    LogPlace cut;
    std::unordered_map<uint32_t, Tomb> flushes;  // by namespace number
    std::vector<uint64_t> epochs;                // by segment place
    const Segments* segments = nullptr;
    bool plain() const { return usable && cut.epoch == 0 && flushes.empty(); }
  };
  struct DriveTomb {
    uint8_t drive;
    Tomb tomb;
  };

  bool counts(const FoundRecord& f) const { return f.is_commit() && logs_[f.drive()].usable; }
  LogPlace at(const FoundRecord& f) const;
  void sum_up_tombstones(FoundRecords::Block records);
  Tomb& tomb_of(uint8_t drive);
  template <typename Is>
  bool any_tomb(const FoundRecord& f, Is&& is) const;
  bool is_killed(const FoundRecord& f) const;
  bool outlives_its_tombs(const FoundRecord& f) const;
  bool is_suspect(const FoundRecord& f) const;
  bool replaces(const FoundRecord& f, const FoundRecord& other) const;
  void bury_suspects(FoundRecords::Block records);
  void bury_dead(FoundRecords::Block records, const FoundRecord* best);

  std::vector<OfLog> logs_;  // by drive
  // Of the block.
  std::vector<DriveTomb> tombs_;
  std::vector<MissingTombstone> missing_;
  std::vector<const FoundRecord*> chunks_;
};

}  // namespace memkv::engine
