#include "engine/recent_evictions.h"

#include <algorithm>

#include "base/assert.h"

namespace memkv::engine {

void RecentEvictions::start(uint64_t oldest_epoch) { evicted_ = durable_ = header_ = extent_ = anchor_ = oldest_epoch; }

void RecentEvictions::begin(uint64_t epoch) {
  MEMKV_ASSERT(epoch + 1 >= evicted_, "segments go in order");
  if (!any_may_return()) std::fill(filter_.begin(), filter_.end(), 0);
  evicted_ = epoch + 1;
}

void RecentEvictions::header_says(uint64_t oldest_epoch) {
  header_ = oldest_epoch;
  update();
}

void RecentEvictions::extent_says(uint64_t oldest_epoch) {
  extent_ = std::max(extent_, oldest_epoch);
  update();
}

void RecentEvictions::anchor_says(uint64_t oldest_epoch) {
  anchor_ = std::max(anchor_, oldest_epoch);
  update();
}

/// Two of the three say so.
void RecentEvictions::update() {
  durable_ = std::max(std::min(header_, extent_), std::min(std::max(header_, extent_), anchor_));
}

}  // namespace memkv::engine
