/// The drives of a store: which of them takes a block, and what happens when one leaves.

#include <algorithm>

#include "base/log.h"
#include "base/random.h"
#include "engine/store_impl.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kLagNs = 100'000'000;      // overtaken by so much, a drive lags
constexpr uint64_t kAloneNs = 1'000'000'000;  // an op in flight so long, where no other drive makes us wait, lags too
constexpr uint64_t kCrawlNs = 1'000'000'000;  // by so much, it crawls
constexpr uint64_t kCrawlForNs = 5'000'000'000;  // so long in all, less the time that it did not: it goes out
constexpr uint64_t kQueueBytes = 1 << 20;        // queued for a drive beyond another's: new records go to the other
constexpr uint64_t kLaggingOpsMax = 128;         // in flight on a drive that lags, of a worker
constexpr uint64_t kLaggingBytesMax = 8 << 20;   // likewise

}  // namespace

/// By digest, weighted by capacity; chunks of a block start there and go on over stripe_width drives. Drives that lag
/// are passed over.
Log* StoreImpl::choose_log(Digest digest, uint32_t chunk, uint32_t attempt) const {
  uint64_t total = 0;
  for (const DriveSlice& s : options_.slices) total += s.size_bytes >> 12;
  if (total == 0) return nullptr;
  uint64_t at = base::mix64(digest.hi) % total;
  size_t first = 0;
  while (at >= options_.slices[first].size_bytes >> 12) at -= options_.slices[first++].size_bytes >> 12;
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
Log* StoreImpl::less_busy(Log* home) const {
  if (home == nullptr || home->queued_bytes() < kQueueBytes) return home;
  Log* least = home;
  for (size_t d = 0; d < logs_.size(); ++d) {
    Log* log = usable_log(static_cast<uint8_t>(d));
    if (log != nullptr && !lags(*log) && log->queued_bytes() < least->queued_bytes()) least = log;
  }
  return least->queued_bytes() + kQueueBytes <= home->queued_bytes() ? least : home;
}

/// A drive that went out while it was written: the membership without it is durable, so what landed there is lost.
Status StoreImpl::landed(const Append& a) const {
  return a.status == Status::kOk && usable_log(a.place.drive) == nullptr ? Status::kIo : a.status;
}

bool StoreImpl::is_last_drive(uint8_t drive) const {
  for (size_t d = 0; d < logs_.size(); ++d) {
    if (d != drive && usable_log(static_cast<uint8_t>(d)) != nullptr) return false;
  }
  return true;
}

bool StoreImpl::all_out() const {
  return !closing_ && std::all_of(logs_.begin(), logs_.end(), [](const auto& log) { return !log || log->out(); });
}

/// nullptr: the drive is out.
const io::DriveLoad* StoreImpl::load_of(uint8_t drive) const {
  const Log* log = usable_log(drive);
  return log == nullptr ? nullptr : log->config().slice.device->load();
}

/// How much later than the drive's oldest op in flight another one was given that its drive has done already. Other
/// drives are the measure: where all of them wait, as on a machine that stands still, none lags.
uint64_t StoreImpl::overtaken_ns(uint8_t drive) const {
  const io::DriveLoad* load = load_of(drive);
  uint64_t most = 0;
  for (size_t d = 0; load != nullptr && d < logs_.size(); ++d) {
    const io::DriveLoad* other = load_of(static_cast<uint8_t>(d));
    if (other != nullptr && d != drive) most = std::max(most, load->overtaken_ns(*other));
  }
  return most;
}

void StoreImpl::watch_wait(uint8_t drive, uint64_t step_ns) {
  const io::DriveLoad* load = load_of(drive);
  const uint64_t oldest = load == nullptr ? 0 : load->oldest_since_ns();
  Wait& wait = waits_[drive];
  const bool same = oldest != 0 && oldest == wait.oldest_since_ns;
  wait = {oldest, same ? wait.ns + step_ns : 0};
}

/// Nothing can overtake a drive that hangs while the others have nothing to do: then the time alone tells.
bool StoreImpl::waits_alone(uint8_t drive) const {
  if (waits_[drive].ns < kAloneNs) return false;
  bool others = false;
  for (size_t d = 0; d < logs_.size(); ++d) {
    if (d == drive || load_of(static_cast<uint8_t>(d)) == nullptr) continue;
    if (waits_[d].ns >= kLagNs) return false;
    others = true;
  }
  return others;
}

/// Every tick. A drive that lags gets no new records and few reads; one that crawls for long is taken out.
void StoreImpl::watch_drives() {
  const uint64_t now = reactor_.now_ns();
  const uint64_t step_ns = std::min(now - watched_ns_, 2 * kTickNs);  // a process that stood still learnt nothing
  watched_ns_ = now;
  lagging_ = 0;
  for (size_t d = 0; d < logs_.size(); ++d) watch_wait(static_cast<uint8_t>(d), step_ns);
  for (size_t d = 0; d < logs_.size(); ++d) {
    const auto drive = static_cast<uint8_t>(d);
    if (overtaken_ns(drive) >= kLagNs || waits_alone(drive)) lagging_ |= uint64_t{1} << d;
  }
  for (size_t d = 0; d < logs_.size(); ++d) watch_crawling(static_cast<uint8_t>(d), step_ns);
}

void StoreImpl::watch_crawling(uint8_t drive, uint64_t step_ns) {
  uint64_t& crawled = crawled_ns_[drive];
  if (!lags(drive) || overtaken_ns(drive) < kCrawlNs) {
    crawled -= std::min(crawled, step_ns);
    return;
  }
  crawled += step_ns;
  const bool others_go_on =
      std::any_of(logs_.begin(), logs_.end(), [this](const auto& log) { return log && !log->out() && !lags(*log); });
  if (crawled < kCrawlForNs || !others_go_on) return;
  crawled = 0;
  on_log_failed(drive, "it crawls: its ops stay in flight while other drives go on");
}

bool StoreImpl::is_full(uint8_t drive) const {
  if (!lags(drive)) return false;
  const io::DriveLoad& load = *log_of(drive)->config().slice.device->load();
  return load.ops() >= kLaggingOpsMax || load.bytes() >= kLaggingBytesMax;
}

bool StoreImpl::waits_for_drive(Digest digest) const {
  const Entry* e = lagging_ == 0 ? nullptr : index_.find(digest);
  if (e == nullptr) return false;
  bool waits = lags(e->place().drive);
  for (uint32_t n = 0, count = e->has(kHead) ? chunk_count(e->checksum()) : 0; n < count && !waits; ++n) {
    const Entry* c = index_.find(chunk_digest(digest, n));
    waits = c != nullptr && lags(c->place().drive);
  }
  return waits;
}

void StoreImpl::on_log_failed(uint8_t drive, const char* why) {
  if ((taken_out_ >> drive & 1) != 0) return;  // what was in flight failed after the drive had left
  MEMKV_LOG(kWarn, "shard {}: drive {} is taken out: {}", options_.shard, drive, why);
  if (options_.on_drive_out == nullptr) return;
  if (rules().membership) leaving_ |= uint64_t{1} << drive;
  options_.on_drive_out(options_.on_drive_out_context, drive, why);
}

void StoreImpl::take_drives_out(uint64_t drives) {
  for (uint8_t d = 0; d < logs_.size(); ++d) {
    Log* log = (drives >> d & 1) != 0 ? log_of(d) : nullptr;
    if (log != nullptr && !log->out()) log->stop(Status::kIo);
  }
  leave_reclaim();
  taken_out_ |= drives;
  leaving_ &= ~drives;
  if (leaving_ == 0) release_held();
  reclaim_start();
}

}  // namespace memkv::engine
