#include "engine/log_scan.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/chunk_seed.h"
#include "base/log.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr int kReadTries = 3;  // of the last extent
/// More segments than a life can begin before an anchor tells of one: anchors are written every second.
constexpr uint64_t kEpochsUntold = uint64_t{1} << 20;
constexpr uint64_t kStretchBytes = 1 << 20;      // of the newest segment, read at once
constexpr size_t kStretchesAhead = 2;            // one is looked at, one is read
constexpr uint32_t kSmallExtentBytes = 1 << 17;  // of larger ones the headers alone are read

}  // namespace

LogScan::LogScan(Recovery& recovery, Log& log, std::byte* window)
    : recovery_(recovery),
      log_(log),
      sectors_(static_cast<uint32_t>(log.config().slice.segment_bytes / base::kSectorBytes)),
      window_(window),
      reads_(recovery, log) {}

// --- anchors ---------------------------------------------------------------------------------------------------------

void LogScan::read_anchors() {
  const uint64_t seed = format::store_seed(recovery_.options().store_id);
  Sequences::AnchorWrite& last = recovery_.anchors_of(log_);
  for (uint64_t copy = 0; copy < 2; ++copy) {
    reads_.look(log_.config().slice.offset_bytes + copy * base::kSectorBytes, window_, base::kSectorBytes);
    format::Anchor a;
    std::memcpy(&a, window_, sizeof a);
    if (!valid(a, seed) || a.shard != recovery_.options().shard || a.drive_index != log_.config().slice.drive_index)
      continue;
    anchored_ = true;
    last.counter = std::max(last.counter, a.write_counter);
    recovery_.saw_sequence_end(a.sequence_end);
    reserved_ = std::max(reserved_, a.sequence_end);
    if (a.life != log_.config().slice.life) continue;
    complete_.raise(a.complete_epoch, a.complete_sector);
    cut_.raise(a.cut_epoch, a.cut_sector);
    oldest_ = std::max(oldest_, a.oldest_epoch);
  }
}

// --- segments --------------------------------------------------------------------------------------------------------

/// Which epoch lies at a ring position; 0: none that can be made out. A header that is lost, or was never replaced by
/// the newer one, does not hide what lies behind it.
LogScan::Segment LogScan::look_at(uint64_t position) {
  Segment s;
  reads_.look(log_.segments().place_of(position), window_, 2 * base::kSectorBytes);
  std::memcpy(&s.header, window_, sizeof s.header);
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  const bool blank = std::all_of(window_, window_ + 2 * base::kSectorBytes, is_zero);  // never used, most likely
  const format::SegmentHeader& h = s.header;
  const bool own = h.drive_index == log_.config().slice.drive_index && h.shard == recovery_.options().shard &&
                   h.segment_index == position && h.epoch % log_.segments().count() == position;
  s.has_header = valid(h, log_.extents().seed()) && (own || !rules().own_place);
  if (s.has_header) s.epoch = h.epoch;
  const auto is_here = [&](uint64_t epoch) { return epoch > s.epoch && epoch % log_.segments().count() == position; };
  uint64_t epoch = 0;
  if (const auto peek = format::peek_extent({window_ + base::kSectorBytes, base::kSectorBytes});
      peek && is_here(peek->epoch)) {
    if (read_extent(peek->epoch, 1)) epoch = peek->epoch;
  }
  format::FooterTrailer trailer;
  if (!s.has_header && !blank && footer_trailer(position, trailer) && is_here(trailer.epoch))
    epoch = std::max(epoch, trailer.epoch);
  if (epoch > s.epoch) {
    s = {};
    s.epoch = epoch;
  }
  look_at_footer(position, s);
  return s;
}

/// How large it is, where that was read ahead.
void LogScan::look_at_footer(uint64_t position, Segment& segment) {
  const std::byte* last =
      reads_.ahead().find(log_.segments().end_of(position) - base::kSectorBytes, base::kSectorBytes);
  if (last == nullptr || segment.epoch == 0) return;
  const auto trailer = format::peek_footer({last, base::kSectorBytes});
  if (!trailer || trailer->epoch != segment.epoch || trailer->footer_bytes > kWindowBytes ||
      trailer->footer_bytes >= log_.config().slice.segment_bytes)
    return;
  segment.footer_bytes = trailer->footer_bytes;
  const uint64_t room = trailer->footer_bytes / sizeof(format::RecordHeader);  // what it says is not checked yet
  segment.record_count = static_cast<uint32_t>(std::min<uint64_t>(trailer->record_count, room));
}

/// The live segments, newest first: their epochs are consecutive. Where one is missing, all that is older is dropped.
std::vector<LogScan::Segment> LogScan::find_run() {
  std::vector<Segment> found;
  for (uint64_t i = 0; i < log_.segments().count(); ++i) {
    const Segment s = look_at(i);
    if (!reads_.ahead().empty()) reads_.ahead().drop();
    reads_.ahead().start(ahead_bytes_max_);
    if (s.epoch != 0) found.push_back(s);
    if (s.has_header) oldest_ = std::max(oldest_, s.header.oldest_epoch);
  }
  std::sort(found.begin(), found.end(), [](const Segment& a, const Segment& b) { return a.epoch > b.epoch; });
  size_t n = found.empty() ? 0 : 1;
  while (n < found.size() && found[n].epoch + 1 == found[n - 1].epoch) ++n;
  found.resize(n);
  return found;
}

/// The end of each segment, and the beginning of the next one, which lies behind it: footers' last sectors, headers
/// and first extents. In front of the first segment stand the anchors.
void LogScan::look_ahead(uint64_t bytes_max) {
  ahead_bytes_max_ = bytes_max;
  const uint64_t count = log_.segments().count();
  const uint64_t slice = log_.config().slice.offset_bytes;
  reads_.ahead().add(slice, log_.segments().place_of(0) - slice + 2 * base::kSectorBytes);
  for (uint64_t i = 0; i < count; ++i)
    reads_.ahead().add(log_.segments().end_of(i) - base::kSectorBytes, (i + 1 < count ? 3 : 1) * base::kSectorBytes);
  reads_.ahead().start(bytes_max);
}

void LogScan::begin() {
  read_anchors();
  run_ = find_run();
  reads_.ahead().drop_all();
  const uint64_t newest = run_.empty() ? 0 : run_.front().epoch;
  if (newest != 0 && !anchored_) {  // how far the log went nobody knows
    see_sequences(run_);
    lose_all(newest + 1, 0);
  }
  if (tail_is_lost(newest)) lose_all(complete_.epoch + 1, 0);
  if (newest == 0 && reserved_ == 0) {  // nothing ever wrote here
    nothing_ = true;
  } else if (newest == 0 || cut_.epoch > newest) {
    nothing_ = true;
    position_ = lost_position(std::max(newest, complete_.epoch));
  }
}

void LogScan::look_ahead_at_records(uint64_t bytes_max) {
  if (nothing_) return;
  MEMKV_ASSERT(!run_.empty() && next_ == 0, "begin() is over, and step() was not called yet");
  ahead_bytes_max_ = bytes_max;
  by_stretches_ = run_.front().footer_bytes == 0;
  if (!by_stretches_) plan_footers(0);
}

uint64_t LogScan::records_told() const {
  uint64_t records = 0;
  for (const Segment& s : run_) records += nothing_ ? 0 : s.record_count;
  return records;
}

/// Footers are read ahead from here on.
void LogScan::plan_footers(size_t first) {
  reads_.ahead().drop_all();
  by_stretches_ = false;
  for (size_t i = first; i < run_.size() && run_[i].epoch >= std::max(oldest_, cut_.epoch); ++i) {
    run_[i].footer_ahead = run_[i].footer_bytes != 0;
    if (run_[i].footer_ahead)
      reads_.ahead().add(log_.segments().end_of(run_[i].epoch) - run_[i].footer_bytes, run_[i].footer_bytes);
  }
  reads_.ahead().start(ahead_bytes_max_);
}

bool LogScan::step() {
  if (nothing_ || next_ == run_.size() || run_[next_].epoch < std::max(oldest_, cut_.epoch)) return false;
  const Segment& segment = run_[next_];
  if (!segment.has_header && !tail_) lost_header(segment.epoch);
  recovery_.begin_segment(log_, segment.epoch);
  if (next_ > 0)
    read_sealed(segment, run_[next_ - 1]);
  else if (!step_newest(segment))
    return true;
  position_.oldest_epoch = segment.epoch;
  ++next_;
  if (segment.footer_ahead) reads_.ahead().drop();
  if (by_stretches_) plan_footers(next_);
  reads_.ahead().start(ahead_bytes_max_);
  return true;
}

Log::Position LogScan::end() {
  reads_.ahead().drop_all();
  if (nothing_) return position_;
  const uint64_t newest = run_.front().epoch;
  const uint64_t oldest = std::max(oldest_, cut_.epoch);
  if (cut_.epoch > newest) return lost_position(newest);
  if (position_.oldest_epoch > oldest) lose_all(position_.oldest_epoch, 0);
  position_.oldest_epoch = std::max(position_.oldest_epoch, cut_.epoch);
  position_.cut_epoch = cut_.epoch;
  position_.cut_sector = cut_.sector;
  return position_;
}

/// No anchor tells which sequences were reserved: those of the log's records do, for they are of the reservation that
/// was last, or of the one before. What is lost keeps its sequences.
void LogScan::see_sequences(const std::vector<Segment>& run) {
  uint64_t highest = 0;
  for (const Segment& segment : run) {
    format::FooterTrailer trailer;
    if (footer_trailer(segment.epoch, trailer) && trailer.epoch == segment.epoch) {
      highest = std::max(highest, trailer.sequence_max);
      continue;
    }
    for (const Extent& e : walk(segment, nullptr).extents) {
      const std::vector<std::byte> header = e.whole_header();
      format::RecordReader reader(e.header, header);
      format::RecordView v;
      for (auto next = reader.next(v); next && *next; next = reader.next(v))
        highest = std::max(highest, v.header.sequence);
    }
  }
  recovery_.saw_sequence_end(highest + 2 * format::kSequenceReservation);
}

/// Anchors say that the log went on, beyond the newest segment that is there. One that was just begun held nothing yet.
bool LogScan::tail_is_lost(uint64_t newest) const {
  const uint64_t reached = complete_.sector > 1 || complete_.epoch == 0 ? complete_.epoch : complete_.epoch - 1;
  return reached > newest && cut_.epoch <= complete_.epoch;
}

/// Nothing of the log is live: it goes on behind all that was ever begun. Of a life whose first writes were lost no
/// anchor tells, and what is left of it lies on the drive: no later start may take that for this log's. Each life
/// reserves sequences, so their number bounds the lives there were.
Log::Position LogScan::lost_position(uint64_t newest) {
  const uint64_t untold = reserved_ / format::kSequenceReservation * kEpochsUntold;
  cut_.raise(std::max(newest, untold) + 1, 0);
  Log::Position p;
  p.newest_epoch = p.oldest_epoch = cut_.epoch - 1;
  p.cursor_sector = 1;
  p.sealed = true;
  p.cut_epoch = cut_.epoch;
  p.cut_sector = cut_.sector;
  return p;
}

void LogScan::lost_header(uint64_t epoch) {
  ++recovery_.counters().recovered_rot;
  MEMKV_LOG(kWarn, "shard {}: drive {}: the header of segment {} is lost; its records are there",
            recovery_.options().shard, log_.config().slice.drive_index, epoch);
}

void LogScan::lose_all(uint64_t epoch, uint32_t sector) {
  if (!rules().losses_noticed) return;
  cut_.raise(epoch, sector);
  recovery_.lose_all(log_, {epoch, log_.segments().place_of_sector(epoch, sector)});
}

// --- sealed segments -------------------------------------------------------------------------------------------------

bool LogScan::footer_trailer(uint64_t position, format::FooterTrailer& out) {
  const uint64_t end = log_.segments().end_of(position);
  reads_.read(end - base::kSectorBytes, window_, base::kSectorBytes);
  auto trailer = format::peek_footer({window_, base::kSectorBytes});
  if (!trailer || trailer->footer_bytes > kWindowBytes ||
      trailer->footer_bytes >= end - log_.segments().place_of(position))
    return false;
  reads_.read(end - trailer->footer_bytes, window_, trailer->footer_bytes);
  trailer = format::open_footer({window_, trailer->footer_bytes}, log_.extents().seed());
  if (trailer) out = *trailer;
  return trailer.ok();
}

/// False: there is none, or it is damaged.
bool LogScan::read_footer(const Segment& segment, Log::Position& end) {
  const uint32_t told = segment.footer_ahead ? segment.footer_bytes : 0;
  const std::byte* early =
      told == 0 ? nullptr : reads_.ahead().find(log_.segments().end_of(segment.epoch) - told, told);
  if (early != nullptr) {
    const base::Bytes bytes(early, told);
    const auto trailer = format::open_footer(bytes, log_.extents().seed());
    if (trailer && use_footer(segment.epoch, *trailer, bytes, end)) return true;
  }
  format::FooterTrailer trailer;
  if (!footer_trailer(segment.epoch, trailer)) return false;
  return use_footer(segment.epoch, trailer, {window_, trailer.footer_bytes}, end);
}

/// Hands its records on, if it is sound as a whole.
bool LogScan::use_footer(uint64_t epoch, const format::FooterTrailer& trailer, base::Bytes bytes, Log::Position& end) {
  if (trailer.epoch != epoch) return false;
  format::FooterReader check(trailer, bytes);
  format::FooterEntry entry;
  auto next = check.next(entry);
  for (; next && *next; next = check.next(entry)) {
  }
  if (!next) return false;
  format::FooterReader reader(trailer, bytes);
  const uint64_t start = log_.segments().place_of(epoch);
  const uint64_t first = log_.segments().place_of_sector(epoch, first_sector(epoch));
  while (reader.next_checked(entry)) {
    std::vector<std::byte> head;
    if (entry.header.kind == format::RecordKind::kHead) {
      head.resize(sizeof(format::HeadPayload) + entry.head.sequences.size());
      std::memcpy(head.data(), &entry.head.head, sizeof(format::HeadPayload));
      std::memcpy(head.data() + sizeof(format::HeadPayload), entry.head.sequences.data(), entry.head.sequences.size());
    }
    const uint64_t offset = start + uint64_t{entry.header.payload_place} * format::kPackBytes;
    if (offset >= first) recovery_.take(log_, epoch, entry.header, offset, head);
  }
  log_.segments().set_data_end(epoch, trailer.data_end_sector);
  end.newest_epoch = epoch;
  end.cursor_sector = trailer.data_end_sector;
  end.chain = trailer.last_checksum;
  end.told_sector = trailer.data_end_sector;
  end.sealed = true;
  return true;
}

/// A segment that others follow: by its footer, or else extent by extent up to where the next segment's header says
/// that it ended.
void LogScan::read_sealed(const Segment& segment, const Segment& next) {
  Log::Position end;
  if (read_footer(segment, end)) return;
  const uint64_t* chain_end = next.has_header ? &next.header.previous_checksum : nullptr;
  const Walk w = walk(segment, chain_end);
  settle_holes(segment.epoch, w);
  const bool ended = chain_end != nullptr && w.chained && w.chain == *chain_end;
  if (!ended && rules().own_place) lose_all(segment.epoch + 1, 0);
  for (const Extent& e : w.extents) {
    if (cut_.epoch <= segment.epoch && e.sector >= first_sector(segment.epoch)) take(segment.epoch, e, false);
  }
  log_.segments().set_data_end(segment.epoch, w.end);
}

// --- the newest segment ----------------------------------------------------------------------------------------------

/// Reads the newest segment, which nothing but its extents tells of, as far as that needs no waiting. False: there is
/// more of it.
bool LogScan::step_newest(const Segment& segment) {
  if (!tail_) {
    if (read_footer(segment, position_)) return true;
    tail_.emplace(begin_walk(segment));
  }
  while (has_stretch(segment.epoch, *tail_)) {
    if (walk_on(segment.epoch, nullptr, *tail_)) continue;
    position_ = take_newest(segment, *tail_);
    tail_->extents.clear();
    return true;
  }
  return false;
}

/// The walk can go on without waiting. Where extents are small, what lies before it is read in large pieces.
bool LogScan::has_stretch(uint64_t epoch, const Walk& walk) {
  if (!by_stretches_ || walk.end >= sectors_) return true;
  const uint64_t start = log_.segments().place_of(epoch);
  const uint64_t at = log_.segments().place_of_sector(epoch, walk.end);
  while (!reads_.ahead().empty() && !reads_.ahead().covers(at)) reads_.ahead().drop();
  if (reads_.ahead().empty()) {
    stretch_end_ = at - start;
    if (!walk.extents.empty() && walk.extents.back().header.extent_bytes > kSmallExtentBytes) return true;
  }
  const uint64_t segment_bytes = log_.config().slice.segment_bytes;
  while (reads_.ahead().size() < kStretchesAhead && stretch_end_ < segment_bytes) {
    const uint64_t bytes = std::min(kStretchBytes, segment_bytes - stretch_end_);
    reads_.ahead().add(start + stretch_end_, bytes);
    stretch_end_ += bytes;
  }
  reads_.ahead().start(ahead_bytes_max_);
  return reads_.ahead().ready();
}

/// Hands on what was acknowledged of the newest segment, and says where the log goes on in it.
Log::Position LogScan::take_newest(const Segment& segment, const Walk& w) {
  Log::Position end;
  const uint64_t epoch = segment.epoch;
  settle_holes(epoch, w);
  if ((w.unreadable || complete_.covers(epoch, w.end)) && rules().losses_noticed) {  // its tail is lost
    lose_all(epoch + 1, 0);
    return end;
  }
  end.newest_epoch = epoch;
  end.cursor_sector = first_sector(epoch);
  end.chain = segment.header.checksum;
  for (const Extent& e : w.extents) {
    const bool completed = w.mark.covers(epoch, e.sector) && rules().complete_up_to;
    bool bad = !completed;
    for (int i = 0; i < kReadTries && bad; ++i) bad = !verify(epoch, e);
    const bool lost = bad && reads_.cannot_read(log_.segments().place_of_sector(epoch, e.sector),
                                                log_.segments().place_of_sector(epoch, e.end()));
    if (bad && !lost) {
      ++recovery_.counters().recovered_torn;
      if (rules().complete_up_to) break;  // nothing behind it was acknowledged
      continue;
    }
    if (lost) lose_extent(epoch, e);
    if (!lost && e.sector >= first_sector(epoch)) take(epoch, e, true);
    if (e.header.live_epochs != 0)
      oldest_ = std::max(oldest_, epoch + 1 - std::min<uint64_t>(e.header.live_epochs, epoch));
    end.cursor_sector = e.end();
    end.chain = e.header.checksum;
    end.marked = e.header.record_count == 0;
    end.last_sector = e.sector;
    end.last_note = note_of(e, end.last_sector);
    if (!end.marked) end.told_sector = end.cursor_sector;
  }
  log_.segments().set_data_end(epoch, end.cursor_sector);
  return end;
}

/// What the next extent's note says of this one; none can be made of a flush.
std::vector<format::NoteEntry> LogScan::note_of(const Extent& extent, uint32_t& sector) {
  std::vector<format::NoteEntry> entries;
  const std::vector<std::byte> header = extent.whole_header();
  format::RecordReader reader(extent.header, header);
  format::RecordView v;
  for (auto next = reader.next(v); next && *next; next = reader.next(v)) {
    const format::RecordHeader& h = v.header;
    if (h.kind == format::RecordKind::kFlush) sector = 0;
    if (h.kind != format::RecordKind::kChunk) entries.push_back({{h.digest[0], h.digest[1]}, h.sequence});
  }
  return entries;
}

/// Its header says what it held, and its payload cannot be read: whether it was complete nobody knows.
void LogScan::lose_extent(uint64_t epoch, const Extent& extent) {
  uint32_t sector = extent.sector;
  const std::vector<format::NoteEntry> entries = note_of(extent, sector);
  if (sector != 0)
    recovery_.lose_records(log_, {sector, std::as_bytes(std::span(entries))});
  else
    lose_all(epoch, extent.end());
}

/// What was lost, and what follows: the blocks that the next extent's note names are misses, or else the log is cut.
void LogScan::settle_holes(uint64_t epoch, const Walk& walk) {
  for (const Hole& hole : walk.holes) {
    if (hole.next >= walk.extents.size()) {  // what was found behind it a moment ago could not be read again
      lose_all(epoch + 1, 0);
      continue;
    }
    const Extent& next = walk.extents[hole.next];
    const std::vector<std::byte> header = next.whole_header();
    const auto note = format::read_note(next.header, header);
    if (note && note->sector == hole.begin)
      recovery_.lose_records(log_, *note);
    else
      lose_all(epoch, next.sector);
  }
}

}  // namespace memkv::engine
