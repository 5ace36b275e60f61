#include "engine/segment_walk.h"

#include <algorithm>

#include "base/bytes.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kWindowMax = base::kChunkBytes + 2 * base::kSectorBytes;  // of the buffer
constexpr uint64_t kWindow = 2 << 20;                                        // of small extents
constexpr uint64_t kSkip = 512 << 10;                                        // extents as large are mostly skipped
constexpr uint64_t kMemoryStep = 512 << 10;                                  // of memory, a turn: ops go on in between

SegmentWalk& walk_of(io::IoOp& op) { return *static_cast<SegmentWalk*>(op.context); }

}  // namespace

bool SegmentWalk::take_buffer() {
  auto memory = io::HugeMemory::make(kWindowMax, /*prefault=*/true);
  if (memory) buffer_ = std::move(*memory);
  return memory.ok();
}

void SegmentWalk::begin(Log& log) {
  MEMKV_ASSERT(!active_ && !left_ && !stuck() && has_buffer());
  active_ = true;
  log_ = &log;
  epoch_ = log.segments().oldest();
  log.evictions().begin(epoch_);
  sector_ = 1;
  blind_ = false;
  end_ = log.segments().data_end(epoch_);
  kept_payload_bytes_ = 0;
  window_bytes_ = small_window();
  moved_sectors_before_ = log.extents().moved_sectors();
  io_.context = this;
  if (parts_.options.memory_mode) return read_window();
  sector_ = 0;  // places in a footer count from the segment's start
  read_footer(base::kSectorBytes, on_footer_start);
}

void SegmentWalk::leave() {
  MEMKV_ASSERT(stuck() && log_->out());
  left_ = true;
}

/// Asked when something came back. True: the walk was left, and is nobody's concern any more.
bool SegmentWalk::ended_by_return() {
  if (!left_) return false;
  if (!stuck()) owner_.on_left_walk_returned(*this);
  return true;
}

void SegmentWalk::end() {
  MEMKV_ASSERT(active_);
  active_ = false;
  owner_.on_walk_ended(*this);
}

// --- by the footer

/// The last `bytes` of the segment.
void SegmentWalk::read_footer(uint64_t bytes, io::IoOp::Fn on_done) {
  if (parts_.tick.closing() || log_->out()) return end();
  piece_ = {buffer_.data(), bytes};
  io_.on_done = on_done;
  const uint64_t segment_end = log_->segments().place_of(epoch_) + log_->config().slice.segment_bytes;
  if (!log_->device().read(io_, segment_end - bytes, {&piece_, 1}).ok()) active_ = false;  // the tick tries again
}

/// What is wrong with a footer is left to the walk through the extents.
void SegmentWalk::on_footer_start(io::IoOp& op, int32_t result) {
  SegmentWalk& w = walk_of(op);
  if (w.ended_by_return()) return;
  const auto trailer = format::peek_footer({w.buffer_.data(), base::kSectorBytes});
  const bool good = result >= 0 && trailer && trailer->epoch == w.epoch_ && trailer->footer_bytes <= kWindowMax;
  if (!good) return w.walk_extents();
  if (trailer->footer_bytes == base::kSectorBytes) return w.use_footer();  // that was all of it
  w.read_footer(trailer->footer_bytes, on_footer);
}

void SegmentWalk::on_footer(io::IoOp& op, int32_t result) {
  SegmentWalk& w = walk_of(op);
  if (w.ended_by_return()) return;
  result < 0 ? w.walk_extents() : w.use_footer();
}

/// The whole footer is in the buffer.
void SegmentWalk::use_footer() { evict_by_footer() ? end() : walk_extents(); }

/// False: something is to be kept, or the footer is not to be relied upon; nothing was done.
bool SegmentWalk::evict_by_footer() {
  const base::Bytes bytes(buffer_.data(), piece_.iov_len);
  const auto trailer = format::open_footer(bytes, log_->extents().seed());
  if (!trailer) return false;
  format::FooterEntry entry;
  format::FooterReader look(*trailer, bytes);
  auto next = look.next(entry);
  for (; next && *next; next = look.next(entry)) {
    if (keeps_record(entry.header)) return false;
  }
  if (!next) return false;
  format::FooterReader reader(*trailer, bytes);
  for (next = reader.next(entry); next && *next; next = reader.next(entry)) {
    if (entry.header.kind < format::RecordKind::kTombstone) evict(entry.header);
  }
  return true;
}

// --- by the extents

void SegmentWalk::walk_extents() {
  sector_ = 1;
  read_window();
}

uint64_t SegmentWalk::small_window() const { return parts_.options.memory_mode ? kMemoryStep : kWindow; }

/// Reads on: a large piece where extents are small, one sector where the next extent is likely to be skipped. Memory is
/// looked at where it lies, nothing is read.
void SegmentWalk::read_window() {
  if (parts_.tick.closing() || log_->out() || sector_ >= end_) return end();
  const uint64_t left = uint64_t{end_ - sector_} * base::kSectorBytes;
  const uint64_t offset = log_->segments().place_of(epoch_) + uint64_t{sector_} * base::kSectorBytes;
  extent_kept_bytes_ = 0;
  io_.on_done = on_window;
  const uint64_t bytes = std::min<uint64_t>(window_bytes_, left);
  std::byte* view = log_->device().view(offset, bytes);
  piece_ = {view != nullptr ? view : buffer_.data(), bytes};
  const auto begun = view != nullptr ? parts_.reactor.post(io_, 0) : log_->device().read(io_, offset, {&piece_, 1});
  if (!begun.ok()) active_ = false;  // the tick tries again
}

void SegmentWalk::on_window(io::IoOp& op, int32_t result) {
  SegmentWalk& w = walk_of(op);
  if (w.ended_by_return()) return;
  MEMKV_ASSERT(w.active_);
  result < 0 ? w.go_blind() : w.look_at_extents();
  if (w.moves_in_flight_ == 0) return w.read_window();
  w.log_->pump();  // the last move goes on: until then the buffer is theirs
}

/// What cannot be walked cannot be moved.
void SegmentWalk::go_blind() {
  sector_ = end_;
  blind_ = true;
}

/// All extents in the buffer, up to one that must be read whole first.
void SegmentWalk::look_at_extents() {
  auto* const data = static_cast<std::byte*>(piece_.iov_base);
  const size_t bytes = piece_.iov_len;
  window_bytes_ = small_window();
  for (size_t at = 0; at + base::kSectorBytes <= bytes && sector_ < end_;) {
    const base::Bytes rest(data + at, bytes - at);
    const auto extent = format::peek_extent(rest);
    if (!extent || extent->epoch != epoch_ || extent->sector_in_segment != sector_ ||
        extent->extent_bytes > kWindowMax) {
      return go_blind();
    }
    const base::Bytes here = rest.first(std::min<size_t>(rest.size(), extent->extent_bytes));
    const bool whole = here.size() == extent->extent_bytes;
    if (!whole && (here.size() < extent->header_bytes || keeps_any_of(here))) {
      window_bytes_ = std::max<uint64_t>(small_window(), extent->extent_bytes);
      return;
    }
    look_at_records(here);
    sector_ += extent->extent_bytes / base::kSectorBytes;
    at += extent->extent_bytes;
    // Large ones are mostly skipped: their neighbours are looked at one sector at a time.
    const bool large = !parts_.options.memory_mode && extent->extent_bytes > kSkip;
    window_bytes_ = large ? base::kSectorBytes : small_window();
  }
}

bool SegmentWalk::keeps_any_of(base::Bytes bytes) {
  const auto extent = format::open_extent(bytes, log_->extents().seed());
  if (!extent) return false;
  format::RecordReader reader(*extent, bytes);
  format::RecordView view;
  for (auto next = reader.next(view); next && *next; next = reader.next(view)) {
    if (keeps_record(view.header)) return true;
  }
  return false;
}

/// Keeps or drops each record of the extent.
void SegmentWalk::look_at_records(base::Bytes bytes) {
  const auto extent = format::open_extent(bytes, log_->extents().seed());
  if (!extent) {
    blind_ = true;
    return;
  }
  format::RecordReader reader(*extent, bytes);
  format::RecordView view;
  auto next = reader.next(view);
  for (; next && *next; next = reader.next(view)) {
    if (view.header.kind >= format::RecordKind::kTombstone) continue;
    if (keeps_record(view.header)) {
      move(view, const_cast<std::byte*>(bytes.data()) + uint64_t{view.header.payload_place} * format::kPackBytes);
    } else {
      evict(view.header);
    }
  }
  if (!next) blind_ = true;
}

// --- records

/// Where the record lies, as its header in the present extent, or in the footer, says.
Place SegmentWalk::place_of(const format::RecordHeader& header) const {
  const uint64_t start = log_->segments().place_of(epoch_) + uint64_t{sector_} * base::kSectorBytes;
  return {log_->config().slice.drive_index, start / format::kPackBytes + header.payload_place};
}

/// Asks the eviction policy.
bool SegmentWalk::keeps_record(const format::RecordHeader& header) {
  if (header.kind >= format::RecordKind::kTombstone) return false;
  EvictionCase c;
  c.payload_bytes = header.payload_bytes;
  c.drive_bytes = base::kSectorBytes + base::align_up(header.payload_bytes, base::kSectorBytes);
  c.segment_bytes = log_->config().slice.segment_bytes;
  c.kept_payload_bytes = kept_payload_bytes_;
  c.kept_drive_bytes =
      (log_->extents().moved_sectors() - moved_sectors_before_) * base::kSectorBytes + extent_kept_bytes_;
  const Place here = place_of(header);
  const bool chunk = header.kind == format::RecordKind::kChunk;
  const Entry* e = parts_.blocks.find_record(header, here);
  c.in_index = e != nullptr;
  if (c.in_index) {
    const Entry* head = chunk ? parts_.blocks.find({header.digest[0], header.digest[1]}) : nullptr;
    c.hit = e->has(kHit) || (head != nullptr && head->has(kHit));
  } else if (chunk) {
    parts_.uploads.for_each_uncommitted_chunk(header,
                                              [&](const RecordRef& ref, bool&) { c.uncommitted |= ref.place == here; });
  }
  return keeps(decide_eviction(c));
}

void SegmentWalk::evict(const format::RecordHeader& header) {
  const Place here = place_of(header);
  if (parts_.blocks.find_record(header, here) != nullptr) {
    parts_.blocks.evict({header.digest[0], header.digest[1]}, *log_);
  } else if (header.kind == format::RecordKind::kChunk) {
    parts_.uploads.for_each_uncommitted_chunk(header,
                                              [&](const RecordRef& ref, bool& lost) { lost |= ref.place == here; });
  }
}

void SegmentWalk::move(const format::RecordView& record, std::byte* payload) {
  const uint64_t bytes = record.header.payload_bytes;
  kept_payload_bytes_ += bytes;
  extent_kept_bytes_ += base::kSectorBytes + base::align_up(bytes, base::kSectorBytes);
  ++moves_in_flight_;
  moves_.start(*log_, place_of(record.header), record, payload, Then::of<&SegmentWalk::move_returned>(*this));
}

void SegmentWalk::move_returned() {
  MEMKV_ASSERT(moves_in_flight_ > 0);
  --moves_in_flight_;
  if (!ended_by_return() && moves_in_flight_ == 0) read_window();
}

}  // namespace memkv::engine
