#include "engine/record_load.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"
#include "base/bytes.h"

namespace memkv::engine {

GrainSpan grains_covering(uint64_t from, uint64_t to, uint64_t length) {
  const uint64_t end = std::min(base::align_up(to, base::kGrainBytes), base::align_up(length, base::kSectorBytes));
  return {base::align_down(from, base::kGrainBytes), end};
}

uint64_t load_bytes(const RecordRef& record, GrainSpan span) {
  if (record.lone()) return span.to - span.from;
  return base::align_up(record.place.pack * format::kPackBytes % base::kSectorBytes + record.length,
                        base::kSectorBytes);
}

bool RecordLoad::find(const Drives& drives, const RecordRef& record) {
  MEMKV_ASSERT(!pinned_ && in_flight_ == 0, "one record at a time");
  record_ = record;
  result_ = 0;
  log_ = drives.usable_log(record.place.drive);
  epoch_ = log_ == nullptr ? 0 : log_->segments().epoch_at(offset());
  return epoch_ != 0;
}

bool RecordLoad::pin_in_place(const Drives& drives, const RecordRef& record) {
  if (!find(drives, record)) return false;
  log_->segments().pin(epoch_);
  pinned_ = true;
  return true;
}

void RecordLoad::use_copy(const Drives& drives, const RecordRef& record) {
  MEMKV_ASSERT(!pinned_ && in_flight_ == 0, "one record at a time");
  record_ = record;
  result_ = 0;
  log_ = drives.log_of(record.place.drive);  // out or not: it knows how its headers are sealed
  MEMKV_ASSERT(log_ != nullptr);
}

RecordLoad::Started RecordLoad::start(const Drives& drives, const RecordRef& record, GrainSpan span, std::byte* buffer,
                                      bool with_header, Then then) {
  if (!find(drives, record)) return Started::kNowhere;
  then_ = then;
  const uint64_t at = offset();
  bool ok = true;
  if (!record.lone()) {
    const uint64_t start = base::align_down(at, base::kSectorBytes);
    ok = submit(0, start, buffer, base::align_up(at + record.length, base::kSectorBytes) - start);
  } else if (with_header && span.from == 0) {
    ok = submit(0, at - base::kSectorBytes, buffer - base::kSectorBytes, base::kSectorBytes + span.to);
  } else {
    ok = submit(0, at + span.from, buffer, span.to - span.from);
    if (ok && with_header && !submit(1, at - base::kSectorBytes, buffer - base::kSectorBytes, base::kSectorBytes))
      result_ = -EBUSY;
  }
  if (!ok) return Started::kBusy;
  log_->segments().pin(epoch_);
  pinned_ = true;
  return Started::kYes;
}

bool RecordLoad::submit(size_t which, uint64_t offset, std::byte* memory, uint64_t bytes) {
  piece_[which] = {memory, bytes};
  io_[which].on_done = on_io;
  io_[which].context = this;
  if (!log_->device().read(io_[which], offset, {&piece_[which], 1}).ok()) return false;
  ++in_flight_;
  return true;
}

void RecordLoad::on_io(io::IoOp& op, int32_t result) {
  RecordLoad& load = *static_cast<RecordLoad*>(op.context);
  MEMKV_ASSERT(load.pinned_ && load.in_flight_ > 0);
  if (result < 0) load.result_ = result;
  if (--load.in_flight_ == 0) load.then_();
}

void RecordLoad::release() {
  MEMKV_ASSERT(pinned_ && in_flight_ == 0, "the drive has its memory");
  pinned_ = false;
  log_->unpin(epoch_);
}

bool RecordLoad::was_busy() const { return result_ == -EBUSY; }

bool RecordLoad::read_header(const std::byte* header, Digest digest, uint32_t chunk, format::RecordView& view) const {
  const base::Bytes bytes(header, base::kSectorBytes);
  auto extent = format::open_extent(bytes, log_->extents().seed());
  if (!extent) return false;
  format::RecordReader reader(*extent, bytes);
  auto next = reader.next(view);
  if (!next || !*next) return false;
  return view.header.digest[0] == digest.lo && view.header.digest[1] == digest.hi && view.header.chunk_number == chunk;
}

}  // namespace memkv::engine
