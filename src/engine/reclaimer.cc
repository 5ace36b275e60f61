#include "engine/reclaimer.h"

#include <algorithm>
#include <new>

#include "base/log.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kManySegments = 32;
constexpr uint64_t kFreeOfMany = 4, kFreeOfFew = 3;  // segments that a log is to have free
constexpr uint64_t kIndexSpare = 64;                 // entries
constexpr uint64_t kIndexSpareShare = 32;            // and one in so many of all entries

}  // namespace

Reclaimer::Reclaimer(Parts& parts) : parts_(parts), moves_(parts), wanted_(parts.drives.count()) {
  if (!renew_walk()) throw std::bad_alloc();
}

/// False: there is no memory for its buffer now. Then reclaim rests, and asks again when it is to begin.
bool Reclaimer::renew_walk() {
  if (!walk_) walk_ = std::make_unique<SegmentWalk>(parts_, moves_, *this);
  return walk_->take_buffer();
}

void Reclaimer::on_segment_needed(uint8_t drive) {
  MEMKV_ASSERT(drive < wanted_.size());
  wanted_[drive] = 1;
  if (!walk_->active() && !parts_.tick.closing()) start();
}

void Reclaimer::on_oldest_unpinned(uint8_t drive) {
  if (wanted_[drive] != 0) start();
}

/// The drive that reclaim was at is out. What that drive has in flight keeps its buffer; the other drives' turn goes on
/// in another one.
void Reclaimer::on_drives_stopped() {
  if (!walk_->active() || !walk_->log().out() || !walk_->stuck()) return;
  walk_->leave();
  left_walks_.push_back(std::move(walk_));
  if (!renew_walk())
    MEMKV_LOG_EVERY(10, kError, "shard {}: no memory for reclaim; it is tried again", parts_.options.shard);
}

void Reclaimer::on_left_walk_returned(SegmentWalk& walk) {
  const size_t gone = std::erase_if(left_walks_, [&](const auto& left) { return left.get() == &walk; });
  MEMKV_ASSERT(gone == 1, "it was not left");
}

void Reclaimer::start() {
  if (walk_->active() || parts_.tick.closing() || (!walk_->has_buffer() && !renew_walk())) return;
  for (size_t i = 0; i < wanted_.size(); ++i) {
    const size_t d = (next_drive_ + i) % wanted_.size();
    if (!is_ready(static_cast<uint8_t>(d))) continue;
    next_drive_ = d + 1;
    parts_.tick.start();
    return walk_->begin(*parts_.drives.log_of(static_cast<uint8_t>(d)));
  }
}

bool Reclaimer::is_ready(uint8_t drive) {
  const Log* log = parts_.drives.usable_log(drive);
  if (!wanted_[drive] || log == nullptr || parts_.drives.lags(*log) || log->refusal() != Status::kOk) return false;
  if (!log->segments().can_free()) wanted_[drive] = 0;
  return log->segments().can_free() && !log->segments().oldest_waits();
}

/// Everything was decided: the segment is free once no read is in it.
void Reclaimer::on_walk_ended(SegmentWalk& walk) {
  Log& log = walk.log();
  if (log.out() || parts_.tick.closing()) return;
  if (walk.blind()) {
    parts_.blocks.evict_all_in(log, walk.epoch());
    parts_.uploads.lose_chunks_in(log, walk.epoch());
  }
  const uint8_t drive = log.config().slice.drive_index;
  if (log.segments().pins(walk.epoch()) > 0 && rules().freed_waits) {
    log.segments().decide_oldest();  // the last unpin asks again; what was moved meanwhile is not moved twice
    wanted_[drive] = 1;
    return start();
  }
  log.free_oldest();
  const uint64_t enough = log.segments().count() >= kManySegments ? kFreeOfMany : kFreeOfFew;
  if (log.segments().free() >= std::min<uint64_t>(enough, log.segments().count() - 1) && !helps_index())
    wanted_[drive] = 0;
  start();
}

/// The index is nearly full. Reclaim goes by age of segments, whosever they are: it makes room in the index only where
/// all entries are of one namespace.
bool Reclaimer::helps_index() const {
  const Blocks& blocks = parts_.blocks;
  const uint64_t spare = blocks.entries_max() / kIndexSpareShare;
  if (blocks.entries() + parts_.pool.new_entries() + kIndexSpare <= blocks.entries_max() - spare) return false;
  uint64_t namespaces = 0;
  for (uint16_t i = 0; i < blocks.namespace_count(); ++i) namespaces += blocks.entries_of(i) > 0 ? 1 : 0;
  return namespaces <= 1;
}

}  // namespace memkv::engine
