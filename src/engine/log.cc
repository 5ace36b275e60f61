/// Queues and room of a log. Extents are written in log_extent.cc, segments opened and sealed in log_segment.cc.

#include "engine/log.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/assert.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint32_t kFooterBytesMax = 1 << 20;

std::byte* aligned_block(size_t bytes) {
  void* p = std::aligned_alloc(base::kSectorBytes, bytes);
  if (p == nullptr) throw std::bad_alloc();
  return static_cast<std::byte*>(p);
}

}  // namespace

void AppendQueue::push(Append& a) {
  a.next = nullptr;
  (head == nullptr ? head : tail->next) = &a;
  tail = &a;
  bytes += a.header.payload_bytes;
}

Append* AppendQueue::pop() {
  Append* a = head;
  if (a == nullptr) return nullptr;
  head = a->next;
  if (head == nullptr) tail = nullptr;
  a->next = nullptr;
  bytes -= a->header.payload_bytes;
  return a;
}

void AppendQueue::prepend(AppendQueue& other) {
  if (other.empty()) return;
  other.tail->next = head;
  if (head == nullptr) tail = other.tail;
  head = other.head;
  bytes += other.bytes;
  other = {};
}

Log::Log(io::Reactor& reactor, const Config& config, LogOwner& owner, StoreCounters& counters)
    : reactor_(reactor),
      config_(config),
      owner_(owner),
      counters_(counters),
      seed_(format::log_seed(config_.store_id, config_.slice.life)),
      segments_((config.slice.size_bytes - 2 * base::kSectorBytes) / config.slice.segment_bytes),
      evicted_filter_(kFilterBits / 64),
      writes_(config.writes_max) {
  MEMKV_ASSERT(!segments_.empty());
  footer_capacity_ = static_cast<uint32_t>(
      base::align_down(std::min<uint64_t>(kFooterBytesMax, config.slice.segment_bytes / 4), base::kSectorBytes));
  footer_memory_.reset(new std::byte[footer_capacity_]);
  header_sector_ = aligned_block(base::kSectorBytes);
  footer_sector_ = aligned_block(footer_capacity_);
  mark_sector_ = aligned_block(base::kSectorBytes);
  for (Write& w : writes_) w.log = this;
  footer_write_.log = header_write_.log = this;
}

Log::~Log() {
  MEMKV_ASSERT(!footer_write_.io.pending() && !header_write_.io.pending() && !post_io_.pending());
  for (Write& w : writes_) reactor_.stop(w.again);
  reactor_.stop(footer_write_.again);
  reactor_.stop(header_write_.again);
  std::free(header_sector_);
  std::free(footer_sector_);
  std::free(mark_sector_);
}

void Log::start(const Position& position) {
  newest_ = position.newest_epoch;
  oldest_ = evicted_ = durable_oldest_ = position.oldest_epoch;
  header_oldest_ = extent_oldest_ = anchor_oldest_ = oldest_;  // recovery writes both anchors before it is done
  cut_epoch_ = position.cut_epoch;
  cut_sector_ = position.cut_sector;
  marked_ = position.marked || config_.memory_mode;
  note_sector_ = position.last_note.size() <= kNoteMax ? position.last_sector : 0;
  note_count_ = note_sector_ == 0 ? 0 : position.last_note.size();
  std::copy_n(position.last_note.begin(), note_count_, note_.begin());
  cursor_ = position.cursor_sector;
  chain_ = position.chain;
  complete_epoch_ = newest_;
  complete_sector_ = cursor_;
  told_epoch_ = newest_;
  told_sector_ = position.told_sector;
  phase_ = newest_ == 0 || position.sealed ? Phase::kNeedSegment : Phase::kOpen;
  if (!footer_)
    footer_ = std::make_unique<format::FooterBuilder>(base::MutBytes(footer_memory_.get(), footer_capacity_));
}

void Log::add_footer_entry(const format::RecordHeader& header, base::Bytes head_payload) {
  if (!footer_)
    footer_ = std::make_unique<format::FooterBuilder>(base::MutBytes(footer_memory_.get(), footer_capacity_));
  if (footer_->append(header, head_payload)) footer_used_ += format::footer_entry_bytes(header);
  sequence_max_ = std::max(sequence_max_, header.sequence);
}

uint64_t Log::segment_start(uint64_t epoch) const {
  return config_.slice.offset_bytes + 2 * base::kSectorBytes + (epoch % segments_.size()) * config_.slice.segment_bytes;
}

uint64_t Log::epoch_at(uint64_t drive_offset) const {
  const uint64_t base_offset = config_.slice.offset_bytes + 2 * base::kSectorBytes;
  if (drive_offset < base_offset || newest_ == 0) return 0;
  const uint64_t position = (drive_offset - base_offset) / config_.slice.segment_bytes;
  if (position >= segments_.size()) return 0;
  // The one live epoch that is congruent to the position.
  const uint64_t n = segments_.size();
  const uint64_t epoch = newest_ - (newest_ % n + n - position) % n;
  return epoch >= oldest_ && epoch <= newest_ ? epoch : 0;
}

void Log::unpin(uint64_t epoch) {
  MEMKV_ASSERT(segment_of(epoch).pins > 0);
  if (--segment_of(epoch).pins == 0 && epoch == oldest_) owner_.on_oldest_unpinned(config_.slice.drive_index);
}

void Log::free_oldest() {
  MEMKV_ASSERT(oldest_ < newest_);
  MEMKV_ASSERT(segment_of(oldest_).pins == 0 || !rules().freed_waits);
  MEMKV_ASSERT(segment_of(oldest_).rooms == 0);
  segment_of(oldest_) = {};
  ++oldest_;
  ++counters_.segments_reclaimed;
  pump();
}

uint32_t Log::entry_bytes(const Append& a) { return format::footer_entry_bytes(a.header); }

void Log::append(Append& a) {
  enqueue(a);
  pump();
}

void Log::enqueue(Append& a) {
  MEMKV_ASSERT(a.on_done != nullptr);
  if (out_ || stopped_) {
    finish(a, stopped_ ? Status::kCanceled : Status::kIo);
    return;
  }
  if (refuses()) return finish(a, refusal_);
  if (a.sums.size() > 1 || !a.ranges.empty()) a.lone = true;
  if (a.reserved_sector != 0) {  // memory mode: it lies there already, only its header is missing
    std::byte* header = a.payload - base::kSectorBytes;
    set_sizes(a, base::kSectorBytes);
    format::ExtentBuilder builder({header, base::kSectorBytes});
    MEMKV_ASSERT(builder.append(a.header, a.key, a.sums, a.ranges));
    format::ExtentHeader h{};
    h.epoch = a.reserved_epoch;
    h.sector_in_segment = static_cast<uint32_t>(a.reserved_sector);
    h.header_bytes = base::kSectorBytes;
    h.extent_bytes =
        base::kSectorBytes + static_cast<uint32_t>(base::align_up(a.header.payload_bytes, base::kSectorBytes));
    builder.finish(h, seed_);
    const uint64_t offset = segment_start(a.reserved_epoch) + (a.reserved_sector + 1) * base::kSectorBytes;
    a.place = {config_.slice.drive_index, offset / format::kPackBytes};
    a.epoch = a.reserved_epoch;
    finish(a, Status::kOk);
    return;
  }
  (a.move ? moves_ : fresh_).push(a);
}

void Log::set_sizes(Append& a, uint32_t place_in_extent) {
  a.header.payload_place = place_in_extent / format::kPackBytes;
}

/// Completes an append at the next turn of the loop, in order.
void Log::finish(Append& a, Status status) {
  a.status = status;
  done_.push(a);
  if (posted_) return;
  posted_ = true;
  post_io_.context = this;
  post_io_.on_done = on_post;
  MEMKV_ASSERT(reactor_.post(post_io_, 0).ok());
}

void Log::on_post(io::IoOp& op, int32_t) {
  Log& log = *static_cast<Log*>(op.context);
  log.posted_ = false;
  AppendQueue done = log.done_;
  log.done_ = {};
  while (Append* a = done.pop()) {
    const uint64_t room_epoch = a->reserved_sector != 0 ? a->reserved_epoch : 0;
    a->on_done(*a);
    if (room_epoch != 0) log.close_room(room_epoch);  // only now its owner knows where the record lies
  }
  log.pump();
}

bool Log::fits(uint32_t sectors, uint32_t footer_more) const {
  const uint32_t footer = format::footer_bytes_for(footer_used_ + footer_more);
  if (footer > footer_capacity_) return false;
  return cursor_ + sectors + footer / base::kSectorBytes <= segment_sectors();
}

AppendQueue& Log::next_queue() { return moves_.empty() ? fresh_ : moves_; }

void Log::pump() {
  if (out_ || stopped_ || refuses()) return;
  if (phase_ == Phase::kHeader && !header_write_.pending()) start_write(header_write_);  // was refused a while ago
  if (phase_ == Phase::kNeedSegment && (!fresh_.empty() || !moves_.empty())) need_segment();
  while (phase_ == Phase::kOpen && in_flight_ < config_.writes_max && !next_queue().empty()) {
    if (only_moves() && moves_.empty()) return request_reclaim();
    if (!submit_next()) break;
  }
}

void Log::fail_queue(AppendQueue& q, Status status) {
  while (Append* a = q.pop()) finish(*a, status);
}

void Log::fail(const char* why) {
  if (out_) return;
  out_ = true;
  fail_queue(fresh_, Status::kIo);
  fail_queue(moves_, Status::kIo);
  owner_.on_log_failed(config_.slice.drive_index, why);
}

void Log::stop(Status status) {
  if (stopped_) return;
  stopped_ = true;
  fail_queue(fresh_, status);
  fail_queue(moves_, status);
}

/// What waits does so for reclaim, not for the drive.
bool Log::waits_for_room() const { return only_moves() || (phase_ == Phase::kNeedSegment && free_segments() <= 1); }

void Log::tick(uint64_t now_ns) {
  // Where something can be reclaimed, it was the time that did not suffice.
  const Status why = waits_for_room() && !can_reclaim() ? Status::kNoSpace : Status::kDeadline;
  AppendQueue kept;
  while (Append* a = fresh_.pop()) {
    if (a->deadline_ns <= now_ns)
      finish(*a, why);
    else
      kept.push(*a);
  }
  fresh_ = kept;
  const bool was_idle = idle_since_ns_ != 0;
  idle_since_ns_ = wants_mark() && idle() ? now_ns : 0;
  if (was_idle && idle_since_ns_ != 0) (void)write_mark();
}

void Log::evicting(uint64_t epoch) {
  if (!evicted_may_return()) std::fill(evicted_filter_.begin(), evicted_filter_.end(), 0);
  evicted_ = epoch + 1;
}

void Log::anchored(const LogFacts& facts) {
  anchored_ = facts;
  anchor_oldest_ = std::max(anchor_oldest_, facts.oldest_epoch);
  update_durable_oldest();
}

bool Log::wants_anchor() const {
  const LogFacts now = facts();
  return !config_.memory_mode && (now.complete_epoch != anchored_.complete_epoch ||
                                  now.complete_sector != anchored_.complete_sector || evicted_may_return());
}

/// Two of the three say so.
void Log::update_durable_oldest() {
  const uint64_t a = header_oldest_, b = extent_oldest_, c = anchor_oldest_;
  durable_oldest_ = std::max(std::min(a, b), std::min(std::max(a, b), c));
}

/// Takes room for a record and its header at the end of the newest segment, or of the next one.
Log::Room Log::reserve(uint32_t bytes) {
  MEMKV_ASSERT(config_.memory_mode);
  const uint32_t sectors = 1 + sectors_of(bytes);
  if (out_ || stopped_ || only_moves() || sectors + 2 > segment_sectors()) return {};
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (phase_ == Phase::kNeedSegment) need_segment();
    if (phase_ != Phase::kOpen) return {};
    if (cursor_ + sectors + 1 <= segment_sectors()) break;
    if (in_flight_ > 0 || attempt == 1) return {};
    seal();
  }
  if (phase_ != Phase::kOpen || cursor_ + sectors + 1 > segment_sectors()) return {};
  Room room;
  room.sector = cursor_;
  room.epoch = newest_;
  room.data = device().view(segment_start(newest_) + uint64_t{cursor_ + 1} * base::kSectorBytes,
                            base::align_up(bytes, base::kSectorBytes));
  if (room.data == nullptr) return {};
  // Until its put comes the room is an extent without records: where it is given back, a walk over the segment passes
  // it.
  cursor_ += sectors;
  ++segment_of(room.epoch).rooms;
  format::ExtentBuilder builder({room.data - base::kSectorBytes, base::kSectorBytes});
  format::ExtentHeader h{};
  h.epoch = room.epoch;
  h.sector_in_segment = static_cast<uint32_t>(room.sector);
  h.header_bytes = base::kSectorBytes;
  h.extent_bytes = sectors * base::kSectorBytes;
  builder.finish(h, seed_);
  return room;
}

void Log::close_room(uint64_t epoch) {
  MEMKV_ASSERT(segment_of(epoch).rooms > 0);
  if (--segment_of(epoch).rooms == 0 && epoch == oldest_) owner_.on_oldest_unpinned(config_.slice.drive_index);
}

}  // namespace memkv::engine
