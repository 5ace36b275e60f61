#include "engine/log.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/log.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint32_t kErrorsMax = 3;  // device writes that failed one after another before the drive is given up
constexpr uint32_t kFooterBytesMax = 1 << 20;
constexpr uint64_t kRecordsPerExtentMax = 1024;

uint32_t blocks_of(uint64_t bytes) { return static_cast<uint32_t>((bytes + kBlockBytes - 1) / kBlockBytes); }

uint32_t header_bytes_of(const Append& a) { return record_header_bytes(a.key.size(), a.sums.size(), a.ranges.size()); }

/// Where a payload of this size may start in an extent.
uint64_t payload_start(uint64_t at, uint32_t bytes) {
  return base::align_up(at, bytes != 0 && bytes % kBlockBytes == 0 ? kBlockBytes : kPackBytes);
}

std::byte* aligned_block(size_t bytes) {
  void* p = std::aligned_alloc(kBlockBytes, bytes);
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
      seed_(store_seed(config_.store_id)),
      segments_((config.slice.size_bytes - 2 * kBlockBytes) / config.slice.segment_bytes),
      writes_(config.writes_max) {
  MEMKV_ASSERT(!segments_.empty());
  footer_capacity_ = static_cast<uint32_t>(
      base::align_down(std::min<uint64_t>(kFooterBytesMax, config.slice.segment_bytes / 4), kBlockBytes));
  footer_memory_.reset(new std::byte[footer_capacity_]);
  header_block_ = aligned_block(kBlockBytes);
  footer_block_ = aligned_block(footer_capacity_);
  for (Write& w : writes_) w.log = this;
}

Log::~Log() {
  MEMKV_ASSERT(!footer_io_.pending() && !header_io_.pending() && !post_io_.pending());
  std::free(header_block_);
  std::free(footer_block_);
}

void Log::start(const Position& position) {
  newest_ = position.newest_epoch;
  oldest_ = evicted_ = durable_oldest_ = position.oldest_epoch;
  cursor_ = position.cursor_block;
  chain_ = position.chain;
  complete_epoch_ = newest_;
  complete_block_ = cursor_;
  phase_ = newest_ == 0 || position.sealed ? Phase::kNeedSegment : Phase::kOpen;
  if (!footer_) footer_ = std::make_unique<FooterBuilder>(base::MutBytes(footer_memory_.get(), footer_capacity_));
}

void Log::add_footer_entry(const RecordHeader& header, base::Bytes head_payload) {
  if (!footer_) footer_ = std::make_unique<FooterBuilder>(base::MutBytes(footer_memory_.get(), footer_capacity_));
  if (footer_->append(header, head_payload)) footer_used_ += footer_entry_bytes(header);
  sequence_max_ = std::max(sequence_max_, header.sequence);
}

uint64_t Log::segment_start(uint64_t epoch) const {
  return config_.slice.offset_bytes + 2 * kBlockBytes + (epoch % segments_.size()) * config_.slice.segment_bytes;
}

uint64_t Log::epoch_at(uint64_t drive_offset) const {
  const uint64_t base_offset = config_.slice.offset_bytes + 2 * kBlockBytes;
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
  segment_of(oldest_) = {};
  ++oldest_;
  ++counters_.segments_reclaimed;
  pump();
}

uint32_t Log::entry_bytes(const Append& a) { return footer_entry_bytes(a.header); }

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
  if (a.sums.size() > 1 || !a.ranges.empty()) a.lone = true;
  if (a.reserved_block != 0) {  // memory mode: it lies there already, only its header is missing
    std::byte* header = a.payload - kBlockBytes;
    set_sizes(a, kBlockBytes);
    ExtentBuilder builder({header, kBlockBytes});
    MEMKV_ASSERT(builder.append(a.header, a.key, a.sums, a.ranges));
    ExtentHeader h{};
    h.epoch = a.reserved_epoch;
    h.block_in_segment = static_cast<uint32_t>(a.reserved_block);
    h.header_bytes = kBlockBytes;
    h.extent_bytes = kBlockBytes + static_cast<uint32_t>(base::align_up(a.header.payload_bytes, kBlockBytes));
    builder.finish(h, seed_);
    const uint64_t offset = segment_start(a.reserved_epoch) + (a.reserved_block + 1) * kBlockBytes;
    a.place = {config_.slice.drive_index, offset / kPackBytes};
    a.epoch = a.reserved_epoch;
    unpin(a.reserved_epoch);
    finish(a, Status::kOk);
    return;
  }
  (a.move ? moves_ : fresh_).push(a);
}

void Log::set_sizes(Append& a, uint32_t place_in_extent) { a.header.payload_place = place_in_extent / kPackBytes; }

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
  while (Append* a = done.pop()) a->on_done(*a);
  log.pump();
}

bool Log::fits(uint32_t blocks, uint32_t footer_more) const {
  const uint32_t footer = footer_bytes_for(footer_used_ + footer_more);
  if (footer > footer_capacity_) return false;
  return cursor_ + blocks + footer / kBlockBytes <= segment_blocks();
}

AppendQueue& Log::next_queue() { return moves_.empty() ? fresh_ : moves_; }

void Log::pump() {
  if (out_ || stopped_) return;
  if (phase_ == Phase::kNeedSegment && (!fresh_.empty() || !moves_.empty())) need_segment();
  while (phase_ == Phase::kOpen && in_flight_ < config_.writes_max && !next_queue().empty()) {
    if (only_moves() && moves_.empty()) return request_reclaim();
    if (!submit_next()) break;
  }
}

bool Log::submit_next() {
  Append& a = *next_queue().head;
  return a.lone ? submit_lone(a) : submit_group();
}

bool Log::submit_lone(Append& a) {
  const uint64_t padded = base::align_up(a.header.payload_bytes, kBlockBytes);
  const uint32_t blocks = 1 + blocks_of(padded);
  if (!fits(blocks, entry_bytes(a))) {
    seal();
    return false;
  }
  std::byte* memory = a.payload - kBlockBytes;
  std::memset(a.payload + a.header.payload_bytes, 0, padded - a.header.payload_bytes);
  set_sizes(a, kBlockBytes);
  ExtentBuilder builder({memory, kBlockBytes});
  MEMKV_ASSERT(builder.append(a.header, a.key, a.sums, a.ranges));
  ExtentHeader h{};
  fill_extent_header(h, kBlockBytes, blocks * kBlockBytes, cursor_);
  next_queue().pop();
  if (a.move) moved_blocks_ += blocks;
  Write& w = writes_[(first_ + in_flight_) % writes_.size()];
  w.records = &a;
  w.buffer = nullptr;
  w.blocks = blocks;
  w.footer_bytes = entry_bytes(a);
  w.chain_before = chain_;
  chain_ = builder.finish(h, seed_);
  return submit(w, memory);
}

/// Small records that wait share an extent: headers first, then payloads, all copied into one buffer.
bool Log::submit_group() {
  std::byte* memory = owner_.take_extent_buffer();
  if (memory == nullptr) return false;
  AppendQueue& queue = next_queue();
  // First how many fit, then where each goes: the payloads stand behind all headers, and since those end on a block, a
  // payload's place behind them does not depend on how long they are.
  uint64_t headers = sizeof(ExtentHeader), payloads = 0, footer = 0, count = 0, extent = 0;
  for (const Append* a = queue.head; a != nullptr && !a->lone && count < kRecordsPerExtentMax; a = a->next) {
    const uint64_t more_headers = headers + header_bytes_of(*a);
    const uint64_t more_payloads = payload_start(payloads, a->header.payload_bytes) + a->header.payload_bytes;
    const uint64_t end = base::align_up(base::align_up(more_headers, kBlockBytes) + more_payloads, kBlockBytes);
    const uint32_t more_footer = static_cast<uint32_t>(footer) + entry_bytes(*a);
    if (end > kExtentBufferBytes || !fits(static_cast<uint32_t>(end / kBlockBytes), more_footer)) break;
    headers = more_headers;
    payloads = more_payloads;
    footer = more_footer;
    extent = end;
    ++count;
    if (count >= 64 && end > kExtentBufferBytes / 2) break;
  }
  if (count == 0) {
    owner_.give_extent_buffer(memory);
    seal();
    return false;
  }
  if (&queue == &moves_) moved_blocks_ += extent / kBlockBytes;
  const auto header_bytes = static_cast<uint32_t>(base::align_up(headers, kBlockBytes));
  ExtentBuilder builder({memory, header_bytes});
  AppendQueue chosen;
  uint64_t at = header_bytes;
  for (uint64_t i = 0; i < count; ++i) {
    Append& a = *queue.pop();
    const uint64_t start = payload_start(at, a.header.payload_bytes);
    std::memset(memory + at, 0, start - at);
    if (a.header.payload_bytes != 0) std::memcpy(memory + start, a.payload, a.header.payload_bytes);
    set_sizes(a, static_cast<uint32_t>(start));
    MEMKV_ASSERT(builder.append(a.header, a.key, a.sums, a.ranges));
    at = start + a.header.payload_bytes;
    chosen.push(a);
  }
  MEMKV_ASSERT(at <= extent && extent <= kExtentBufferBytes);
  std::memset(memory + at, 0, extent - at);
  ExtentHeader h{};
  fill_extent_header(h, header_bytes, static_cast<uint32_t>(extent), cursor_);
  Write& w = writes_[(first_ + in_flight_) % writes_.size()];
  w.records = chosen.head;
  w.buffer = memory;
  w.blocks = static_cast<uint32_t>(extent / kBlockBytes);
  w.footer_bytes = static_cast<uint32_t>(footer);
  w.chain_before = chain_;
  chain_ = builder.finish(h, seed_);
  return submit(w, memory);
}

void Log::fill_extent_header(ExtentHeader& h, uint32_t header_bytes, uint32_t extent_bytes, uint32_t block) const {
  h.epoch = newest_;
  h.previous_checksum = chain_;
  h.block_in_segment = block;
  h.header_bytes = header_bytes;
  h.extent_bytes = extent_bytes;
  h.complete_epoch = complete_epoch_;
  h.complete_block = complete_block_;
}

bool Log::submit(Write& w, std::byte* memory) {
  w.start_block = cursor_;
  w.done = false;
  w.piece = {memory, size_t{w.blocks} * kBlockBytes};
  w.io.on_done = on_write;
  w.io.context = &w;
  cursor_ += w.blocks;
  footer_used_ += w.footer_bytes;
  ++in_flight_;
  flight_bytes_ += w.piece.iov_len;
  counters_.device_bytes_written += w.piece.iov_len;
  const uint64_t offset = segment_start(newest_) + uint64_t{w.start_block} * kBlockBytes;
  const bool dsync = config_.slice.dsync && rules().durable;
  if (auto ok = device().write(w.io, offset, {&w.piece, 1}, dsync); !ok) {
    w.io.on_done = nullptr;
    w.done = true;
    w.result = -5;
    // Completed from the loop, like every other failure.
    w.io.on_done = on_write;
    MEMKV_ASSERT(reactor_.post(w.io, -5).ok());
  }
  return true;
}

void Log::on_write(io::IoOp& op, int32_t result) {
  Write& w = *static_cast<Write*>(op.context);
  w.done = true;
  w.result = result < 0 || static_cast<uint64_t>(result) != w.piece.iov_len ? (result < 0 ? result : -5) : 0;
  Log& log = *w.log;
  if (!rules().acknowledged_in_order && w.result == 0 &&
      w.records != nullptr) {  // the rule is taken out: each for itself
    log.acknowledge(w);
    w.records = nullptr;
  }
  log.complete_front();
}

void Log::complete_front() {
  while (in_flight_ > 0 && writes_[first_].done && writes_[first_].result == 0) {
    Write& w = writes_[first_];
    errors_ = 0;
    first_ = (first_ + 1) % static_cast<uint32_t>(writes_.size());
    --in_flight_;
    flight_bytes_ -= w.piece.iov_len;
    complete_epoch_ = newest_;
    complete_block_ = w.start_block + w.blocks;
    if (w.records != nullptr) acknowledge(w);
    if (w.buffer != nullptr) owner_.give_extent_buffer(w.buffer);
  }
  if (in_flight_ > 0 && writes_[first_].done) fail_from_front();
  if (phase_ == Phase::kDrain && in_flight_ == 0) write_footer();
  pump();
}

void Log::acknowledge(Write& w) {
  const uint64_t extent_offset = uint64_t{w.start_block} * kBlockBytes;
  Append* next = nullptr;
  for (Append* a = w.records; a != nullptr; a = next) {
    next = a->next;
    const uint64_t in_segment = extent_offset + uint64_t{a->header.payload_place} * kPackBytes;
    RecordHeader entry = a->header;
    entry.payload_place = static_cast<uint32_t>(in_segment / kPackBytes);
    entry.key_bytes = static_cast<uint16_t>(a->key.size());
    entry.grain_count = static_cast<uint16_t>(a->sums.size());
    entry.range_count = static_cast<uint8_t>(a->ranges.size());
    const base::Bytes head =
        entry.kind == RecordKind::kHead ? base::Bytes(a->payload, entry.payload_bytes) : base::Bytes();
    if (!config_.memory_mode) MEMKV_ASSERT(footer_->append(entry, head));
    sequence_max_ = std::max(sequence_max_, entry.sequence);
    a->place = {config_.slice.drive_index, (segment_start(newest_) + in_segment) / kPackBytes};
    a->epoch = newest_;
    finish(*a, Status::kOk);
  }
}

/// A write failed: its records, and those behind it in the chain, are appended again in the next segment.
void Log::fail_from_front() {
  for (uint32_t i = 0; i < in_flight_; ++i) {
    if (!writes_[(first_ + i) % writes_.size()].done) {
      phase_ = Phase::kDrain;  // nothing new until all of them are back
      return;
    }
  }
  AppendQueue again, moves_again;
  cursor_ = writes_[first_].start_block;
  chain_ = writes_[first_].chain_before;
  while (in_flight_ > 0) {
    Write& w = writes_[first_];
    first_ = (first_ + 1) % static_cast<uint32_t>(writes_.size());
    --in_flight_;
    flight_bytes_ -= w.piece.iov_len;
    footer_used_ -= w.footer_bytes;
    Append* next = nullptr;
    for (Append* a = w.records; a != nullptr; a = next) {
      next = a->next;
      (a->move ? moves_again : again).push(*a);
    }
    if (w.buffer != nullptr) owner_.give_extent_buffer(w.buffer);
  }
  fresh_.prepend(again);
  moves_.prepend(moves_again);
  MEMKV_LOG(kWarn, "drive {}: a write failed in segment {}; its records go to the next one", config_.slice.drive_index,
            newest_);
  phase_ = Phase::kDrain;
  if (stopped_) {  // there is no next one
    fail_queue(fresh_, Status::kIo);
    fail_queue(moves_, Status::kIo);
  }
  if (++errors_ >= kErrorsMax) fail("writes fail one after another");
}

void Log::seal() {
  MEMKV_ASSERT(phase_ == Phase::kOpen);
  phase_ = Phase::kDrain;
  if (in_flight_ == 0) write_footer();
}

/// All extents of the segment are complete: its footer may say so.
void Log::write_footer() {
  if (out_ || stopped_) return;
  segment_of(newest_).data_end = cursor_;
  if (config_.memory_mode) {
    phase_ = Phase::kNeedSegment;
    need_segment();
    return;
  }
  phase_ = Phase::kFooter;
  FooterTrailer t{};
  t.epoch = newest_;
  t.last_checksum = chain_;
  t.data_end_block = cursor_;
  t.sequence_max = sequence_max_;
  const base::Bytes bytes = footer_->finish(t, seed_);
  std::memcpy(footer_block_, bytes.data(), bytes.size());
  footer_piece_ = {footer_block_, bytes.size()};
  footer_io_.on_done = on_footer;
  footer_io_.context = this;
  counters_.device_bytes_written += bytes.size();
  const uint64_t offset = segment_start(newest_) + config_.slice.segment_bytes - bytes.size();
  if (!device().write(footer_io_, offset, {&footer_piece_, 1}, config_.slice.dsync && rules().durable).ok()) {
    MEMKV_ASSERT(reactor_.post(footer_io_, -5).ok());
  }
}

void Log::on_footer(io::IoOp& op, int32_t result) {
  Log& log = *static_cast<Log*>(op.context);
  // Without its footer the segment is walked at recovery: slower, not lost.
  if (result < 0 && ++log.errors_ >= kErrorsMax) return log.fail("its footers cannot be written");
  log.phase_ = Phase::kNeedSegment;
  log.pump();
}

void Log::request_reclaim() {
  if (!out_ && !stopped_) owner_.on_segment_needed(config_.slice.drive_index);
}

void Log::need_segment() {
  const uint64_t free = free_segments();
  const uint64_t low = segments() >= 32 ? 3 : 2;
  if (free <= low) request_reclaim();
  if (phase_ != Phase::kNeedSegment) return;  // reclaim freed one and came here already
  // The last free segment is for what reclaim moves, so that reclaim can always end; what finds no room even so goes.
  if (free_segments() == 0) return fail_queue(moves_, Status::kNoSpace);
  if (free_segments() <= (moves_.empty() ? 1u : 0u)) return;
  write_header();
}

void Log::write_header() {
  ++newest_;
  cursor_ = 1;
  segment_of(newest_) = {};
  footer_ = std::make_unique<FooterBuilder>(base::MutBytes(footer_memory_.get(), footer_capacity_));
  footer_used_ = 0;
  sequence_max_ = 0;
  if (config_.memory_mode) {
    phase_ = Phase::kOpen;
    return;
  }
  phase_ = Phase::kHeader;
  SegmentHeader h{};
  std::memcpy(h.store_id, config_.store_id, sizeof h.store_id);
  h.drive_index = config_.slice.drive_index;
  h.shard = config_.shard;
  h.segment_index = static_cast<uint32_t>(newest_ % segments_.size());
  h.format_version = kFormatVersion;
  h.epoch = newest_;
  h.oldest_epoch = oldest_;
  h.previous_checksum = chain_;
  engine::seal(h);
  chain_ = h.checksum;
  std::memcpy(header_block_, &h, sizeof h);
  header_piece_ = {header_block_, kBlockBytes};
  header_io_.on_done = on_header;
  header_io_.context = this;
  counters_.device_bytes_written += kBlockBytes;
  if (!device()
           .write(header_io_, segment_start(newest_), {&header_piece_, 1}, config_.slice.dsync && rules().durable)
           .ok()) {
    MEMKV_ASSERT(reactor_.post(header_io_, -5).ok());
  }
}

void Log::on_header(io::IoOp& op, int32_t result) {
  Log& log = *static_cast<Log*>(op.context);
  if (result < 0) {
    if (++log.errors_ >= kErrorsMax) return log.fail("its segment headers cannot be written");
    const bool dsync = log.config_.slice.dsync && rules().durable;
    if (!log.device().write(op, log.segment_start(log.newest_), {&log.header_piece_, 1}, dsync).ok()) {
      MEMKV_ASSERT(log.reactor_.post(op, -5).ok());
    }
    return;
  }
  SegmentHeader written;
  std::memcpy(&written, log.header_block_, sizeof written);
  log.durable_oldest_ = written.oldest_epoch;
  log.complete_epoch_ = log.newest_;
  log.complete_block_ = 1;
  log.phase_ = Phase::kOpen;
  log.pump();
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

void Log::expire(uint64_t now_ns) {
  AppendQueue kept;
  while (Append* a = fresh_.pop()) {
    if (a->deadline_ns <= now_ns)
      finish(*a, Status::kNoSpace);
    else
      kept.push(*a);
  }
  fresh_ = kept;
}

Log::Room Log::reserve(uint32_t bytes) {
  MEMKV_ASSERT(config_.memory_mode);
  const uint32_t blocks = 1 + blocks_of(bytes);
  if (out_ || stopped_ || only_moves() || blocks + 2 > segment_blocks()) return {};
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (phase_ == Phase::kNeedSegment) need_segment();
    if (phase_ != Phase::kOpen) return {};
    if (cursor_ + blocks + 1 <= segment_blocks()) break;
    if (in_flight_ > 0 || attempt == 1) return {};
    seal();
  }
  if (phase_ != Phase::kOpen || cursor_ + blocks + 1 > segment_blocks()) return {};
  Room room;
  room.block = cursor_;
  room.epoch = newest_;
  room.data =
      device().view(segment_start(newest_) + uint64_t{cursor_ + 1} * kBlockBytes, base::align_up(bytes, kBlockBytes));
  if (room.data == nullptr) return {};
  // Until its put comes the room is an extent without records, so that a walk over the segment passes it.
  cursor_ += blocks;
  pin(room.epoch);
  ExtentBuilder builder({room.data - kBlockBytes, kBlockBytes});
  ExtentHeader h{};
  h.epoch = room.epoch;
  h.block_in_segment = static_cast<uint32_t>(room.block);
  h.header_bytes = kBlockBytes;
  h.extent_bytes = blocks * kBlockBytes;
  builder.finish(h, seed_);
  return room;
}

void Log::abandon(uint64_t epoch, uint64_t, uint32_t) { unpin(epoch); }

}  // namespace memkv::engine
