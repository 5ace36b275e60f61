#include "engine/drives.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/log.h"
#include "base/random.h"
#include "engine/test_rules.h"
#include "format/layout.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kQueueBytes = 1 << 20;  // queued for a drive beyond another's: new records go to the other
constexpr uint64_t kSilenceNs = 5'000'000'000;

/// Of a drive that decides how many blocks it is dealt.
uint64_t weight_of(const DriveSlice& slice) { return slice.size_bytes >> 12; }

uint64_t usable_bytes_of(const DriveSlice& slice) {
  if (slice.segment_bytes == 0) return 0;
  return format::segment_count(slice.size_bytes, slice.segment_bytes) * (slice.segment_bytes - 2 * base::kSectorBytes);
}

}  // namespace

Drives::Drives(io::Reactor& reactor, const StoreOptions& options, Buffers& buffers, Tick& tick, StoreCounters& counters)
    : reactor_(reactor), options_(options), buffers_(buffers), tick_(tick) {
  MEMKV_ASSERT(options_.slices.size() <= format::kDrivesMax);
  logs_.resize(options_.slices.size());
  for (size_t d = 0; d < logs_.size(); ++d) {
    const DriveSlice& slice = options_.slices[d];
    usable_bytes_ += usable_bytes_of(slice);
    if (slice.device == nullptr) continue;
    Log::Config c;
    c.slice = slice;
    c.slice.drive_index = static_cast<uint8_t>(d);
    c.shard = options_.shard;
    std::memcpy(c.store_id, options_.store_id, sizeof c.store_id);
    c.writes_max = std::max(1u, options_.writes_in_flight_max);
    c.buffers_max = static_cast<uint32_t>(std::max<size_t>(1, buffers_.extents() / logs_.size()));
    c.memory_mode = options_.memory_mode;
    logs_[d] = std::make_unique<Log>(reactor_, c, *this, counters);
  }
}

/// By digest, weighted by capacity; chunks of a block start there and go on over stripe_width drives. Drives that lag
/// are passed over.
Log* Drives::choose_log(Digest digest, uint32_t chunk, uint32_t attempt) const {
  uint64_t total = 0;
  for (const DriveSlice& s : options_.slices) total += weight_of(s);
  if (total == 0) return nullptr;
  uint64_t at = base::mix64(digest.hi) % total;
  size_t first = 0;
  while (at >= weight_of(options_.slices[first])) at -= weight_of(options_.slices[first++]);
  const size_t n = logs_.size();
  const size_t width = std::max<size_t>(1, std::min<size_t>(options_.stripe_width, n));
  Log* late = nullptr;  // better than none
  for (size_t i = 0; i < n; ++i) {
    Log* log = usable_log(static_cast<uint8_t>((first + chunk % width + attempt + i) % n));
    if (log != nullptr && !lags(*log)) return log;
    if (late == nullptr) late = log;
  }
  return late;
}

/// What waits for one drive while others stand idle makes a batch as slow as chance deals its keys: a block of one
/// record goes to the drive with the shortest queue then. (Chunks stay in their stripe, so that a lost drive takes few
/// of the large blocks.)
Log* Drives::less_busy(Log* home) const {
  if (home == nullptr || home->queued_bytes() < kQueueBytes) return home;
  Log* least = home;
  for (size_t d = 0; d < logs_.size(); ++d) {
    Log* log = usable_log(static_cast<uint8_t>(d));
    if (log != nullptr && !lags(*log) && log->queued_bytes() < least->queued_bytes()) least = log;
  }
  return least->queued_bytes() + kQueueBytes <= home->queued_bytes() ? least : home;
}

/// Where the drive went out while it was written, the membership without it is durable: what it took is lost.
Status Drives::status_unless_drive_left(const Append& append) const {
  return append.status == Status::kOk && usable_log(append.place.drive) == nullptr ? Status::kIo : append.status;
}

/// True if recovery could meet the old record without its successor: it lies in another log, or behind it in the same
/// one (reclaim moved it meanwhile).
bool Drives::needs_own_tombstone(Place old, Place fresh) const {
  if (old.drive != fresh.drive) return true;
  const Log& log = *log_of(fresh.drive);
  const uint64_t old_epoch = log.segments().epoch_at(old.pack * format::kPackBytes);
  const uint64_t new_epoch = log.segments().epoch_at(fresh.pack * format::kPackBytes);
  return old_epoch > new_epoch || (old_epoch == new_epoch && old.pack > fresh.pack);
}

bool Drives::evicted_may_return(Digest digest) const {
  return std::any_of(logs_.begin(), logs_.end(),
                     [&](const auto& log) { return log && log->evictions().may_return(digest); });
}

/// A drive that lags gets no new records and few reads; one that crawls for long is taken out.
void Drives::watch() {
  watch_.look(reactor_.now_ns());
  for (uint8_t d = 0; d < logs_.size(); ++d) {
    if (watch_.crawls(d)) on_log_failed(d, "it crawls: its ops stay in flight while other drives go on");
  }
}

/// It may be the only drive, or be out: then nothing else is said of it.
void Drives::tell_of_silence() {
  const uint64_t now_ns = reactor_.now_ns();
  for (size_t d = 0; d < logs_.size(); ++d) {
    const io::DriveLoad* load = logs_[d] ? logs_[d]->device().load() : nullptr;
    const uint64_t since_ns = load == nullptr ? 0 : load->oldest_since_ns();
    if (since_ns == 0 || now_ns < since_ns + kSilenceNs || since_ns == told_since_ns_[d]) continue;
    told_since_ns_[d] = since_ns;
    MEMKV_LOG(kWarn, "shard {}: drive {} ({}) has not answered for {} s; {} ops are in flight there", options_.shard, d,
              logs_[d]->device().info().path, (now_ns - since_ns) / 1'000'000'000, load->ops());
  }
}

bool Drives::is_last_drive(uint8_t drive) const {
  for (size_t d = 0; d < logs_.size(); ++d) {
    if (d != drive && usable_log(static_cast<uint8_t>(d)) != nullptr) return false;
  }
  return true;
}

bool Drives::all_out() const {
  return !tick_.closing() &&
         std::all_of(logs_.begin(), logs_.end(), [](const auto& log) { return !log || log->out(); });
}

void Drives::on_log_failed(uint8_t drive, const char* why) {
  MEMKV_ASSERT(drive < logs_.size());
  if ((taken_out_ >> drive & 1) != 0) return;  // what was in flight failed after the drive had left
  MEMKV_LOG(kWarn, "shard {}: drive {} is taken out: {}", options_.shard, drive, why);
  if (options_.on_drive_out == nullptr) return;
  if (rules().membership) leaving_ |= uint64_t{1} << drive;
  options_.on_drive_out(options_.on_drive_out_context, drive, why);
}

void Drives::take_out(uint64_t drives) {
  for (uint8_t d = 0; d < logs_.size(); ++d) {
    Log* log = (drives >> d & 1) != 0 ? log_of(d) : nullptr;
    if (log != nullptr && !log->out()) log->stop(Status::kIo);
  }
  listener_->on_drives_stopped();
  taken_out_ |= drives;
  leaving_ &= ~drives;
  if (leaving_ == 0) release_held();
}

void Drives::hold(Held& change) {
  MEMKV_ASSERT(leaving_ != 0, "nothing would release it");
  change.next_held_ = nullptr;
  (held_head_ == nullptr ? held_head_ : held_tail_->next_held_) = &change;
  held_tail_ = &change;
}

void Drives::release_held() {
  Held* next = std::exchange(held_head_, nullptr);
  held_tail_ = nullptr;
  while (next != nullptr) {
    Held* change = next;
    next = change->next_held_;
    change->on_drives_left();
  }
}

/// What is in flight ends by itself; what waits for room will not get it any more.
std::vector<Log*> Drives::begin_closing() {
  MEMKV_ASSERT(tick_.closing());
  leaving_ = 0;
  for (Held* change = held_head_; change != nullptr; change = change->next_held_) change->make_unknown();
  release_held();
  std::vector<Log*> to_be_told;
  for (const auto& log : logs_) {
    if (log && !log->out() && !options_.memory_mode) to_be_told.push_back(log.get());
    if (log) log->stop(Status::kCanceled);
  }
  return to_be_told;
}

}  // namespace memkv::engine
