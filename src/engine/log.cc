/// Queues and rooms of a log, and what follows from failed writes. Segments are opened and sealed in log_segment.cc.

#include "engine/log.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"

namespace memkv::engine {
namespace {

constexpr uint32_t kErrorsMax = 3;            // device writes that fail one after another until the drive is given up
constexpr uint64_t kGatherBytes = 64 * 1024;  // of payload in small records: what is a good extent
/// What a drive that serves reads has of writes: enough to keep it busy, little to stand in front of the next read.
constexpr uint64_t kWritesBesideReads = 256 * 1024;
constexpr uint64_t kServesReadsNs = 10'000'000;  // behind each read
constexpr uint64_t kRefusesNs = 1'000'000'000;   // then a drive that takes no writes is tried again

/// Small records, while an extent of such is being written: with it back, one header serves all that came meanwhile.
bool gathers(const AppendQueue& queue, const ExtentWriter& extents) {
  return !queue.head->lone && extents.shared_in_flight() > 0 && queue.bytes < kGatherBytes;
}

}  // namespace

Log::Log(io::Reactor& reactor, const Config& config, LogOwner& owner, StoreCounters& counters)
    : reactor_(reactor),
      config_(config),
      owner_(owner),
      counters_(counters),
      finished_(reactor, *this),
      segments_(config_.slice),
      footer_(config_.slice.segment_bytes),
      extents_(reactor, config_, segments_, footer_, evictions_, finished_, owner, *this, counters),
      rooms_(config_, segments_, extents_) {
  segment_writes_.header.set_up(reactor, device(), config_.slice.dsync, on_header, this);
  segment_writes_.footer.set_up(reactor, device(), config_.slice.dsync, on_footer, this);
}

void Log::start(const Position& position) {
  MEMKV_ASSERT(phase_ == Phase::kNeedSegment && fresh_.empty() && moves_.empty());
  const uint64_t newest = position.newest_epoch;
  segments_.start(newest, position.oldest_epoch);
  evictions_.start(position.oldest_epoch);
  extents_.start(
      position.cursor_sector, position.chain, position.marked || config_.memory_mode,
      {newest, position.cursor_sector, newest, position.told_sector, position.cut_epoch, position.cut_sector});
  extents_.set_note(position.last_sector, position.last_note);
  phase_ = newest == 0 || position.sealed ? Phase::kNeedSegment : Phase::kOpen;
}

void Log::add_footer_entry(const format::RecordHeader& header, base::Bytes head_payload) {
  if (footer_.add(header, head_payload)) footer_.reserve(format::footer_entry_bytes(header));
  footer_.saw_sequence(header.sequence);
}

// --- queues

/// A record that shares an extent waits for the end of this turn of the loop: what else comes until then, such as the
/// other puts of a frame, goes along.
void Log::append(Append& a) {
  enqueue(a);
  a.lone ? pump() : finished_.pump_soon();
}

void Log::enqueue(Append& a) {
  MEMKV_ASSERT(a.on_done != nullptr);
  if (out()) return finished_.add(a, stopped_ ? Status::kCanceled : Status::kIo);
  if (trouble_.refuses(reactor_)) return finished_.add(a, trouble_.refusal);
  if (a.sums.size() > 1 || !a.ranges.empty()) a.lone = true;
  if (a.reserved_sector != 0) {  // it lies there already
    rooms_.fill(a);
    return finished_.add(a, Status::kOk);
  }
  (a.move ? moves_ : fresh_).push(a);
}

void Log::pump() {
  if (stopped_ && idle()) return owner_.on_log_at_rest();
  if (out() || trouble_.refuses(reactor_)) return;
  if (phase_ == Phase::kHeader && !segment_writes_.header.pending())
    segment_writes_.header.start_again();  // was refused a while ago
  if (phase_ == Phase::kNeedSegment && (!fresh_.empty() || !moves_.empty())) need_segment();
  while (phase_ == Phase::kOpen && !extents_.full() && !(fresh_.empty() && moves_.empty())) {
    // The last segment is for what reclaim moves, and nothing else may seal it.
    if (segments_.full() && moves_.empty()) return request_reclaim();
    const bool moves = !moves_.empty();
    AppendQueue& queue = moves ? moves_ : fresh_;
    if (gathers(queue, extents_) || yields_to_reads()) break;
    const auto submitted = extents_.submit(queue, moves);
    if (submitted == ExtentWriter::Submitted::kSegmentIsFull) seal();
    if (submitted != ExtentWriter::Submitted::kYes) break;
  }
}

/// Loads come before stores: while a drive serves reads, writes leave for it one after the other. A log always has one
/// under way, whose end calls pump().
bool Log::yields_to_reads() const {
  const io::DriveLoad* load = config_.slice.device->load();
  return load != nullptr && !extents_.idle() && load->write_bytes() >= kWritesBesideReads &&
         load->newest_read_ns() + kServesReadsNs > reactor_.now_ns();
}

void Log::tick(uint64_t now_ns) {
  // What waits does so for reclaim, not for the drive. Where something can be reclaimed, it was the time that did not
  // suffice.
  const bool waits_for_room = segments_.full() || (phase_ == Phase::kNeedSegment && segments_.free() <= 1);
  const Status why = waits_for_room && !segments_.can_free() ? Status::kNoSpace : Status::kDeadline;
  AppendQueue kept;
  while (Append* a = fresh_.pop()) {
    if (a->deadline_ns <= now_ns)
      finished_.add(*a, why);
    else
      kept.push(*a);
  }
  fresh_ = kept;
  const bool was_idle = idle_since_ns_ != 0;
  idle_since_ns_ = wants_mark() && idle() ? now_ns : 0;
  if (was_idle && idle_since_ns_ != 0) (void)write_mark();
}

bool Log::wants_mark() const {
  return !extents_.marked() && phase_ == Phase::kOpen && !out() && trouble_.refusal == Status::kOk;
}

bool Log::write_mark() {
  if (extents_.marked() || out_ || phase_ != Phase::kOpen || !extents_.idle() || trouble_.refusal != Status::kOk)
    return false;
  if (extents_.fits(1, 0)) {
    extents_.submit_mark();
    return true;
  }
  if (stopped_) return false;
  seal();  // the footer says as much
  return true;
}

bool Log::idle() const {
  return extents_.idle() && fresh_.empty() && moves_.empty() && !segment_writes_.footer.pending() &&
         !segment_writes_.header.pending();
}

void Log::stop(Status status) {
  if (stopped_) return;
  stopped_ = true;
  finished_.add_all(fresh_, status);
  finished_.add_all(moves_, status);
}

void Log::give_up(const char* why) {
  if (out_) return;
  out_ = true;
  finished_.add_all(fresh_, Status::kIo);
  finished_.add_all(moves_, Status::kIo);
  owner_.on_log_failed(config_.slice.drive_index, why);
}

// --- what comes back from the drive

void Log::on_extent_written() {
  const ExtentWriter::Completed completed = extents_.complete();
  if (completed.some) trouble_.end(config_);
  if (completed.all_are_back)
    append_failed_again();
  else if (completed.failed)
    phase_ = Phase::kDrain;  // nothing new until all of them are back
  if (phase_ == Phase::kDrain && extents_.idle()) write_footer();
  pump();
}

/// A write failed: its records, and those behind it in the chain, are appended again in the next segment.
void Log::append_failed_again() {
  AppendQueue fresh, moves;
  const int32_t result = extents_.take_failed(fresh, moves);
  fresh_.prepend(fresh);
  moves_.prepend(moves);
  if (refuses_instead(result)) {  // what is written next goes to the same place
    phase_ = Phase::kOpen;
    return;
  }
  MEMKV_LOG(kWarn, "drive {}: a write failed in segment {}; its records go to the next one", config_.slice.drive_index,
            segments_.newest());
  phase_ = Phase::kDrain;
  if (stopped_) {  // there is no next one
    finished_.add_all(fresh_, Status::kIo);
    finished_.add_all(moves_, Status::kIo);
  }
  if (trouble_.errors >= kErrorsMax) give_up("writes fail one after another");
}

void Log::on_footer(io::IoOp& op, int32_t result) {
  Log& log = *static_cast<Log*>(op.context);
  MEMKV_ASSERT(log.phase_ == Phase::kFooter);
  // Without its footer the segment is walked at recovery: slower, not lost.
  if (result < 0 && !log.refuses_instead(result) && log.trouble_.errors >= kErrorsMax)
    return log.give_up("its footers cannot be written");
  if (result >= 0) log.extents_.footer_written();
  log.phase_ = Phase::kNeedSegment;
  log.pump();
}

void Log::on_header(io::IoOp& op, int32_t result) {
  Log& log = *static_cast<Log*>(op.context);
  MEMKV_ASSERT(log.phase_ == Phase::kHeader);
  if (result < 0) {
    if (log.refuses_instead(result)) return;  // pump() comes again
    if (log.trouble_.errors >= kErrorsMax) return log.give_up("its segment headers cannot be written");
    return log.segment_writes_.header.start_again();
  }
  format::SegmentHeader written;
  std::memcpy(&written, log.header_, sizeof written);
  log.trouble_.end(log.config_);
  log.evictions_.header_says(written.oldest_epoch);
  log.extents_.segment_begun();
  log.phase_ = Phase::kOpen;
  log.pump();
}

/// Counts a failed write. True: it was one of the last drive that is left. That one is not given up: it goes on to be
/// read, refuses writes for a while, and is then tried again.
bool Log::refuses_instead(int32_t result) {
  ++trouble_.errors;
  const bool full = result == -ENOSPC || result == -EDQUOT;
  if ((!full && trouble_.errors < kErrorsMax) || !owner_.is_last_drive(config_.slice.drive_index)) return false;
  if (trouble_.refusal == Status::kOk) {
    MEMKV_LOG(kError, "shard {}: drive {} takes no writes ({}); it is the last one, so it is still read", config_.shard,
              config_.slice.drive_index, full ? "no space below it" : "they fail");
  }
  trouble_.refusal = full ? Status::kNoSpace : Status::kIo;
  trouble_.retry_at_ns = reactor_.now_ns() + kRefusesNs;
  finished_.add_all(fresh_, trouble_.refusal);
  finished_.add_all(moves_, trouble_.refusal);
  return true;
}

void Log::Trouble::end(const LogConfig& config) {
  errors = 0;
  if (refusal == Status::kOk) return;
  refusal = Status::kOk;
  MEMKV_LOG(kWarn, "shard {}: drive {} takes writes again", config.shard, config.slice.drive_index);
}

// --- anchors

LogFacts Log::facts() const {
  const LogProgress& p = extents_.progress();
  return {p.told_epoch, segments_.oldest(), p.cut_epoch, p.told_sector, p.cut_sector};
}

void Log::anchored(const LogFacts& facts) {
  anchored_ = facts;
  evictions_.anchor_says(facts.oldest_epoch);
}

bool Log::wants_anchor() const {
  const LogProgress& now = extents_.progress();
  return !config_.memory_mode && (now.told_epoch != anchored_.complete_epoch ||
                                  now.told_sector != anchored_.complete_sector || evictions_.any_may_return());
}

// --- rooms and pins

/// Takes room for a record and its header at the end of the newest segment, or of the next one.
Log::Room Log::reserve(uint32_t bytes, size_t key_bytes) {
  MEMKV_ASSERT(config_.memory_mode);
  if (out() || segments_.full() || sectors_of(bytes) + 3 > segments_.sectors()) return {};
  const auto is_full = [&] {
    return extents_.sector() + rooms_.sectors_for(bytes, key_bytes) + 1 > segments_.sectors();
  };
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (phase_ == Phase::kNeedSegment) need_segment();
    if (phase_ != Phase::kOpen) return {};
    if (!is_full()) return rooms_.open(bytes, key_bytes);
    if (!extents_.idle() || attempt == 1) return {};
    seal();
  }
  return {};
}

void Log::close_room(uint64_t epoch, uint64_t sector) {
  rooms_.close(epoch, sector);
  if (segments_.close_room(epoch)) owner_.on_oldest_unpinned(config_.slice.drive_index);
}

void Log::unpin(uint64_t epoch) {
  if (segments_.unpin(epoch)) owner_.on_oldest_unpinned(config_.slice.drive_index);
}

}  // namespace memkv::engine
