/// read_key: the key of a record, from the extent header before it. Off the data path: for listings.

#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/store_impl.h"

namespace memkv::engine {

/// Looks for the extent header of one record in the blocks before its payload, nearest first: an extent has one header,
/// it says where it lies, and no record lies farther behind it than an extent is long. So the cost does not depend on
/// what else the segment holds: one read, or two where a large header and many records stand between.
///
/// Owned by itself: goes with end().
class KeySearch {
 public:
  static void start(StoreImpl& store, StoreImpl::KeyOp& op);

 private:
  /// Read in turn until the header is found: directly before a lone record; most extents that records share are not
  /// longer than the second.
  static constexpr uint64_t kWindows[] = {base::kSectorBytes, 64 << 10, kExtentBufferBytes};

  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  KeySearch(OpState& state, Log& log, uint64_t epoch, uint64_t payload, uint64_t sequence, bool lone);
  uint64_t first_sector() const { return log_.segment_start(epoch_) + base::kSectorBytes; }
  void read();
  void on_read(int32_t result);
  bool find_header(base::Bytes window);
  bool find_record(const format::ExtentHeader& extent, base::Bytes bytes);
  void end(Status status);

  OpState& state_;
  Log& log_;
  const uint64_t epoch_;
  const uint64_t end_;  ///< of the blocks that can hold the header
  const uint64_t sequence_;
  size_t window_;
  uint64_t begin_ = 0;  ///< of the blocks read
  std::unique_ptr<std::byte, Free> memory_;
};

void StoreImpl::read_key(KeyOp& op) { KeySearch::start(*this, op); }

void KeySearch::start(StoreImpl& store, StoreImpl::KeyOp& op) {
  const Entry* entry = store.live(op.key.digest);
  if (entry == nullptr) return store.complete(op, Status::kMiss);
  const uint64_t payload = entry->place().pack * format::kPackBytes;
  const uint64_t sequence = entry->sequence();
  const bool lone = store.ref_of(*entry).lone();
  Log& log = *store.log_of(entry->place().drive);
  const uint64_t epoch = log.epoch_at(payload);
  if (epoch == 0) return store.complete(op, Status::kMiss);
  OpState* state = store.take_state(op);
  if (state == nullptr) return;
  state->digest = op.key.digest;
  auto* search = new KeySearch(*state, log, epoch, payload, sequence, lone);
  search->read();
}

KeySearch::KeySearch(OpState& state, Log& log, uint64_t epoch, uint64_t payload, uint64_t sequence, bool lone)
    : state_(state),
      log_(log),
      epoch_(epoch),
      end_(base::align_up(payload, base::kSectorBytes)),
      sequence_(sequence),
      window_(lone ? 0 : 1) {
  log_.pin(epoch_);
}

/// The blocks before the payload, fewer where the segment begins.
void KeySearch::read() {
  begin_ = std::max(first_sector(), end_ - std::min(end_, kWindows[window_]));
  if (begin_ >= end_) return end(Status::kMiss);
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(base::kSectorBytes, end_ - begin_)));
  if (!memory_) return end(Status::kBusy);
  state_.piece[0] = {memory_.get(), end_ - begin_};
  state_.io[0].context = this;
  state_.io[0].on_done = [](io::IoOp& io, int32_t result) { static_cast<KeySearch*>(io.context)->on_read(result); };
  if (!log_.device().read(state_.io[0], begin_, {&state_.piece[0], 1}).ok()) end(Status::kBusy);
}

void KeySearch::on_read(int32_t result) {
  if (result < 0) return end(Status::kMiss);
  if (find_header({memory_.get(), end_ - begin_})) return end(Status::kOk);
  if (begin_ == first_sector() || ++window_ == std::size(kWindows)) return end(Status::kMiss);
  read();
}

/// What a tenant wrote may look like a header; that it names the record's digest it cannot arrange.
bool KeySearch::find_header(base::Bytes window) {
  for (uint64_t at = window.size(); at >= base::kSectorBytes;) {
    at -= base::kSectorBytes;
    const base::Bytes bytes = window.subspan(at);
    const auto peeked = format::peek_extent(bytes);
    if (!peeked || peeked->header_bytes > bytes.size()) continue;
    const auto extent = format::open_extent(bytes, log_.seed());
    const uint64_t block = (begin_ + at - log_.segment_start(epoch_)) / base::kSectorBytes;
    if (!extent || extent->epoch != epoch_ || extent->sector_in_segment != block) continue;
    if (find_record(*extent, bytes)) return true;
  }
  return false;
}

bool KeySearch::find_record(const format::ExtentHeader& extent, base::Bytes bytes) {
  format::RecordReader reader(extent, bytes);
  format::RecordView view;
  for (auto next = reader.next(view); next && *next; next = reader.next(view)) {
    const format::RecordHeader& header = view.header;
    const bool wanted = header.sequence == sequence_ && header.digest[0] == state_.digest.lo &&
                        header.digest[1] == state_.digest.hi && !view.key.empty();
    if (!wanted) continue;
    auto& op = static_cast<StoreImpl::KeyOp&>(*state_.op);
    std::memcpy(op.key_out, view.key.data(), view.key.size());
    op.key_bytes_out = static_cast<uint16_t>(view.key.size());
    return true;
  }
  return false;
}

void KeySearch::end(Status status) {
  const std::unique_ptr<KeySearch> self(this);
  log_.unpin(epoch_);
  state_.store->finish(state_, status);
}

}  // namespace memkv::engine
