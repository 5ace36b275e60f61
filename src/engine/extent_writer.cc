#include "engine/extent_writer.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kRecordsPerExtentMax = 1024;
constexpr uint64_t kRecordsEnough = 64;                  // in an extent that is half full
constexpr uint64_t kNotePays = 16 * base::kSectorBytes;  // payloads: they are worth a sector for the note
constexpr int32_t kShortWrite = -5;                      // EIO

uint32_t header_bytes_of(const Append& a) {
  return format::record_header_bytes(a.key.size(), a.sums.size(), a.ranges.size());
}

uint32_t entry_bytes_of(const Append& a) { return format::footer_entry_bytes(a.header); }

}  // namespace

ExtentWriter::ExtentWriter(io::Reactor& reactor, const LogConfig& config, Segments& segments, SegmentFooter& footer,
                           RecentEvictions& evictions, FinishedAppends& finished, ExtentBuffers& buffers, Owner& owner,
                           StoreCounters& counters)
    : config_(config),
      segments_(segments),
      footer_(footer),
      evictions_(evictions),
      finished_(finished),
      extent_buffers_(buffers),
      owner_(owner),
      counters_(counters),
      seed_(format::log_seed(config.store_id, config.slice.life)),
      writes_(config.writes_max) {
  MEMKV_ASSERT(!writes_.empty());
  for (Write& w : writes_) {
    w.writer = this;
    w.device.set_up(reactor, *config.slice.device, config.slice.dsync, on_write, &w);
  }
}

void ExtentWriter::start(uint32_t sector, uint64_t chain, bool marked, const LogProgress& progress) {
  MEMKV_ASSERT(idle());
  tail_ = {sector, chain};
  marked_ = marked;
  progress_ = progress;
}

void ExtentWriter::begin_segment(uint64_t header_checksum) {
  MEMKV_ASSERT(idle(), "they belong to the segment before");
  tail_ = {1, header_checksum};
  marked_ = true;  // nothing is in it
  note_.forget();
}

void ExtentWriter::segment_begun() {
  progress_.complete_epoch = segments_.newest();
  progress_.complete_sector = 1;
}

bool ExtentWriter::fits(uint32_t sectors, uint32_t footer_more) const {
  uint32_t footer_bytes = 0;
  if (!footer_.fits(footer_more, footer_bytes)) return false;
  return tail_.sector + sectors + footer_bytes / base::kSectorBytes <= segments_.sectors();
}

// --- making extents

ExtentWriter::Submitted ExtentWriter::submit(AppendQueue& queue, bool moves) {
  MEMKV_ASSERT(!queue.empty() && !full());
  return queue.head->lone ? submit_lone(queue, moves) : submit_group(queue, moves);
}

/// A large record's header goes into the room in front of its payload: nothing is copied.
ExtentWriter::Submitted ExtentWriter::submit_lone(AppendQueue& queue, bool moves) {
  Append& a = *queue.head;
  const auto padded = static_cast<uint32_t>(base::align_up(a.header.payload_bytes, base::kSectorBytes));
  const Group extent{1, base::kSectorBytes, base::kSectorBytes + padded, entry_bytes_of(a)};
  const uint32_t sectors = extent.extent_bytes / base::kSectorBytes;
  if (!fits(sectors, extent.footer_bytes)) return Submitted::kSegmentIsFull;
  std::byte* memory = a.payload - base::kSectorBytes;
  std::memset(a.payload + a.header.payload_bytes, 0, padded - a.header.payload_bytes);
  a.header.payload_place = base::kSectorBytes / format::kPackBytes;
  format::ExtentBuilder builder({memory, base::kSectorBytes});
  MEMKV_ASSERT(builder.append(a.header, a.key, a.sums, a.ranges));
  queue.pop();
  if (moves) moved_sectors_ += sectors;
  submit_extent(builder, extent, &a, memory, nullptr);
  return Submitted::kYes;
}

/// Small records that wait share an extent: headers first, then payloads, all copied into one buffer.
ExtentWriter::Submitted ExtentWriter::submit_group(AppendQueue& queue, bool moves) {
  if (buffers_ == config_.buffers_max) return Submitted::kNoBuffer;
  std::byte* memory = extent_buffers_.take_extent_buffer();
  if (memory == nullptr) return Submitted::kNoBuffer;
  const Group group = choose_group(queue);
  if (group.count == 0) {
    extent_buffers_.give_extent_buffer(memory);
    return Submitted::kSegmentIsFull;
  }
  if (moves) moved_sectors_ += group.extent_bytes / base::kSectorBytes;
  format::ExtentBuilder builder({memory, group.header_bytes});
  Append* records = fill_group(group, queue, memory, builder);
  ++buffers_;
  submit_extent(builder, group, records, memory, memory);
  return Submitted::kYes;
}

/// How many records fit. The payloads stand behind all headers, and since those end on a sector, a payload's place
/// behind them does not depend on how long they are. The note of the extent before takes what is left of the headers'
/// last sector, or, behind many records, a sector of its own.
ExtentWriter::Group ExtentWriter::choose_group(const AppendQueue& queue) const {
  Group group;
  uint64_t headers = sizeof(format::ExtentHeader), payloads = 0;
  for (const Append* a = queue.head; a != nullptr && !a->lone && group.count < kRecordsPerExtentMax; a = a->next) {
    headers += header_bytes_of(*a);
    payloads = payload_start(payloads, a->header.payload_bytes) + a->header.payload_bytes;
    const uint64_t with_note = headers + (payloads < kNotePays ? 0 : note_.bytes());
    const uint64_t header_bytes = base::align_up(with_note, base::kSectorBytes);
    const uint64_t end = base::align_up(header_bytes + payloads, base::kSectorBytes);
    const uint32_t footer = group.footer_bytes + entry_bytes_of(*a);
    if (end > kExtentBufferBytes || !fits(static_cast<uint32_t>(end / base::kSectorBytes), footer)) break;
    group = {group.count + 1, static_cast<uint32_t>(header_bytes), static_cast<uint32_t>(end), footer};
    if (group.count >= kRecordsEnough && end > kExtentBufferBytes / 2) break;
  }
  return group;
}

/// Takes the group's records off the queue; returns them as a list.
Append* ExtentWriter::fill_group(const Group& group, AppendQueue& queue, std::byte* memory,
                                 format::ExtentBuilder& builder) {
  AppendQueue chosen;
  uint64_t at = group.header_bytes;
  for (uint64_t i = 0; i < group.count; ++i) {
    Append& a = *queue.pop();
    const uint64_t start = payload_start(at, a.header.payload_bytes);
    std::memset(memory + at, 0, start - at);
    if (a.header.payload_bytes != 0) std::memcpy(memory + start, a.payload, a.header.payload_bytes);
    a.header.payload_place = static_cast<uint32_t>(start / format::kPackBytes);
    MEMKV_ASSERT(builder.append(a.header, a.key, a.sums, a.ranges));
    at = start + a.header.payload_bytes;
    chosen.push(a);
  }
  MEMKV_ASSERT(at <= group.extent_bytes && group.extent_bytes <= kExtentBufferBytes);
  std::memset(memory + at, 0, group.extent_bytes - at);
  return chosen.head;
}

void ExtentWriter::submit_mark() {
  MEMKV_ASSERT(!marked_ && idle() && fits(1, 0));
  format::ExtentBuilder builder({mark_, base::kSectorBytes});
  submit_extent(builder, {0, base::kSectorBytes, base::kSectorBytes, 0}, nullptr, mark_, nullptr);
  marked_ = true;
}

/// Finishes the extent's header and writes it, where the last one ends.
void ExtentWriter::submit_extent(format::ExtentBuilder& builder, const Group& extent, Append* records,
                                 std::byte* memory, std::byte* buffer) {
  Write& w = writes_[(first_ + in_flight_) % writes_.size()];
  w.records = records;
  w.buffer = buffer;
  w.sectors = extent.extent_bytes / base::kSectorBytes;
  w.footer_bytes = extent.footer_bytes;
  w.chain_before = tail_.chain;
  w.start_sector = tail_.sector;
  w.oldest = segments_.oldest();
  w.done = false;
  tail_.chain = finish_header(builder, extent.header_bytes, extent.extent_bytes);
  note_.take(tail_.sector, records);
  marked_ = config_.memory_mode;
  tail_.sector += w.sectors;
  footer_.reserve(w.footer_bytes);
  ++in_flight_;
  bytes_in_flight_ += extent.extent_bytes;
  counters_.device_bytes_written += extent.extent_bytes;
  if (!rules().answered_late && w.records != nullptr) {  // the rule is taken out: as if it were written
    acknowledge(w);
    w.records = nullptr;
  }
  w.device.start(memory, extent.extent_bytes, segments_.place_of_sector(segments_.newest(), w.start_sector));
}

/// Returns the checksum.
uint64_t ExtentWriter::finish_header(format::ExtentBuilder& builder, uint32_t header_bytes, uint32_t extent_bytes) {
  format::ExtentHeader h{};
  h.epoch = segments_.newest();
  h.previous_checksum = tail_.chain;
  h.sector_in_segment = tail_.sector;
  h.header_bytes = header_bytes;
  h.extent_bytes = extent_bytes;
  h.complete_epoch = progress_.complete_epoch;
  h.complete_sector = progress_.complete_sector;
  h.live_epochs = static_cast<uint32_t>(segments_.newest() - segments_.oldest() + 1);
  note_.add_to(builder);
  return builder.finish(h, seed_);
}

// --- completing them

void ExtentWriter::on_write(io::IoOp& op, int32_t result) {
  Write& w = *static_cast<Write*>(op.context);
  MEMKV_ASSERT(!w.done);
  w.done = true;
  const bool whole = result >= 0 && static_cast<uint64_t>(result) == w.device.bytes();
  w.result = whole ? 0 : result < 0 ? result : kShortWrite;
  ExtentWriter& writer = *w.writer;
  if (!rules().acknowledged_in_order && whole && w.records != nullptr) {  // the rule is taken out: each for itself
    writer.acknowledge(w);
    w.records = nullptr;
  }
  writer.owner_.on_extent_written();
}

ExtentWriter::Completed ExtentWriter::complete() {
  Completed completed;
  while (in_flight_ > 0 && front().done && front().result == 0) {
    Write& w = front();
    completed.some = true;
    evictions_.extent_says(w.oldest);
    pop_front();
    progress_.complete_epoch = segments_.newest();
    progress_.complete_sector = w.start_sector + w.sectors;
    if (w.records == nullptr) continue;
    progress_.told_epoch = progress_.complete_epoch;
    progress_.told_sector = progress_.complete_sector;
    acknowledge(w);
  }
  completed.failed = in_flight_ > 0 && front().done;
  completed.all_are_back = completed.failed;
  for (uint32_t i = 0; i < in_flight_ && completed.failed; ++i)
    completed.all_are_back &= writes_[(first_ + i) % writes_.size()].done;
  return completed;
}

/// Its place in the ring is free, though what is in it stays until the next one is submitted.
void ExtentWriter::pop_front() {
  MEMKV_ASSERT(in_flight_ > 0 && front().done);
  Write& w = front();
  first_ = (first_ + 1) % static_cast<uint32_t>(writes_.size());
  --in_flight_;
  bytes_in_flight_ -= w.device.bytes();
  if (w.buffer == nullptr) return;
  --buffers_;
  extent_buffers_.give_extent_buffer(w.buffer);
}

int32_t ExtentWriter::take_failed(AppendQueue& fresh, AppendQueue& moves) {
  MEMKV_ASSERT(in_flight_ > 0 && front().result != 0);
  const int32_t result = front().result;
  tail_ = {front().start_sector, front().chain_before};
  while (in_flight_ > 0) {
    Write& w = front();
    footer_.give_back(w.footer_bytes);
    Append* next = nullptr;
    for (Append* a = w.records; a != nullptr; a = next) {
      next = a->next;
      (a->move ? moves : fresh).push(*a);
    }
    pop_front();
  }
  note_.forget();
  marked_ = config_.memory_mode;
  return result;
}

void ExtentWriter::acknowledge(Write& w) {
  const uint64_t extent_at = uint64_t{w.start_sector} * base::kSectorBytes;
  const uint64_t segment_at = segments_.place_of(segments_.newest());
  Append* next = nullptr;
  for (Append* a = w.records; a != nullptr; a = next) {
    next = a->next;
    const uint64_t in_segment = extent_at + uint64_t{a->header.payload_place} * format::kPackBytes;
    format::RecordHeader entry = a->header;
    entry.payload_place = static_cast<uint32_t>(in_segment / format::kPackBytes);
    entry.key_bytes = static_cast<uint16_t>(a->key.size());
    entry.grain_count = static_cast<uint16_t>(a->sums.size());
    entry.range_count = static_cast<uint8_t>(a->ranges.size());
    const bool head = entry.kind == format::RecordKind::kHead;
    const base::Bytes head_payload = head ? base::Bytes(a->payload, entry.payload_bytes) : base::Bytes();
    if (!config_.memory_mode) MEMKV_ASSERT(footer_.add(entry, head_payload));
    footer_.saw_sequence(entry.sequence);
    a->place = {config_.slice.drive_index, (segment_at + in_segment) / format::kPackBytes};
    a->epoch = segments_.newest();
    finished_.add(*a, Status::kOk);
  }
}

}  // namespace memkv::engine
