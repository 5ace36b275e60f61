/// What a store's logs hold becomes its index. Each log is read in log_scan.cc.

#include "engine/recovery.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "engine/log_scan.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr int kWriteTries = 3;
constexpr size_t kTombstonesAtOnce = 1024;
constexpr uint64_t kAheadBytesMax = 8 << 20;  // that are read before they are looked at, of all logs together
constexpr uint64_t kAheadBytesMin = 256 << 10;
constexpr uint64_t kAheadPart = 8;  // of all footers: else a small store would be read whole before it is looked at

RecordRef ref_of(const FoundRecord& f) { return {f.place(), f.sequence(), f.checksum(), f.length(), f.has_holes()}; }

}  // namespace

Status Recovery::run() {
  if (parts_.options.memory_mode) {
    for (const auto& log : parts_.drives.logs()) {
      if (log) log->start({});
    }
    parts_.sequences.reserve_all();
    return Status::kOk;
  }
  if (const Status status = start_logs(); status != Status::kOk) return status;
  resolve();
  write_tombstones();
  close_tails();
  return parts_.drives.all_out() ? Status::kIo : Status::kOk;
}

/// Reads all logs, which take turns: while one waits for its drive, the others go on.
void Recovery::scan_logs() {
  const Sectors window = make_sectors(LogScan::kWindowBytes);
  std::vector<std::unique_ptr<LogScan>> scans;
  for (const auto& log : parts_.drives.logs()) {
    if (log) scans.push_back(std::make_unique<LogScan>(*this, *log, window.get()));
  }
  for (const auto& scan : scans) scan->look_ahead(kAheadBytesMax / scans.size());
  parts_.reactor.run_once(0);
  uint64_t records = 0;
  for (const auto& scan : scans) {
    scan->begin();
    records += scan->records_told();
  }
  found_.expect(records);
  const uint64_t ahead =
      std::clamp(records * sizeof(format::RecordHeader) / kAheadPart, kAheadBytesMin, kAheadBytesMax);
  for (const auto& scan : scans) scan->look_ahead_at_records(ahead / scans.size());
  for (size_t left = scans.size(); left > 0;) {
    bool moved = false;
    left = 0;
    for (const auto& scan : scans) {
      const bool ready = scan->ready();
      const bool more = !ready || scan->step();
      moved |= ready && more;
      left += more ? 1 : 0;
    }
    if (left > 0) parts_.reactor.run_once(moved ? 0 : 10'000'000);
  }
  for (const auto& scan : scans) {
    scan->log().start(scan->end());
    if (scan->unreadable()) scan->log().give_up("it cannot be read");
  }
}

/// Before anything else is done on what the logs say, anchors tell durably what was dropped, and up to where sequences
/// may be used.
Status Recovery::start_logs() {
  scan_logs();
  const uint64_t start = rules().sequences_reserved ? std::max(anchored_end_, sequence_max_ + 1) : sequence_max_ + 1;
  parts_.sequences.begin_at(std::max<uint64_t>(start, 1));
  for (const auto& log : parts_.drives.logs()) {
    if (log && !log->out() && !write_anchors(*log)) log->give_up("its anchors cannot be written");
  }
  parts_.sequences.reserved();
  return parts_.drives.all_out() ? Status::kIo : Status::kOk;
}

/// Both copies, one after another, so that a torn write leaves the one before, and no single lost block takes a fact
/// back.
bool Recovery::write_anchors(Log& log) {
  Sequences::AnchorWrite& write = anchors_of(log);
  for (int copy = 0; copy < 2; ++copy) {
    const format::Anchor a = parts_.sequences.next_anchor(log);
    std::memcpy(write.sector, &a, sizeof a);
    const uint64_t offset = log.config().slice.offset_bytes + write.counter % 2 * base::kSectorBytes;
    int32_t result = -1;
    for (int i = 0; i < kWriteTries && result < 0; ++i)
      result = wait(log, offset, write.sector, base::kSectorBytes, true);
    if (result < 0) return false;
    write.ends[write.counter % 2] = write.sequence_end;
  }
  log.anchored(write.facts);
  return true;
}

int32_t Recovery::wait(Log& log, uint64_t offset, std::byte* memory, uint64_t bytes, bool write) {
  struct Wait {
    io::IoOp io;
    iovec piece;
    int32_t result = 0;
    bool done = false;
  } w;
  w.piece = {memory, bytes};
  w.io.context = &w;
  w.io.on_done = [](io::IoOp& op, int32_t result) {
    auto& self = *static_cast<Wait*>(op.context);
    self.result = result;
    self.done = true;
  };
  for (;;) {
    const auto begun = write ? log.device().write(w.io, offset, {&w.piece, 1}, log.config().slice.dsync)
                             : log.device().read(w.io, offset, {&w.piece, 1});
    if (begun) break;
    if (begun.error().status != Status::kBusy) return -5;
    parts_.reactor.run_once(1'000'000);
  }
  while (!w.done) parts_.reactor.run_once(10'000'000);
  return w.result;
}

// --- what the logs say -----------------------------------------------------------------------------------------------

void Recovery::take(Log& log, uint64_t epoch, const format::RecordHeader& h, uint64_t payload_offset,
                    base::Bytes head) {
  ++parts_.counters.recovered_records;
  sequence_max_ = std::max(sequence_max_, h.sequence);
  const uint8_t drive = log.config().slice.drive_index;
  const Place place{drive, payload_offset / format::kPackBytes};
  switch (h.kind) {
    case format::RecordKind::kTombstone:
      return found_.add({{h.digest[0], h.digest[1]}, FoundRecord::Kind::kTombstone, h.sequence, place});
    case format::RecordKind::kFlush:
      return verdicts_.saw_flush(drive, found_.number_of(h.namespace_id), h.sequence, {epoch, payload_offset});
    case format::RecordKind::kHead:
      return found_.add_head({h, place, found_.number_of(h.namespace_id)}, head);
    default:
      return found_.add({h, place, found_.number_of(h.namespace_id)});
  }
}

void Recovery::lose_records(Log& log, const format::NoteView& note) {
  if (!rules().losses_noticed) return;
  const uint8_t drive = log.config().slice.drive_index;
  ++parts_.counters.recovered_rot;
  MEMKV_LOG(kWarn, "shard {}: drive {}: an extent of {} records is lost: their blocks are misses", parts_.options.shard,
            drive, note.size());
  for (size_t i = 0; i < note.size(); ++i) {
    const format::NoteEntry e = note.entry(i);
    const Digest digest{e.digest[0], e.digest[1]};
    sequence_max_ = std::max(sequence_max_, e.sequence);
    found_.add({digest, FoundRecord::Kind::kLost, e.sequence + 1, {drive, 0}});
    missing_.push_back({drive, digest, e.sequence + 1});
  }
}

void Recovery::lose_all(Log& log, LogPlace end) {
  ++parts_.counters.recovered_rot;
  ++parts_.counters.recovered_lost;
  MEMKV_LOG(
      kError,
      "shard {}: drive {}: part of segment {} is lost, and what it held is not known: what lies before it in this "
      "log is dropped for good",
      parts_.options.shard, log.config().slice.drive_index, end.epoch);
  verdicts_.cut(log.config().slice.drive_index, end);
}

// --- what follows from it --------------------------------------------------------------------------------------------

void Recovery::resolve() {
  for (const auto& log : parts_.drives.logs()) {
    if (log && !log->out()) verdicts_.set_usable(log->config().slice.drive_index);
  }
  const std::vector<uint64_t> dropped = choose_dropped();
  for_each_winner([&](FoundRecords::Block records, const FoundRecord* winner) {
    missing_.insert(missing_.end(), verdicts_.missing().begin(), verdicts_.missing().end());
    if (winner == nullptr) return;
    install(records, *winner, !std::binary_search(dropped.begin(), dropped.end(), winner->sequence()));
  });
  found_.clear();
  if (dropped.empty()) return;
  MEMKV_LOG(kError,
            "shard {}: the index has room for {} entries: the {} oldest blocks are dropped for good; a smaller "
            "memory.index_block_size makes a larger index",
            parts_.options.shard, parts_.blocks.entries_max(), dropped.size());
}

/// Calls visit(records, winner) for each block that was found. winner null: none of its records lives.
template <typename Visit>
void Recovery::for_each_winner(Visit&& visit) {
  found_.for_each_block([&](FoundRecords::Block records) { visit(records, verdicts_.decide(records)); });
}

/// Sequences of the blocks that the index has no room for, sorted. The newest blocks have the first claim.
std::vector<uint64_t> Recovery::choose_dropped() {
  uint64_t room = parts_.blocks.entries_max() - parts_.blocks.entries();
  if (found_.blocks_and_chunks() <= room) return {};  // whichever of them live
  struct Claim {
    uint64_t sequence, entries;
  };
  std::vector<Claim> claims;
  for_each_winner([&](FoundRecords::Block records, const FoundRecord* winner) {
    if (winner == nullptr) return;
    ChunkRefs chunks;
    const bool head = winner->kind() == FoundRecord::Kind::kHead;
    if (!head || verdicts_.find_chunks(records, found_.head(*winner), chunks))
      claims.push_back({winner->sequence(), chunks.size() + 1});
  });
  std::sort(claims.begin(), claims.end(), [](const Claim& a, const Claim& b) { return a.sequence > b.sequence; });
  std::vector<uint64_t> dropped;
  for (const Claim& claim : claims) {
    if (claim.entries > room)
      dropped.push_back(claim.sequence);
    else
      room -= claim.entries;
  }
  std::reverse(dropped.begin(), dropped.end());
  return dropped;
}

/// A block that lacks a chunk, or room in the index, is dropped for good.
void Recovery::install(FoundRecords::Block records, const FoundRecord& winner, bool has_room) {
  const bool installed =
      has_room && (winner.kind() == FoundRecord::Kind::kHead ? install_head(records, winner) : install_whole(winner));
  if (!has_room) ++parts_.counters.dropped_index_full;
  if (!installed && rules().dropped_for_good)
    missing_.push_back({winner.drive(), winner.digest(), winner.sequence() + 1});
}

bool Recovery::install_whole(const FoundRecord& winner) {
  if (winner.namespace_number() != namespace_number_) {
    namespace_number_ = winner.namespace_number();
    namespace_index_ = parts_.blocks.namespace_index(found_.namespace_id(namespace_number_));
  }
  return parts_.blocks.restore_block(winner.digest(), ref_of(winner), namespace_index_, winner.expiry_s());
}

bool Recovery::install_head(FoundRecords::Block records, const FoundRecord& winner) {
  const FoundRecords::Head head = found_.head(winner);
  ChunkRefs chunks;
  return verdicts_.find_chunks(records, head, chunks) &&
         parts_.blocks.install_block(winner.digest(), ref_of(winner), true,
                                     found_.namespace_id(winner.namespace_number()), winner.expiry_s(),
                                     head.block_bytes, chunks);
}

/// Rule 4: what is dead gets the tombstone that it lacks, before anything is served.
void Recovery::write_tombstones() {
  std::vector<Append> appends(std::min(missing_.size(), kTombstonesAtOnce));
  for (size_t i = 0; i < missing_.size() && rules().dies_where_it_lies; ++i) {
    if (i % kTombstonesAtOnce == 0) wait_for_tombstones();
    Log* log = parts_.drives.usable_log(missing_[i].drive);
    if (log == nullptr) continue;
    Append& a = appends[i % kTombstonesAtOnce];
    a = {};
    a.header.digest[0] = missing_[i].digest.lo;
    a.header.digest[1] = missing_[i].digest.hi;
    a.header.kind = format::RecordKind::kTombstone;
    a.header.sequence = missing_[i].sequence;
    a.context = this;
    a.on_done = [](Append& done) {
      auto& self = *static_cast<Recovery*>(done.context);
      Log* failed = done.status == Status::kOk ? nullptr : self.parts_.drives.usable_log(done.place.drive);
      if (failed != nullptr) failed->give_up("it takes no tombstones");
      --self.tombstones_left_;
    };
    a.place.drive = missing_[i].drive;
    ++tombstones_left_;
    log->enqueue(a);
  }
  wait_for_tombstones();
}

void Recovery::wait_for_tombstones() {
  for (const auto& log : parts_.drives.logs()) {
    if (log && !log->out()) log->pump();
  }
  while (tombstones_left_ > 0) parts_.reactor.run_once(10'000'000);
}

/// What was found at the end of a log is from now on known to have been complete.
void Recovery::close_tails() {
  for (const auto& log : parts_.drives.logs()) {
    if (log && !log->out()) (void)log->write_mark();
  }
  const auto busy = [](const auto& log) { return log && !log->idle(); };
  const auto logs = parts_.drives.logs();
  while (std::any_of(logs.begin(), logs.end(), busy)) parts_.reactor.run_once(10'000'000);
}

}  // namespace memkv::engine
