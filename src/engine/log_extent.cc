/// Extents of a log: made of what waits, written, acknowledged in order.

#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "engine/log.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kRecordsPerExtentMax = 1024;
constexpr uint64_t kWriteAgainNs = 1'000'000;

uint32_t header_bytes_of(const Append& a) {
  return format::record_header_bytes(a.key.size(), a.sums.size(), a.ranges.size());
}

/// Where a payload of this size may start in an extent.
uint64_t payload_start(uint64_t at, uint32_t bytes) {
  return base::align_up(at, bytes != 0 && bytes % base::kSectorBytes == 0 ? base::kSectorBytes : format::kPackBytes);
}

}  // namespace

bool Log::submit_next() {
  Append& a = *next_queue().head;
  return a.lone ? submit_lone(a) : submit_group();
}

bool Log::submit_lone(Append& a) {
  const uint64_t padded = base::align_up(a.header.payload_bytes, base::kSectorBytes);
  const uint32_t sectors = 1 + sectors_of(padded);
  if (!fits(sectors, entry_bytes(a))) {
    seal();
    return false;
  }
  std::byte* memory = a.payload - base::kSectorBytes;
  std::memset(a.payload + a.header.payload_bytes, 0, padded - a.header.payload_bytes);
  set_sizes(a, base::kSectorBytes);
  format::ExtentBuilder builder({memory, base::kSectorBytes});
  MEMKV_ASSERT(builder.append(a.header, a.key, a.sums, a.ranges));
  next_queue().pop();
  if (a.move) moved_sectors_ += sectors;
  Write& w = writes_[(first_ + in_flight_) % writes_.size()];
  w.records = &a;
  w.buffer = nullptr;
  w.sectors = sectors;
  w.footer_bytes = entry_bytes(a);
  w.chain_before = chain_;
  chain_ = finish_header(builder, base::kSectorBytes, sectors * base::kSectorBytes);
  note_records(&a);
  return submit(w, memory);
}

/// Small records that wait share an extent: headers first, then payloads, all copied into one buffer.
bool Log::submit_group() {
  if (buffers_ == config_.buffers_max) return false;
  std::byte* memory = owner_.take_extent_buffer();
  if (memory == nullptr) return false;
  AppendQueue& queue = next_queue();
  // First how many fit, then where each goes: the payloads stand behind all headers, and since those end on a block, a
  // payload's place behind them does not depend on how long they are.
  uint64_t headers = sizeof(format::ExtentHeader), payloads = 0, footer = 0, count = 0, extent = 0;
  for (const Append* a = queue.head; a != nullptr && !a->lone && count < kRecordsPerExtentMax; a = a->next) {
    const uint64_t more_headers = headers + header_bytes_of(*a);
    const uint64_t more_payloads = payload_start(payloads, a->header.payload_bytes) + a->header.payload_bytes;
    const uint64_t end =
        base::align_up(base::align_up(more_headers, base::kSectorBytes) + more_payloads, base::kSectorBytes);
    const uint32_t more_footer = static_cast<uint32_t>(footer) + entry_bytes(*a);
    if (end > kExtentBufferBytes || !fits(static_cast<uint32_t>(end / base::kSectorBytes), more_footer)) break;
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
  if (&queue == &moves_) moved_sectors_ += extent / base::kSectorBytes;
  const auto header_bytes = static_cast<uint32_t>(base::align_up(headers, base::kSectorBytes));
  format::ExtentBuilder builder({memory, header_bytes});
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
  Write& w = writes_[(first_ + in_flight_) % writes_.size()];
  w.records = chosen.head;
  w.buffer = memory;
  ++buffers_;
  w.sectors = static_cast<uint32_t>(extent / base::kSectorBytes);
  w.footer_bytes = static_cast<uint32_t>(footer);
  w.chain_before = chain_;
  chain_ = finish_header(builder, header_bytes, static_cast<uint32_t>(extent));
  note_records(chosen.head);
  return submit(w, memory);
}

bool Log::write_mark() {
  if (marked_ || out_ || phase_ != Phase::kOpen || in_flight_ != 0 || refusal_ != Status::kOk) return false;
  if (!fits(1, 0)) {
    if (stopped_) return false;
    seal();  // the footer says as much
    return true;
  }
  format::ExtentBuilder builder({mark_sector_, base::kSectorBytes});
  Write& w = writes_[first_ % writes_.size()];
  w.records = nullptr;
  w.buffer = nullptr;
  w.sectors = 1;
  w.footer_bytes = 0;
  w.chain_before = chain_;
  chain_ = finish_header(builder, base::kSectorBytes, base::kSectorBytes);
  note_records(nullptr);
  marked_ = true;
  return submit(w, mark_sector_);
}

/// The next extent's note: of these records, those that replace or kill others.
void Log::note_records(const Append* records) {
  marked_ = config_.memory_mode;
  note_sector_ = cursor_;
  note_count_ = 0;
  for (const Append* a = records; a != nullptr && note_sector_ != 0; a = a->next) {
    if (a->header.kind == format::RecordKind::kChunk) continue;
    if (a->header.kind == format::RecordKind::kFlush || note_count_ == kNoteMax) {
      note_sector_ = 0;
    } else {
      note_[note_count_++] = {{a->header.digest[0], a->header.digest[1]}, a->header.sequence};
    }
  }
}

/// Returns the checksum.
uint64_t Log::finish_header(format::ExtentBuilder& builder, uint32_t header_bytes, uint32_t extent_bytes) {
  format::ExtentHeader h{};
  fill_extent_header(h, header_bytes, extent_bytes, cursor_);
  if (note_sector_ != 0) (void)builder.note(note_sector_, {note_.data(), note_count_});
  return builder.finish(h, seed_);
}

void Log::fill_extent_header(format::ExtentHeader& h, uint32_t header_bytes, uint32_t extent_bytes,
                             uint32_t sector) const {
  h.epoch = newest_;
  h.previous_checksum = chain_;
  h.sector_in_segment = sector;
  h.header_bytes = header_bytes;
  h.extent_bytes = extent_bytes;
  h.complete_epoch = complete_epoch_;
  h.complete_sector = complete_sector_;
  h.live_epochs = static_cast<uint32_t>(newest_ - oldest_ + 1);
}

bool Log::submit(Write& w, std::byte* memory) {
  w.start_sector = cursor_;
  w.oldest = oldest_;
  w.done = false;
  w.piece = {memory, size_t{w.sectors} * base::kSectorBytes};
  w.io.on_done = on_write;
  w.io.context = &w;
  cursor_ += w.sectors;
  footer_used_ += w.footer_bytes;
  ++in_flight_;
  flight_bytes_ += w.piece.iov_len;
  counters_.device_bytes_written += w.piece.iov_len;
  w.offset = segment_start(newest_) + uint64_t{w.start_sector} * base::kSectorBytes;
  if (!rules().answered_late && w.records != nullptr) {  // the rule is taken out: as if it were written
    acknowledge(w);
    w.records = nullptr;
  }
  start_write(w);
  return true;
}

/// A device without room for one more op says nothing of the drive: the write waits. What it refuses otherwise is
/// completed from the loop, like every other failure.
void Log::start_write(DeviceWrite& w) {
  const auto started = device().write(w.io, w.offset, {&w.piece, 1}, config_.slice.dsync && rules().durable);
  if (started) return;
  if (started.error().status != Status::kBusy) {
    MEMKV_ASSERT(reactor_.post(w.io, -5).ok());
    return;
  }
  w.again.context = &w;
  w.again.on_done = [](io::Timer& timer) {
    auto& waiting = *static_cast<DeviceWrite*>(timer.context);
    waiting.log->start_write(waiting);
  };
  reactor_.start(w.again, reactor_.now_ns() + kWriteAgainNs);
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
    takes_writes_again();
    extent_oldest_ = std::max(extent_oldest_, w.oldest);
    update_durable_oldest();
    first_ = (first_ + 1) % static_cast<uint32_t>(writes_.size());
    --in_flight_;
    flight_bytes_ -= w.piece.iov_len;
    complete_epoch_ = newest_;
    complete_sector_ = w.start_sector + w.sectors;
    if (w.records != nullptr) {
      told_epoch_ = newest_;
      told_sector_ = complete_sector_;
      acknowledge(w);
    }
    give_buffer(w);
  }
  if (in_flight_ > 0 && writes_[first_].done) fail_from_front();
  if (phase_ == Phase::kDrain && in_flight_ == 0) write_footer();
  pump();
}

void Log::give_buffer(const Write& w) {
  if (w.buffer == nullptr) return;
  --buffers_;
  owner_.give_extent_buffer(w.buffer);
}

void Log::acknowledge(Write& w) {
  const uint64_t extent_offset = uint64_t{w.start_sector} * base::kSectorBytes;
  Append* next = nullptr;
  for (Append* a = w.records; a != nullptr; a = next) {
    next = a->next;
    const uint64_t in_segment = extent_offset + uint64_t{a->header.payload_place} * format::kPackBytes;
    format::RecordHeader entry = a->header;
    entry.payload_place = static_cast<uint32_t>(in_segment / format::kPackBytes);
    entry.key_bytes = static_cast<uint16_t>(a->key.size());
    entry.grain_count = static_cast<uint16_t>(a->sums.size());
    entry.range_count = static_cast<uint8_t>(a->ranges.size());
    const base::Bytes head =
        entry.kind == format::RecordKind::kHead ? base::Bytes(a->payload, entry.payload_bytes) : base::Bytes();
    if (!config_.memory_mode) MEMKV_ASSERT(footer_->append(entry, head));
    sequence_max_ = std::max(sequence_max_, entry.sequence);
    a->place = {config_.slice.drive_index, (segment_start(newest_) + in_segment) / format::kPackBytes};
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
  const int32_t result = writes_[first_].result;
  cursor_ = writes_[first_].start_sector;
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
    give_buffer(w);
  }
  fresh_.prepend(again);
  moves_.prepend(moves_again);
  note_sector_ = 0;
  marked_ = config_.memory_mode;
  if (refuses_instead(result)) {  // what is written next goes to the same place
    phase_ = Phase::kOpen;
    return;
  }
  MEMKV_LOG(kWarn, "drive {}: a write failed in segment {}; its records go to the next one", config_.slice.drive_index,
            newest_);
  phase_ = Phase::kDrain;
  if (stopped_) {  // there is no next one
    fail_queue(fresh_, Status::kIo);
    fail_queue(moves_, Status::kIo);
  }
  if (errors_ >= kErrorsMax) fail("writes fail one after another");
}

/// Counts a failed write. True: it was one of the last drive that is left. That one is not given up: it goes on to be
/// read, refuses writes for a while, and is then tried again.
bool Log::refuses_instead(int32_t result) {
  ++errors_;
  const bool full = result == -ENOSPC || result == -EDQUOT;
  if ((!full && errors_ < kErrorsMax) || !owner_.is_last_drive(config_.slice.drive_index)) return false;
  if (refusal_ == Status::kOk) {
    MEMKV_LOG(kError, "shard {}: drive {} takes no writes ({}); it is the last one, so it is still read", config_.shard,
              config_.slice.drive_index, full ? "no space below it" : "they fail");
  }
  refusal_ = full ? Status::kNoSpace : Status::kIo;
  retry_at_ns_ = reactor_.now_ns() + kRefusesNs;
  fail_queue(fresh_, refusal_);
  fail_queue(moves_, refusal_);
  return true;
}

void Log::takes_writes_again() {
  errors_ = 0;
  if (refusal_ == Status::kOk) return;
  refusal_ = Status::kOk;
  MEMKV_LOG(kWarn, "shard {}: drive {} takes writes again", config_.shard, config_.slice.drive_index);
}

}  // namespace memkv::engine
