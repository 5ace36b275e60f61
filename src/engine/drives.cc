/// The drives of a store: which of them takes a block, and what happens when one leaves.

#include <algorithm>

#include "base/log.h"
#include "base/random.h"
#include "engine/store_impl.h"
#include "engine/test_rules.h"

namespace memkv::engine {

/// By digest, weighted by capacity; chunks of a block start there and go on over stripe_width drives.
Log* StoreImpl::choose_log(Digest digest, uint32_t chunk, uint32_t attempt) const {
  uint64_t total = 0;
  for (const DriveSlice& s : options_.slices) total += s.size_bytes >> 12;
  if (total == 0) return nullptr;
  uint64_t at = base::mix64(digest.hi) % total;
  size_t first = 0;
  while (at >= options_.slices[first].size_bytes >> 12) at -= options_.slices[first++].size_bytes >> 12;
  const size_t n = logs_.size();
  const size_t width = std::max<size_t>(1, std::min<size_t>(options_.stripe_width, n));
  for (size_t i = 0; i < n; ++i) {
    Log* log = usable_log(static_cast<uint8_t>((first + chunk % width + attempt + i) % n));
    if (log != nullptr) return log;
  }
  return nullptr;
}

void StoreImpl::on_log_failed(uint8_t drive, const char* why) {
  MEMKV_LOG(kWarn, "shard {}: drive {} is taken out: {}", options_.shard, drive, why);
  if (options_.on_drive_out == nullptr) return;
  if (rules().membership) leaving_ |= uint64_t{1} << drive;
  options_.on_drive_out(options_.on_drive_out_context, drive, why);
}

void StoreImpl::take_drive_out(uint8_t drive_index, const char*) {
  Log* log = log_of(drive_index);
  if (log != nullptr && !log->out()) log->stop(Status::kIo);
  leaving_ &= ~(uint64_t{1} << drive_index);
  if (leaving_ == 0) release_held();
}

}  // namespace memkv::engine
