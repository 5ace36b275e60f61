#pragma once
/// Brings a shard's index back: anchors, footers, tails. Runs the reactor itself until it is done; nothing else is
/// under way then.

#include <algorithm>
#include <vector>

#include "engine/found_records.h"
#include "engine/parts.h"
#include "engine/verdicts.h"

namespace memkv::engine {

/// One use: Recovery(parts).run(). Knows the drives, the blocks and the sequences. Thread: worker.
class Recovery {
 public:
  explicit Recovery(Parts& parts) : parts_(parts), verdicts_(parts.drives.count()) {}
  Status run();

  // --- for LogScan
  /// Records of this segment follow.
  void begin_segment(const Log& log, uint64_t epoch) { verdicts_.saw_segment(log, epoch); }
  /// A record that the log holds. `head` is the payload of a head record; empty: it is damaged, and the block with it.
  void take(Log& log, uint64_t epoch, const format::RecordHeader& h, uint64_t payload_offset, base::Bytes head);
  /// An extent is lost, and this is what the next one says of it: its records, and what they replaced or killed, are
  /// dead.
  void lose_records(Log& log, const format::NoteView& note);
  /// Something before `end` is lost, and nobody knows what: the log is cut there.
  void lose_all(Log& log, LogPlace end);
  /// One device op, waited for. 0, or -errno.
  int32_t wait(Log& log, uint64_t offset, std::byte* memory, uint64_t bytes, bool write);
  io::Reactor& reactor() { return parts_.reactor; }
  StoreCounters& counters() { return parts_.counters; }
  const StoreOptions& options() const { return parts_.options; }
  /// Sequences below `end` may have been used.
  void saw_sequence_end(uint64_t end) { anchored_end_ = std::max(anchored_end_, end); }
  Sequences::AnchorWrite& anchors_of(const Log& log) { return parts_.sequences.anchors_of(log); }

 private:
  Status start_logs();
  void scan_logs();
  bool write_anchors(Log& log);
  void resolve();
  template <typename Visit>
  void for_each_winner(Visit&& visit);
  std::vector<uint64_t> choose_dropped();
  void install(FoundRecords::Block records, const FoundRecord& winner, bool has_room);
  bool install_whole(const FoundRecord& winner);
  bool install_head(FoundRecords::Block records, const FoundRecord& winner);
  void write_tombstones();
  void wait_for_tombstones();
  void close_tails();

  Parts& parts_;
  FoundRecords found_;
  Verdicts verdicts_;
  std::vector<MissingTombstone> missing_;
  uint32_t namespace_number_ = ~0u;  // of the block that was installed last, and its index
  uint16_t namespace_index_ = 0;
  size_t tombstones_left_ = 0;
  uint64_t sequence_max_ = 0, anchored_end_ = 0;
};

}  // namespace memkv::engine
