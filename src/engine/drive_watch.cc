#include "engine/drive_watch.h"

#include <algorithm>

#include "base/assert.h"
#include "engine/tick.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kLagNs = 100'000'000;         // overtaken by so much, a drive lags
constexpr uint64_t kAloneNs = 1'000'000'000;     // an op in flight so long, while the other drives idle, lags too
constexpr uint64_t kCrawlNs = 1'000'000'000;     // overtaken by so much, it crawls
constexpr uint64_t kCrawlForNs = 5'000'000'000;  // so long in all, less the time that it did not: it goes out
constexpr uint64_t kLaggingOpsMax = 128;         // in flight on a drive that lags, of a worker
constexpr uint64_t kLaggingBytesMax = 8 << 20;   // likewise

}  // namespace

/// nullptr: the drive is out, or does not tell.
const io::DriveLoad* DriveWatch::load_of(size_t drive) const {
  const Log* log = logs_[drive].get();
  return log == nullptr || log->out() ? nullptr : log->config().slice.device->load();
}

/// By how much the other drives have overtaken this one: the most that any of them finished an op submitted after our
/// oldest unfinished one.
uint64_t DriveWatch::overtaken_ns(size_t drive) const {
  const io::DriveLoad* load = load_of(drive);
  uint64_t most = 0;
  for (size_t d = 0; load != nullptr && d < logs_.size(); ++d) {
    const io::DriveLoad* other = load_of(d);
    if (other != nullptr && d != drive) most = std::max(most, load->overtaken_ns(*other));
  }
  return most;
}

void DriveWatch::look_at_wait(size_t drive) {
  const io::DriveLoad* load = load_of(drive);
  const uint64_t oldest = load == nullptr ? 0 : load->oldest_since_ns();
  Wait& wait = waits_[drive];
  const bool same = oldest != 0 && oldest == wait.oldest_since_ns;
  wait = {oldest, same ? wait.ns + step_ns_ : 0};
}

/// Nothing can overtake a drive that hangs while the others have nothing to do: then time alone tells.
bool DriveWatch::hangs_while_others_idle(size_t drive) const {
  if (waits_[drive].ns < kAloneNs) return false;
  bool others = false;
  for (size_t d = 0; d < logs_.size(); ++d) {
    if (d == drive || load_of(d) == nullptr) continue;
    if (waits_[d].ns >= kLagNs) return false;
    others = true;
  }
  return others;
}

void DriveWatch::look(uint64_t now_ns) {
  MEMKV_ASSERT(now_ns >= looked_ns_ && logs_.size() <= format::kDrivesMax);
  step_ns_ = std::min(now_ns - looked_ns_, 2 * kTickNs);  // a process that stood still learnt nothing
  looked_ns_ = now_ns;
  lagging_ = 0;
  for (size_t d = 0; d < logs_.size(); ++d) look_at_wait(d);
  for (size_t d = 0; d < logs_.size(); ++d) {
    if (overtaken_ns(d) >= kLagNs || hangs_while_others_idle(d)) lagging_ |= uint64_t{1} << d;
  }
}

bool DriveWatch::crawls(uint8_t drive) {
  MEMKV_ASSERT(drive < logs_.size());
  uint64_t& crawled = crawled_ns_[drive];
  if (!lags(drive) || overtaken_ns(drive) < kCrawlNs) {
    crawled -= std::min(crawled, step_ns_);
    return false;
  }
  crawled += step_ns_;
  const bool others_go_on = std::any_of(logs_.begin(), logs_.end(), [this](const auto& log) {
    return log && !log->out() && !lags(log->config().slice.drive_index);
  });
  if (crawled < kCrawlForNs || !others_go_on) return false;
  crawled = 0;
  return true;
}

bool DriveWatch::at_lagging_limit(uint8_t drive) const {
  if (!lags(drive)) return false;
  MEMKV_ASSERT(logs_[drive] != nullptr, "a drive without a log is not watched");
  const io::DriveLoad& load = *logs_[drive]->config().slice.device->load();
  return load.ops() >= kLaggingOpsMax || load.bytes() >= kLaggingBytesMax;
}

}  // namespace memkv::engine
