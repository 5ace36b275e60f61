#pragma once
/// Sequence numbers: each change of a shard gets the next one, and none is ever given twice (rule 6).

#include <cstdint>
#include <vector>

#include "engine/drives.h"
#include "engine/log.h"
#include "format/format.h"
#include "io/reactor.h"

namespace memkv::engine {

/// Gives out sequence numbers from a range that is reserved durably in the logs' anchors. Anchors also tell how far
/// their log is complete, so it is this class that writes them.
///
/// Owns the anchors' memory and their writes. Knows the drives. Thread: worker.
class Sequences {
 public:
  /// The two anchors of one log, and the one on its way.
  struct AnchorWrite {
    alignas(base::kSectorBytes) std::byte sector[base::kSectorBytes]{};
    Sequences* sequences = nullptr;
    Log* log = nullptr;
    io::IoOp io;
    iovec piece{};
    uint64_t counter = 0;  // of the last one; its parity is the copy
    LogFacts facts;
    uint64_t sequence_end = 0;
    uint64_t ends[2] = {};    // as each copy says durably
    uint64_t written_ns = 0;  // the last time
  };

  Sequences(io::Reactor& reactor, const StoreOptions& options, Drives& drives, Tick& tick);

  uint64_t next();
  void skip(uint64_t count);  ///< for tests: as if so many changes had been made
  /// Every tick: reserves the next range long before this one runs out.
  void extend_reservation();
  /// Every tick: tells anchors how far their log is complete.
  void anchor_logs();
  void write_anchor(Log& log);
  bool anchors_pending() const;

  // Recovery, which waits for its writes.
  /// The first number to be given out, once the anchors reserve the range behind it: reserved() says that they do.
  void begin_at(uint64_t first);
  void reserved() { end_ = wanted_; }
  /// Memory mode: nothing survives, so nothing needs to be reserved.
  void reserve_all();
  AnchorWrite& anchors_of(const Log& log) { return anchors_[log.config().slice.drive_index]; }
  /// The anchor of the log to be written next, and its facts in anchors_of(log).
  format::Anchor next_anchor(Log& log);

 private:
  static void on_anchor(io::IoOp& op, int32_t result);

  io::Reactor& reactor_;
  const StoreOptions& options_;
  Drives& drives_;
  Tick& tick_;
  uint64_t next_ = 1;
  uint64_t end_ = 0;                  // numbers below it may be used
  uint64_t wanted_ = 0;               // what anchors are to say; usable when both copies of one do
  std::vector<AnchorWrite> anchors_;  // by drive
};

}  // namespace memkv::engine
