#include "engine/ops/read_key.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"

namespace memkv::engine {

void ReadKey::start(Parts& parts, Store::KeyOp& op) {
  const Entry* entry = parts.blocks.find_usable(op.key.digest);
  if (entry == nullptr) return parts.completions.add(op, Status::kMiss);
  Log& log = *parts.drives.log_of(entry->place().drive);
  const uint64_t epoch = log.segments().epoch_at(entry->place().pack * format::kPackBytes);
  if (epoch == 0) return parts.completions.add(op, Status::kMiss);
  ReadKey* read_key = parts.pool.make<ReadKey>(op, parts, op, *entry, log, epoch);
  if (read_key != nullptr) read_key->read();
}

ReadKey::ReadKey(Parts& parts, Store::KeyOp& op, const Entry& entry, Log& log, uint64_t epoch)
    : parts_(parts),
      op_(op),
      log_(log),
      epoch_(epoch),
      end_(base::align_up(entry.place().pack * format::kPackBytes, base::kSectorBytes)),
      sequence_(entry.sequence()),
      window_(Blocks::ref_of(entry).lone() ? 0 : 1) {
  log_.segments().pin(epoch_);
}

/// The sectors before the payload, fewer where the segment begins.
void ReadKey::read() {
  MEMKV_ASSERT(window_ < std::size(kWindows) && !io_.pending());
  begin_ = std::max(first_sector(), end_ - std::min(end_, kWindows[window_]));
  if (begin_ >= end_) return end(Status::kMiss);
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(base::kSectorBytes, end_ - begin_)));
  if (!memory_) return end(Status::kBusy);
  piece_ = {memory_.get(), end_ - begin_};
  io_.context = this;
  io_.on_done = [](io::IoOp& io, int32_t result) { static_cast<ReadKey*>(io.context)->on_read(result); };
  if (!log_.device().read(io_, begin_, {&piece_, 1}).ok()) end(Status::kBusy);
}

void ReadKey::on_read(int32_t result) {
  if (result < 0) return end(Status::kMiss);
  if (find_header({memory_.get(), end_ - begin_})) return end(Status::kOk);
  if (begin_ == first_sector() || ++window_ == std::size(kWindows)) return end(Status::kMiss);
  read();
}

/// What a tenant wrote may look like a header; that it names the record's digest it cannot arrange.
bool ReadKey::find_header(base::Bytes window) {
  for (uint64_t at = window.size(); at >= base::kSectorBytes;) {
    at -= base::kSectorBytes;
    const base::Bytes bytes = window.subspan(at);
    const auto peeked = format::peek_extent(bytes);
    if (!peeked || peeked->header_bytes > bytes.size()) continue;
    // Memory mode: while rooms of the extent are open, its header is not hashed yet.
    const auto extent = parts_.options.memory_mode ? peeked : format::open_extent(bytes, log_.extents().seed());
    const uint64_t sector = (begin_ + at - log_.segments().place_of(epoch_)) / base::kSectorBytes;
    if (!extent || extent->epoch != epoch_ || extent->sector_in_segment != sector) continue;
    if (find_record(*extent, bytes)) return true;
  }
  return false;
}

bool ReadKey::find_record(const format::ExtentHeader& extent, base::Bytes bytes) {
  format::RecordReader reader(extent, bytes);
  format::RecordView view;
  for (auto next = reader.next(view); next && *next; next = reader.next(view)) {
    const format::RecordHeader& header = view.header;
    const bool wanted = header.sequence == sequence_ && header.digest[0] == op_.key.digest.lo &&
                        header.digest[1] == op_.key.digest.hi && !view.key.empty() && view.key.size() <= kKeyBytesMax;
    if (!wanted) continue;
    std::memcpy(op_.key_out, view.key.data(), view.key.size());
    op_.key_bytes_out = static_cast<uint16_t>(view.key.size());
    return true;
  }
  return false;
}

void ReadKey::end(Status status) {
  log_.unpin(epoch_);
  Parts& parts = parts_;
  Store::KeyOp& op = op_;
  parts.pool.free(*this);
  parts.completions.add(op, status);
}

}  // namespace memkv::engine
