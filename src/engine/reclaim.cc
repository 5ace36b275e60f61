/// Reclaim = eviction: the oldest segment of a log goes; what was hit since it was written is appended again, the rest
/// is dropped.

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/log.h"
#include "engine/store_impl.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kReclaimWindowMax = base::kChunkBytes + 2 * base::kSectorBytes;  // of the move buffer
constexpr uint64_t kReclaimWindow = 2 << 20;                                        // of small extents
constexpr uint64_t kReclaimSkip = 512 << 10;
constexpr uint64_t kReclaimStep = 512 << 10;  // of memory, a turn: ops go on in between

bool lies_in(Place place, const Log& log, uint64_t epoch) {
  return place.drive == log.config().slice.drive_index && log.epoch_at(place.pack * format::kPackBytes) == epoch;
}

uint64_t move_cost(const format::RecordHeader& h) {
  return base::kSectorBytes + base::align_up(h.payload_bytes, base::kSectorBytes);
}

}  // namespace

std::byte* StoreImpl::take_extent_buffer() {
  if (extent_buffers_.empty()) return nullptr;
  std::byte* b = extent_buffers_.back();
  extent_buffers_.pop_back();
  return b;
}

void StoreImpl::give_extent_buffer(std::byte* b) { extent_buffers_.push_back(b); }

void StoreImpl::on_segment_needed(uint8_t drive) {
  reclaim_wanted_[drive] = 1;
  if (!reclaim_->active && !closing_) reclaim_start();
}

void StoreImpl::on_oldest_unpinned(uint8_t drive) {
  if (reclaim_wanted_[drive] != 0) reclaim_start();
}

/// False: there is no memory for its buffer now. Then reclaim rests, and asks again when it is to begin.
bool StoreImpl::renew_reclaim() {
  if (!reclaim_) reclaim_ = std::make_unique<Reclaim>(*this);
  auto memory = io::HugeMemory::make(kReclaimWindowMax, /*prefault=*/true);
  if (memory) reclaim_->buffer = std::move(*memory);
  return memory.ok();
}

/// The drive that reclaim was at is out. What that drive has in flight keeps its buffer; the other drives' turn goes on
/// in another one.
void StoreImpl::leave_reclaim() {
  if (!reclaim_->active || !reclaim_->log->out() || !reclaim_->stuck()) return;
  left_reclaims_.push_back(std::move(reclaim_));
  if (!renew_reclaim())
    MEMKV_LOG_EVERY(10, kError, "shard {}: no memory for reclaim; it is tried again", options_.shard);
}

/// A completion came for a reclaim that was left; the last one ends it.
bool StoreImpl::is_left(const Reclaim& r) {
  if (&r == reclaim_.get()) return false;
  if (!r.stuck()) std::erase_if(left_reclaims_, [&r](const auto& left) { return left.get() == &r; });
  return true;
}

/// One segment at a time, the logs that asked in turn.
void StoreImpl::reclaim_start() {
  if (reclaim_->active || closing_ || (reclaim_->buffer.size() == 0 && !renew_reclaim())) return;
  for (size_t i = 0; i < logs_.size(); ++i) {
    const size_t d = (reclaim_next_ + i) % logs_.size();
    if (!reclaim_takes(static_cast<uint8_t>(d))) continue;
    reclaim_next_ = d + 1;
    return reclaim_begin(*logs_[d]);
  }
}

bool StoreImpl::reclaim_takes(uint8_t drive) {
  const Log* log = usable_log(drive);
  if (!reclaim_wanted_[drive] || log == nullptr || lags(*log) || log->refusal() != Status::kOk) return false;
  if (!log->can_reclaim()) reclaim_wanted_[drive] = 0;
  return log->can_reclaim() && !log->oldest_waits();
}

void StoreImpl::reclaim_begin(Log& log) {
  reclaim_->active = true;
  reclaim_->log = &log;
  reclaim_->epoch = log.oldest_epoch();
  log.evicting(reclaim_->epoch);
  reclaim_->sector = 1;
  reclaim_->blind = false;
  reclaim_->end = log.data_end(reclaim_->epoch);
  reclaim_->moved_bytes = 0;
  reclaim_->window_bytes = small_window();
  reclaim_->moved_sectors_before = log.moved_sectors();
  start_tick();
  options_.memory_mode ? reclaim_window() : reclaim_footer();
}

/// A segment's footer names all its records: where none of them is to be moved, nothing else is read. What is wrong
/// with a footer is left to the walk.
void StoreImpl::reclaim_footer() {
  reclaim_->sector = 0;  // places in a footer count from the segment's start
  read_footer_part(base::kSectorBytes, [](io::IoOp& op, int32_t result) {
    Reclaim& r = *static_cast<Reclaim*>(op.context);
    StoreImpl& s = r.store;
    if (s.is_left(r)) return;
    const auto trailer = format::peek_footer({s.reclaim_->buffer.data(), base::kSectorBytes});
    const bool good =
        result >= 0 && trailer && trailer->epoch == s.reclaim_->epoch && trailer->footer_bytes <= kReclaimWindowMax;
    if (!good) return s.walk_segment();
    if (trailer->footer_bytes == base::kSectorBytes) return s.reclaim_by_footer();  // that was all of it
    s.read_footer_part(trailer->footer_bytes, [](io::IoOp& whole, int32_t bytes) {
      StoreImpl& store = static_cast<Reclaim*>(whole.context)->store;
      if (store.is_left(*static_cast<Reclaim*>(whole.context))) return;
      bytes < 0 ? store.walk_segment() : store.reclaim_by_footer();
    });
  });
}

/// The whole footer is in the buffer.
void StoreImpl::reclaim_by_footer() { evict_by_footer() ? reclaim_end() : walk_segment(); }

/// The last `bytes` of the segment.
void StoreImpl::read_footer_part(uint64_t bytes, io::IoOp::Fn on_done) {
  Reclaim& r = *reclaim_;
  if (closing_ || r.log->out()) return reclaim_end();
  r.piece = {reclaim_->buffer.data(), bytes};
  r.io.context = &r;
  r.io.on_done = on_done;
  const uint64_t end = r.log->segment_start(r.epoch) + r.log->config().slice.segment_bytes;
  if (!r.log->device().read(r.io, end - bytes, {&r.piece, 1}).ok()) r.active = false;  // the tick tries again
}

void StoreImpl::walk_segment() {
  reclaim_->sector = 1;
  reclaim_window();
}

/// False: something is to be moved, or the footer is not to be relied upon; nothing was done.
bool StoreImpl::evict_by_footer() {
  const base::Bytes bytes(reclaim_->buffer.data(), reclaim_->piece.iov_len);
  const auto trailer = format::open_footer(bytes, reclaim_->log->seed());
  if (!trailer) return false;
  format::FooterEntry entry;
  format::FooterReader look(*trailer, bytes);
  auto next = look.next(entry);
  for (; next && *next; next = look.next(entry)) {
    if (wants_move(entry.header, reclaim_pack(entry.header))) return false;
  }
  if (!next) return false;
  format::FooterReader reader(*trailer, bytes);
  for (next = reader.next(entry); next && *next; next = reader.next(entry)) {
    if (entry.header.kind < format::RecordKind::kTombstone) evict_record(entry.header);
  }
  return true;
}

uint64_t StoreImpl::small_window() const { return options_.memory_mode ? kReclaimStep : kReclaimWindow; }

/// Reads on: a large piece where extents are small, one block where the next extent is likely to be skipped. Memory is
/// looked at where it lies, nothing is read.
void StoreImpl::reclaim_window() {
  Reclaim& r = *reclaim_;
  if (closing_ || r.log->out() || r.sector >= r.end) return reclaim_end();
  const uint64_t left = uint64_t{r.end - r.sector} * base::kSectorBytes;
  const uint64_t offset = r.log->segment_start(r.epoch) + uint64_t{r.sector} * base::kSectorBytes;
  r.extent_move_bytes = 0;
  r.io.context = &r;
  r.io.on_done = on_reclaim_read;
  const uint64_t bytes = std::min<uint64_t>(r.window_bytes, left);
  std::byte* view = r.log->device().view(offset, bytes);
  r.piece = {view != nullptr ? view : r.buffer.data(), bytes};
  const auto begun = view != nullptr ? reactor_.post(r.io, 0) : r.log->device().read(r.io, offset, {&r.piece, 1});
  if (!begun.ok()) r.active = false;  // the tick tries again
}

void StoreImpl::on_reclaim_read(io::IoOp& op, int32_t result) {
  Reclaim& r = *static_cast<Reclaim*>(op.context);
  StoreImpl& s = r.store;
  if (s.is_left(r)) return;
  if (result < 0) {
    s.reclaim_blindly();
  } else {
    s.reclaim_extents();
  }
  if (r.moves_in_flight == 0) return s.reclaim_window();
  r.log->pump();  // the last move goes on: until then the buffer is theirs
}

/// What cannot be walked cannot be moved: entries that point into the segment in the end are dropped.
void StoreImpl::reclaim_blindly() {
  reclaim_->sector = reclaim_->end;
  reclaim_->blind = true;
}

/// All extents in the buffer, up to one that must be read whole first.
void StoreImpl::reclaim_extents() {
  Reclaim& r = *reclaim_;
  auto* const data = static_cast<std::byte*>(r.piece.iov_base);
  const size_t bytes = r.piece.iov_len;
  r.window_bytes = small_window();
  for (size_t at = 0; at + base::kSectorBytes <= bytes && r.sector < r.end;) {
    const base::Bytes rest(data + at, bytes - at);
    const auto extent = format::peek_extent(rest);
    if (!extent || extent->epoch != r.epoch || extent->sector_in_segment != r.sector ||
        extent->extent_bytes > kReclaimWindowMax) {
      return reclaim_blindly();
    }
    const base::Bytes here = rest.first(std::min<size_t>(rest.size(), extent->extent_bytes));
    const bool whole = here.size() == extent->extent_bytes;
    if (!whole && (here.size() < extent->header_bytes || wants_any(here))) {
      r.window_bytes = std::max<uint64_t>(small_window(), extent->extent_bytes);
      return;
    }
    reclaim_records(here);
    r.sector += extent->extent_bytes / base::kSectorBytes;
    at += extent->extent_bytes;
    // Large ones are mostly skipped: their neighbours are looked at one block at a time.
    r.window_bytes = !options_.memory_mode && extent->extent_bytes > kReclaimSkip ? base::kSectorBytes : small_window();
  }
}

uint64_t StoreImpl::reclaim_pack(const format::RecordHeader& h) const {
  const uint64_t start =
      reclaim_->log->segment_start(reclaim_->epoch) + uint64_t{reclaim_->sector} * base::kSectorBytes;
  return start / format::kPackBytes + h.payload_place;
}

bool StoreImpl::wants_any(base::Bytes bytes) {
  const auto extent = format::open_extent(bytes, reclaim_->log->seed());
  if (!extent) return false;
  format::RecordReader reader(*extent, bytes);
  format::RecordView view;
  for (auto next = reader.next(view); next && *next; next = reader.next(view)) {
    if (wants_move(view.header, reclaim_pack(view.header))) return true;
  }
  return false;
}

/// Decides for each record of the extent.
void StoreImpl::reclaim_records(base::Bytes bytes) {
  const auto extent = format::open_extent(bytes, reclaim_->log->seed());
  if (!extent) {
    reclaim_->blind = true;
    return;
  }
  format::RecordReader reader(*extent, bytes);
  format::RecordView view;
  auto next = reader.next(view);
  for (; next && *next; next = reader.next(view)) {
    if (view.header.kind >= format::RecordKind::kTombstone) continue;
    if (wants_move(view.header, reclaim_pack(view.header))) {
      move_record(view,
                  const_cast<std::byte*>(bytes.data()) + uint64_t{view.header.payload_place} * format::kPackBytes);
    } else {
      evict_record(view.header);
    }
  }
  if (!next) reclaim_->blind = true;
}

/// What is dropped only from the index is found again by a restart until its segment is known to be free.
void StoreImpl::evict_block(Digest digest, Log& log) {
  log.note_evicted(digest);
  drop_block(digest, counters_.dropped_evicted);
}

void StoreImpl::evict_record(const format::RecordHeader& h) {
  const Place here{reclaim_->log->config().slice.drive_index, reclaim_pack(h)};
  const Digest digest{h.digest[0], h.digest[1]};
  const bool chunk = h.kind == format::RecordKind::kChunk;
  const Entry* e = index_.find(chunk ? chunk_digest(digest, h.chunk_number) : digest);
  if (e != nullptr && e->sequence() == h.sequence && e->place() == here) {
    evict_block(digest, *reclaim_->log);
  } else if (chunk) {
    each_staged(h, [&](const RecordRef& ref, bool& lost) { lost |= ref.place == here; });
  }
}

/// Chunks that stand outside the index until their commit: of uploads, and of the change being merged.
template <typename Fn>
void StoreImpl::each_staged(const format::RecordHeader& h, Fn&& fn) {
  const Digest digest{h.digest[0], h.digest[1]};
  for (auto& [id, u] : uploads_) {
    const auto staged = u->chunks.find(h.chunk_number);
    if (u->key.digest == digest && staged != u->chunks.end() && staged->second.sequence == h.sequence)
      fn(staged->second, u->failed);
  }
  if (merge_.st == nullptr || merge_.st->digest != digest) return;
  for (auto& [n, ref] : merge_.parts) {
    if (n == h.chunk_number && ref.sequence == h.sequence) fn(ref, merge_.part_lost);
  }
}

/// Live, and hit since it was written (or a chunk of an upload under way), and there is budget.
bool StoreImpl::wants_move(const format::RecordHeader& h, uint64_t unit) {
  Reclaim& r = *reclaim_;
  if (h.kind >= format::RecordKind::kTombstone) return false;
  // What is moved, with headers and gaps, must fit the one segment that is kept free for it.
  const uint64_t segment = r.log->config().slice.segment_bytes;
  const uint64_t took = (r.log->moved_sectors() - r.moved_sectors_before) * base::kSectorBytes + r.extent_move_bytes;
  if (r.moved_bytes + h.payload_bytes > segment / 2 || took + move_cost(h) > segment / 4 * 3) return false;
  const Digest digest{h.digest[0], h.digest[1]};
  const bool chunk = h.kind == format::RecordKind::kChunk;
  const Entry* e = index_.find(chunk ? chunk_digest(digest, h.chunk_number) : digest);
  const Place here{r.log->config().slice.drive_index, unit};
  if (e != nullptr && e->sequence() == h.sequence && e->place() == here) {
    if (e->has(kHit) || !chunk) return e->has(kHit);
    const Entry* head = index_.find(digest);
    return head != nullptr && head->has(kHit);
  }
  bool needed = false;
  if (chunk) each_staged(h, [&](const RecordRef& ref, bool&) { needed |= ref.place == here; });
  return needed;
}

void StoreImpl::move_record(const format::RecordView& record, std::byte* payload) {
  Reclaim& r = *reclaim_;
  const format::RecordHeader& h = record.header;
  auto owned = std::make_unique<Move>();  // reclaim is off the ops' path
  Move* m = owned.get();
  moves_[m] = std::move(owned);
  m->store = this;
  m->reclaim = &r;
  m->header = h;
  m->header.flags |= format::kRecordMoved;
  m->key_bytes.assign(record.key);
  for (size_t i = 0; i < h.grain_count; ++i) m->sum_list.push_back(record.grain_sum(i));
  for (size_t i = 0; i < h.range_count; ++i) m->range_list.push_back(record.range(i));
  m->key = m->key_bytes;
  m->sums = m->sum_list;
  m->ranges = m->range_list;
  m->payload = payload;
  m->move = true;
  m->from = {r.log->config().slice.drive_index, reclaim_pack(h)};
  m->on_done = on_moved;
  m->context = m;
  r.moved_bytes += h.payload_bytes;
  r.extent_move_bytes += move_cost(h);
  ++r.moves_in_flight;
  r.log->enqueue(*m);
}

void StoreImpl::on_moved(Append& a) {
  Move& m = static_cast<Move&>(a);
  Reclaim& r = *m.reclaim;
  StoreImpl& s = r.store;
  const Digest digest{m.header.digest[0], m.header.digest[1]};
  const bool chunk = m.header.kind == format::RecordKind::kChunk;
  Entry* e = s.index_.find(chunk ? chunk_digest(digest, m.header.chunk_number) : digest);
  if (e != nullptr && e->sequence() == m.header.sequence && e->place() == m.from) {
    if (a.status == Status::kOk) {
      e->set_place(a.place);
      e->set(kHit, false);
      s.counters_.bytes_moved += m.header.payload_bytes;
    } else {
      s.evict_block(digest, *s.log_of(m.from.drive));
    }
  } else if (chunk) {
    s.each_staged(m.header, [&](RecordRef& ref, bool& lost) {
      if (ref.place != m.from) return;
      if (a.status == Status::kOk)
        ref.place = a.place;
      else
        lost = true;
    });
  }
  const bool dead = !chunk && a.status == Status::kOk &&
                    (e == nullptr || e->sequence() != m.header.sequence || e->place() != a.place);
  if (dead) {
    s.bury(m);
  } else {
    s.moves_.erase(&m);
  }
  --r.moves_in_flight;
  if (!s.is_left(r) && r.moves_in_flight == 0) s.reclaim_window();
}

/// The record was replaced or removed while it was moved. Its copy lies behind what killed it, and would outlive that
/// in the log: it gets a tombstone of its own behind it.
void StoreImpl::bury(Append& copy) {
  Move& m = static_cast<Move&>(copy);
  Log* log = log_of(m.from.drive);
  const format::RecordHeader record = m.header;
  m.header = {};
  std::copy_n(record.digest, 2, m.header.digest);
  m.header.namespace_id = record.namespace_id;
  m.header.kind = format::RecordKind::kTombstone;
  m.header.sequence = record.sequence + 1;
  m.key = {};
  m.sums = {};
  m.ranges = {};
  m.payload = nullptr;
  m.lone = false;
  m.on_done = [](Append& done) {
    auto& buried = static_cast<Move&>(done);
    buried.store->moves_.erase(&buried);
  };
  log->append(m);
}

/// The long way round, where a segment's headers do not say what is in it: all blocks with a record there.
void StoreImpl::drop_all_in(Log& log, uint64_t epoch) {
  const auto inside = [&](const Entry* e) { return e != nullptr && lies_in(e->place(), log, epoch); };
  std::vector<Digest> gone;
  uint64_t cursor = 0;
  while (const Entry* e = index_.next(cursor)) {
    if (e->has(kChunk)) continue;
    bool lost = inside(e);
    for (uint32_t n = 0, count = e->has(kHead) ? chunk_count(e->checksum()) : 0; n < count && !lost; ++n) {
      lost = inside(index_.find(chunk_digest(e->digest(), n)));
    }
    if (lost) gone.push_back(e->digest());
  }
  for (const Digest& d : gone) evict_block(d, log);
  lose_staged_in(log, epoch);
}

void StoreImpl::lose_staged_in(const Log& log, uint64_t epoch) {
  for (auto& [id, u] : uploads_) {
    for (const auto& [n, ref] : u->chunks) u->failed |= lies_in(ref.place, log, epoch);
  }
  if (merge_.st == nullptr) return;
  for (const auto& [n, ref] : merge_.parts) merge_.part_lost |= lies_in(ref.place, log, epoch);
}

/// Everything was decided: the segment is free once no read is in it.
void StoreImpl::reclaim_end() {
  Reclaim& r = *reclaim_;
  if (r.log->out() || closing_) {
    r.active = false;
    return;
  }
  if (r.blind) drop_all_in(*r.log, r.epoch);
  if (r.log->pins(r.epoch) > 0 && rules().freed_waits) {
    r.active = false;  // the last unpin asks again; what was moved meanwhile is not moved twice
    r.log->oldest_is_decided();
    reclaim_wanted_[r.log->config().slice.drive_index] = 1;
    return reclaim_start();
  }
  Log* log = r.log;
  r.active = false;
  log->free_oldest();
  const uint64_t enough = log->segments() >= 32 ? 4 : 3;
  if (log->free_segments() >= std::min<uint64_t>(enough, log->segments() - 1) && !reclaim_helps_index()) {
    reclaim_wanted_[log->config().slice.drive_index] = 0;
  }
  reclaim_start();
}

}  // namespace memkv::engine
