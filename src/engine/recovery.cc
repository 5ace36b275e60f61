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

}  // namespace

Status Recovery::run() {
  tombs_.resize(parts_.drives.count());
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

/// Reads all logs. Before anything else is done on what they say, anchors tell durably what was dropped, and up to
/// where sequences may be used.
Status Recovery::start_logs() {
  for (const auto& log : parts_.drives.logs()) {
    if (!log) continue;
    LogScan scan(*this, *log);
    const Log::Position position = scan.run();
    log->start(position);
    if (scan.unreadable()) log->give_up("it cannot be read");
  }
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

void Recovery::Tomb::add(uint64_t sequence, LogPlace at) {
  highest = std::max(highest, sequence);
  if (at < last_at) return;
  last = sequence;
  last_at = at;
}

void Recovery::take(Log& log, uint64_t epoch, const format::RecordHeader& h, uint64_t payload_offset,
                    base::Bytes head) {
  ++parts_.counters.recovered_records;
  sequence_max_ = std::max(sequence_max_, h.sequence);
  LogTombs& tombs = tombs_[log.config().slice.drive_index];
  Found f;
  f.header = h;
  f.place = {log.config().slice.drive_index, payload_offset / format::kPackBytes};
  f.epoch = epoch;
  if (h.kind == format::RecordKind::kTombstone)
    return tombs.by_digest[f.digest()].add(h.sequence, {epoch, payload_offset});
  if (h.kind == format::RecordKind::kFlush)
    return tombs.by_namespace[h.namespace_id].add(h.sequence, {epoch, payload_offset});
  if (h.kind == format::RecordKind::kHead) {
    const auto view = format::parse_head(head);
    f.damaged = !view.ok();
    if (view) f.block_bytes = view->head.block_bytes;
    for (uint32_t i = 0; view && i < view->head.chunk_count; ++i) f.chunks.push_back(view->sequence(i));
  }
  (h.kind == format::RecordKind::kChunk ? chunks_ : commits_).push_back(std::move(f));
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
    Tomb& tomb = tombs_[drive].by_digest[digest];
    tomb.highest = std::max(tomb.highest, e.sequence + 1);
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
  LogPlace& cut = tombs_[log.config().slice.drive_index].cut;
  cut = std::max(cut, end);
}

const Recovery::Tomb* Recovery::tomb_of_digest(const Found& f) const {
  const auto& tombs = tombs_[f.place.drive].by_digest;
  const auto it = tombs.find(f.digest());
  return it == tombs.end() ? nullptr : &it->second;
}

const Recovery::Tomb* Recovery::tomb_of_namespace(const Found& f) const {
  const auto& tombs = tombs_[f.place.drive].by_namespace;
  const auto it = tombs.find(f.header.namespace_id);
  return it == tombs.end() ? nullptr : &it->second;
}

bool Recovery::killed(const Found& f) const {
  const Tomb* by_namespace = tomb_of_namespace(f);
  const Tomb* by_digest = tomb_of_digest(f);
  return (by_namespace != nullptr && by_namespace->kills(f)) || (by_digest != nullptr && by_digest->kills(f));
}

/// A log keeps its last tombstone longest: what lies behind it needs another.
bool Recovery::outlives_its_tombs(const Found& f) const {
  const Tomb* by_namespace = tomb_of_namespace(f);
  const Tomb* by_digest = tomb_of_digest(f);
  return (by_namespace == nullptr || !by_namespace->covers(f)) && (by_digest == nullptr || !by_digest->covers(f));
}

/// A record that reclaim moved may lie behind what replaced it, though never far: where that was perhaps cut away just
/// now, nobody knows.
bool Recovery::is_suspect(const Found& f) const {
  const LogPlace cut = tombs_[f.place.drive].cut;
  if (cut.epoch == 0) return false;
  return f.at() < cut || ((f.header.flags & format::kRecordMoved) != 0 && f.epoch <= cut.epoch + 1);
}

// --- what follows from it --------------------------------------------------------------------------------------------

void Recovery::resolve() {
  const auto gone = [this](const Found& f) { return !usable(f); };
  std::erase_if(commits_, gone);
  std::erase_if(chunks_, gone);
  find_winners();
  bury_losers();
  find_chunks();
  install_winners();
}

/// The highest sequence of each digest wins, if no tombstone of its own log kills it.
void Recovery::find_winners() {
  std::erase_if(commits_, [this](const Found& f) {
    if (!is_suspect(f)) return false;
    if (!killed(f) || outlives_its_tombs(f)) missing_.push_back({f.place.drive, f.digest(), f.header.sequence + 1});
    return true;
  });
  for (size_t i = 0; i < commits_.size(); ++i) {
    const Found& f = commits_[i];
    if (killed(f)) continue;
    const auto [it, fresh] = winner_.emplace(f.digest(), i);
    if (fresh) continue;
    const Found& other = commits_[it->second];
    const bool newer = f.header.sequence > other.header.sequence ||
                       (f.header.sequence == other.header.sequence && f.epoch > other.epoch);
    if (newer) it->second = i;
  }
}

void Recovery::bury_losers() {
  for (const Found& f : commits_) {
    if (killed(f)) {
      if (outlives_its_tombs(f)) missing_.push_back({f.place.drive, f.digest(), f.header.sequence + 1});
      continue;
    }
    const Found& best = commits_[winner_.at(f.digest())];
    const bool elsewhere = best.place.drive != f.place.drive || f.at() > best.at();
    if (elsewhere && best.header.sequence > f.header.sequence)
      missing_.push_back({f.place.drive, f.digest(), best.header.sequence});
  }
}

/// Of a moved record and its original the younger place.
void Recovery::find_chunks() {
  for (size_t i = 0; i < chunks_.size(); ++i) {
    const Found& f = chunks_[i];
    const auto [it, fresh] = chunk_at_.emplace(ChunkKey{f.digest(), f.header.sequence, f.header.chunk_number}, i);
    if (!fresh && f.epoch > chunks_[it->second].epoch) it->second = i;
  }
}

/// Chunks live and die with the head that names them: an upload may begin before a flush and commit behind it. False:
/// one of them is lost.
bool Recovery::find_chunks_of(const Found& head, ChunkRefs& chunks) const {
  for (uint32_t n = 0; n < head.chunks.size(); ++n) {
    if (head.chunks[n] == 0) continue;
    const auto it = chunk_at_.find({head.digest(), head.chunks[n], n});
    if (it == chunk_at_.end()) return false;
    const Found& c = chunks_[it->second];
    chunks.emplace_back(
        n, RecordRef{c.place, c.header.sequence, c.header.checksum, c.header.payload_bytes, c.header.range_count > 0});
  }
  return !head.damaged;
}

/// The newest first: where the index is too small the oldest are dropped, for good.
void Recovery::install_winners() {
  std::vector<size_t> order;
  for (const auto& [digest, i] : winner_) order.push_back(i);
  std::sort(order.begin(), order.end(),
            [this](size_t a, size_t b) { return commits_[a].header.sequence > commits_[b].header.sequence; });
  uint64_t dropped = 0;
  for (const size_t i : order) {
    const Found& f = commits_[i];
    ChunkRefs chunks;
    const bool whole = find_chunks_of(f, chunks);
    const RecordRef ref{f.place, f.header.sequence, f.header.checksum, f.header.payload_bytes,
                        f.header.range_count > 0};
    const bool installed =
        whole && parts_.blocks.install_block(f.digest(), ref, f.header.kind == format::RecordKind::kHead,
                                             f.header.namespace_id, f.header.expiry_s, f.block_bytes, chunks);
    if (!installed && rules().dropped_for_good) missing_.push_back({f.place.drive, f.digest(), f.header.sequence + 1});
    dropped += whole && !installed ? 1 : 0;
  }
  if (dropped > 0) {
    MEMKV_LOG(kError,
              "shard {}: the index has room for {} entries: the {} oldest blocks are dropped for good; a smaller "
              "memory.index_block_size makes a larger index",
              parts_.options.shard, parts_.blocks.entries_max(), dropped);
  }
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
