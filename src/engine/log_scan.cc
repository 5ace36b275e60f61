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

constexpr int kReadTries = 3;
/// More segments than a life can begin before an anchor tells of one: anchors are written every second.
constexpr uint64_t kEpochsUntold = uint64_t{1} << 20;

std::byte* aligned(uint64_t bytes) {
  void* memory = std::aligned_alloc(base::kSectorBytes, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<std::byte*>(memory);
}

}  // namespace

LogScan::LogScan(Recovery& recovery, Log& log)
    : recovery_(recovery),
      log_(log),
      sectors_(static_cast<uint32_t>(log.config().slice.segment_bytes / base::kSectorBytes)),
      window_(aligned(kWindowBytes)) {}

/// What cannot be read, also when it is tried again, comes as zeros: like all that is wrong it is missed by others.
void LogScan::read(uint64_t offset, std::byte* memory, uint64_t bytes) {
  const bool known = bytes == base::kSectorBytes && bad_.contains(offset);
  for (int i = 0; i < kReadTries && !known && !unreadable(); ++i) {
    if (recovery_.wait(log_, offset, memory, bytes, false) >= 0) return;
  }
  if (bytes > base::kSectorBytes) {
    for (uint64_t at = 0; at < bytes; at += base::kSectorBytes) read(offset + at, memory + at, base::kSectorBytes);
    return;
  }
  std::memset(memory, 0, bytes);
  if (unreadable() || !bad_.insert(offset).second) return;
  MEMKV_LOG(kError, "shard {}: drive {}: 4 KiB at {} cannot be read", recovery_.options().shard,
            log_.config().slice.drive_index, offset);
}

// --- anchors ---------------------------------------------------------------------------------------------------------

void LogScan::read_anchors() {
  const uint64_t seed = format::store_seed(recovery_.options().store_id);
  Sequences::AnchorWrite& last = recovery_.anchors_of(log_);
  for (uint64_t copy = 0; copy < 2; ++copy) {
    read(log_.config().slice.offset_bytes + copy * base::kSectorBytes, window_.get(), base::kSectorBytes);
    format::Anchor a;
    std::memcpy(&a, window_.get(), sizeof a);
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
  read(log_.segments().place_of(position), window_.get(), 2 * base::kSectorBytes);
  std::memcpy(&s.header, window_.get(), sizeof s.header);
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  const bool blank =
      std::all_of(window_.get(), window_.get() + 2 * base::kSectorBytes, is_zero);  // never used, most likely
  const format::SegmentHeader& h = s.header;
  const bool own = h.drive_index == log_.config().slice.drive_index && h.shard == recovery_.options().shard &&
                   h.segment_index == position && h.epoch % log_.segments().count() == position;
  s.has_header = valid(h, log_.extents().seed()) && (own || !rules().own_place);
  if (s.has_header) s.epoch = h.epoch;
  const auto is_here = [&](uint64_t epoch) { return epoch > s.epoch && epoch % log_.segments().count() == position; };
  uint64_t epoch = 0;
  if (const auto peek = format::peek_extent({window_.get() + base::kSectorBytes, base::kSectorBytes});
      peek && is_here(peek->epoch)) {
    if (read_extent(peek->epoch, 1)) epoch = peek->epoch;
  }
  format::FooterTrailer trailer;
  if (!s.has_header && !blank && footer_trailer(position, trailer) && is_here(trailer.epoch))
    epoch = std::max(epoch, trailer.epoch);
  if (epoch > s.epoch) s = {epoch, false, {}};
  return s;
}

/// The live segments, newest first: their epochs are consecutive. Where one is missing, all that is older is dropped.
std::vector<LogScan::Segment> LogScan::find_run() {
  std::vector<Segment> found;
  for (uint64_t i = 0; i < log_.segments().count(); ++i) {
    const Segment s = look_at(i);
    if (s.epoch != 0) found.push_back(s);
    if (s.has_header) oldest_ = std::max(oldest_, s.header.oldest_epoch);
  }
  std::sort(found.begin(), found.end(), [](const Segment& a, const Segment& b) { return a.epoch > b.epoch; });
  size_t n = found.empty() ? 0 : 1;
  while (n < found.size() && found[n].epoch + 1 == found[n - 1].epoch) ++n;
  found.resize(n);
  return found;
}

Log::Position LogScan::run() {
  read_anchors();
  std::vector<Segment> run = find_run();
  const uint64_t newest = run.empty() ? 0 : run.front().epoch;
  if (newest != 0 && !anchored_) {  // how far the log went nobody knows
    see_sequences(run);
    lose_all(newest + 1, 0);
  }
  if (tail_is_lost(newest)) lose_all(complete_.epoch + 1, 0);
  if (newest == 0 && reserved_ == 0) return {};  // nothing ever wrote here
  if (newest == 0 || cut_.epoch > newest) return lost_position(std::max(newest, complete_.epoch));
  Log::Position position;
  for (size_t i = 0; i < run.size() && run[i].epoch >= std::max(oldest_, cut_.epoch); ++i) {
    if (!run[i].has_header) lost_header(run[i].epoch);
    if (i == 0)
      position = read_newest(run[i]);
    else
      read_sealed(run[i], run[i - 1]);
    position.oldest_epoch = run[i].epoch;
  }
  const uint64_t oldest = std::max(oldest_, cut_.epoch);
  if (cut_.epoch > newest) return lost_position(newest);
  if (position.oldest_epoch > oldest) lose_all(position.oldest_epoch, 0);
  position.oldest_epoch = std::max(position.oldest_epoch, cut_.epoch);
  position.cut_epoch = cut_.epoch;
  position.cut_sector = cut_.sector;
  return position;
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
      format::RecordReader reader(e.header, {e.bytes.data(), e.bytes.size()});
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
  recovery_.lose_all(log_, {epoch, place_of(epoch, sector)});
}

// --- sealed segments -------------------------------------------------------------------------------------------------

bool LogScan::footer_trailer(uint64_t position, format::FooterTrailer& out) {
  const uint64_t end = log_.segments().place_of(position) + log_.config().slice.segment_bytes;
  read(end - base::kSectorBytes, window_.get(), base::kSectorBytes);
  auto trailer = format::peek_footer({window_.get(), base::kSectorBytes});
  if (!trailer || trailer->footer_bytes > kWindowBytes ||
      trailer->footer_bytes >= end - log_.segments().place_of(position))
    return false;
  read(end - trailer->footer_bytes, window_.get(), trailer->footer_bytes);
  trailer = format::open_footer({window_.get(), trailer->footer_bytes}, log_.extents().seed());
  if (trailer) out = *trailer;
  return trailer.ok();
}

/// False: there is none, or it is damaged.
bool LogScan::read_footer(uint64_t epoch, Log::Position& end) {
  format::FooterTrailer trailer;
  if (!footer_trailer(epoch, trailer) || trailer.epoch != epoch) return false;
  const base::Bytes bytes(window_.get(), trailer.footer_bytes);
  format::FooterReader check(trailer, bytes);
  format::FooterEntry entry;
  auto next = check.next(entry);
  for (; next && *next; next = check.next(entry)) {
  }
  if (!next) return false;
  format::FooterReader reader(trailer, bytes);
  const uint64_t start = log_.segments().place_of(epoch);
  for (next = reader.next(entry); next && *next; next = reader.next(entry)) {
    std::vector<std::byte> head;
    if (entry.header.kind == format::RecordKind::kHead) {
      head.resize(sizeof(format::HeadPayload) + entry.head.sequences.size());
      std::memcpy(head.data(), &entry.head.head, sizeof(format::HeadPayload));
      std::memcpy(head.data() + sizeof(format::HeadPayload), entry.head.sequences.data(), entry.head.sequences.size());
    }
    const uint64_t offset = start + uint64_t{entry.header.payload_place} * format::kPackBytes;
    if (offset >= place_of(epoch, first_sector(epoch))) recovery_.take(log_, epoch, entry.header, offset, head);
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
  if (read_footer(segment.epoch, end)) return;
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

/// Reads the newest segment, which nothing but its extents tells of, and says where the log goes on in it.
Log::Position LogScan::read_newest(const Segment& segment) {
  Log::Position end;
  const uint64_t epoch = segment.epoch;
  if (read_footer(epoch, end)) return end;
  const Walk w = walk(segment, nullptr);
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
    const bool lost = bad && cannot_be_read(epoch, e.sector, e.end());
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
  format::RecordReader reader(extent.header, {extent.bytes.data(), extent.bytes.size()});
  format::RecordView v;
  for (auto next = reader.next(v); next && *next; next = reader.next(v)) {
    const format::RecordHeader& h = v.header;
    if (h.kind == format::RecordKind::kFlush) sector = 0;
    if (h.kind != format::RecordKind::kChunk) entries.push_back({{h.digest[0], h.digest[1]}, h.sequence});
  }
  return entries;
}

bool LogScan::cannot_be_read(uint64_t epoch, uint32_t begin, uint32_t end) const {
  const auto first = bad_.lower_bound(place_of(epoch, begin));
  return first != bad_.end() && *first < place_of(epoch, end);
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
    const auto note = format::read_note(next.header, {next.bytes.data(), next.bytes.size()});
    if (note && note->sector == hole.begin)
      recovery_.lose_records(log_, *note);
    else
      lose_all(epoch, next.sector);
  }
}

// --- extents ---------------------------------------------------------------------------------------------------------

std::optional<LogScan::Extent> LogScan::read_extent(uint64_t epoch, uint32_t sector) {
  read(place_of(epoch, sector), window_.get(), base::kSectorBytes);
  auto header = format::peek_extent({window_.get(), base::kSectorBytes});
  if (!header || header->header_bytes > kWindowBytes || header->header_bytes / base::kSectorBytes > sectors_ - sector)
    return {};
  if (header->header_bytes > base::kSectorBytes) read(place_of(epoch, sector), window_.get(), header->header_bytes);
  header = format::open_extent({window_.get(), header->header_bytes}, log_.extents().seed());
  if (!header) return {};
  const bool in_place = header->epoch == epoch && header->sector_in_segment == sector &&
                        header->extent_bytes / base::kSectorBytes <= sectors_ - sector;
  if (!in_place && rules().own_place) return {};
  return Extent{sector, *header, {window_.get(), window_.get() + header->header_bytes}};
}

/// Of an extent that may lie there: 1 where its first block does not say.
uint32_t LogScan::header_sectors_at(uint64_t epoch, uint32_t sector) {
  read(place_of(epoch, sector), window_.get(), base::kSectorBytes);
  const auto header = format::peek_extent({window_.get(), base::kSectorBytes});
  return header ? std::clamp<uint32_t>(header->header_bytes / base::kSectorBytes, 1, sectors_ - sector) : 1;
}

/// `chain_end`: the last header's checksum, where one knows it.
LogScan::Walk LogScan::walk(const Segment& segment, const uint64_t* chain_end) {
  const uint64_t epoch = segment.epoch;
  Walk w;
  w.mark = complete_;
  w.chain = segment.header.checksum;
  w.end = first_sector(epoch);
  w.chained = segment.has_header && w.end == 1;
  while (w.end < sectors_) {
    if (chain_end != nullptr && w.chained && w.chain == *chain_end && rules().own_place) break;
    auto extent = read_extent(epoch, w.end);
    for (int i = 1; i < kReadTries && !extent; ++i) extent = read_extent(epoch, w.end);  // a read can come wrong once
    const bool follows = extent && (!w.chained || extent->header.previous_checksum == w.chain);
    if (!extent || (!follows && rules().own_place)) {
      const auto next = find_next(epoch, w.end);
      w.unreadable = !next && cannot_be_read(epoch, w.end, w.end + header_sectors_at(epoch, w.end));
      if (!next) break;
      w.holes.push_back({w.end, w.extents.size()});
      w.end = *next;
      w.chained = false;
      continue;
    }
    w.mark.raise(extent->header.complete_epoch, extent->header.complete_sector);
    w.chain = extent->header.checksum;
    w.chained = true;
    w.end = extent->end();
    w.extents.push_back(std::move(*extent));
  }
  return w;
}

/// Behind a broken place: does a later extent say that everything up to here had completed? Then it is rot, not the
/// end, and the log goes on with the first extent from which an unbroken chain leads to that one.
std::optional<uint32_t> LogScan::find_next(uint64_t epoch, uint32_t sector) {
  std::vector<Extent> later;
  for (uint32_t at = sector + 1; at < sectors_;) {
    const uint32_t n = std::min<uint32_t>(sectors_ - at, static_cast<uint32_t>(kWindowBytes / base::kSectorBytes));
    const Memory stretch(aligned(uint64_t{n} * base::kSectorBytes));
    read(place_of(epoch, at), stretch.get(), uint64_t{n} * base::kSectorBytes);
    for (uint32_t i = 0; i < n; ++i) {
      const auto peek = format::peek_extent({stretch.get() + uint64_t{i} * base::kSectorBytes, base::kSectorBytes});
      if (!peek || peek->epoch != epoch || peek->sector_in_segment != at + i) continue;
      auto extent = read_extent(epoch, at + i);
      if (!extent) continue;
      later.push_back(std::move(*extent));
      const format::ExtentHeader& h = later.back().header;
      if (!Mark{h.complete_epoch, h.complete_sector}.covers(epoch, sector)) continue;
      size_t first = later.size() - 1;
      while (first > 0 && later[first - 1].end() == later[first].sector &&
             later[first - 1].header.checksum == later[first].header.previous_checksum) {
        --first;
      }
      return later[first].sector;
    }
    at += n;
  }
  return {};
}

/// Payloads of an extent against its grain sums.
bool LogScan::verify(uint64_t epoch, const Extent& extent) {
  const Memory memory(aligned(extent.header.extent_bytes));
  read(place_of(epoch, extent.sector), memory.get(), extent.header.extent_bytes);
  format::RecordReader reader(extent.header, {extent.bytes.data(), extent.bytes.size()});
  format::RecordView v;
  bool ok = true;
  auto next = reader.next(v);
  for (; ok && next && *next; next = reader.next(v)) {
    const std::byte* payload = memory.get() + uint64_t{v.header.payload_place} * format::kPackBytes;
    const uint64_t seed = checksum_seed(v.header.namespace_id, v.key, v.header.chunk_number);
    std::vector<uint64_t> sums(v.header.grain_count);
    if (v.header.grain_count != 0) base::grain_sums({payload, v.header.payload_bytes}, seed, sums.data());
    for (size_t i = 0; i < sums.size(); ++i) ok = ok && sums[i] == v.grain_sum(i);
  }
  return ok && next.ok();
}

void LogScan::take(uint64_t epoch, const Extent& extent, bool open_segment) {
  format::RecordReader reader(extent.header, {extent.bytes.data(), extent.bytes.size()});
  format::RecordView v;
  const uint64_t start = log_.segments().place_of(epoch);
  for (auto next = reader.next(v); next && *next; next = reader.next(v)) {
    const uint64_t in_segment =
        uint64_t{extent.sector} * base::kSectorBytes + uint64_t{v.header.payload_place} * format::kPackBytes;
    std::vector<std::byte> head;
    if (v.header.kind == format::RecordKind::kHead) head = head_payload(start + in_segment, v);
    recovery_.take(log_, epoch, v.header, start + in_segment, head);
    if (!open_segment) continue;
    format::RecordHeader entry = v.header;
    if (entry.kind == format::RecordKind::kHead && head.empty()) {  // the footer has no place for half a head
      entry.kind = format::RecordKind::kTombstone;
      ++entry.sequence;
      entry.payload_bytes = entry.grain_count = 0;
      entry.range_count = 0;
    }
    entry.payload_place = static_cast<uint32_t>(in_segment / format::kPackBytes);
    log_.add_footer_entry(entry, head);
  }
}

/// Empty: it is damaged.
std::vector<std::byte> LogScan::head_payload(uint64_t offset, const format::RecordView& record) {
  const uint64_t start = base::align_down(offset, base::kSectorBytes);
  const uint64_t bytes = base::align_up(offset + record.header.payload_bytes, base::kSectorBytes) - start;
  const Memory memory(aligned(bytes));
  read(start, memory.get(), bytes);
  const std::byte* from = memory.get() + (offset - start);
  const uint64_t seed = checksum_seed(record.header.namespace_id, record.key, record.header.chunk_number);
  std::vector<uint64_t> sums(record.header.grain_count);
  base::grain_sums({from, record.header.payload_bytes}, seed, sums.data());
  bool good = true;
  for (size_t i = 0; i < sums.size(); ++i) good = good && sums[i] == record.grain_sum(i);
  if (good) return {from, from + record.header.payload_bytes};
  ++recovery_.counters().recovered_rot;
  return {};
}

}  // namespace memkv::engine
