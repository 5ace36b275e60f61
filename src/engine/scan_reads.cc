#include "engine/scan_reads.h"

#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "engine/recovery.h"

namespace memkv::engine {
namespace {

constexpr int kReadTries = 3;

}  // namespace

ScanReads::ScanReads(Recovery& recovery, Log& log) : recovery_(recovery), log_(log), ahead_(recovery.reactor(), log) {}

void ScanReads::read(uint64_t offset, std::byte* memory, uint64_t bytes) {
  const bool known = bytes == base::kSectorBytes && bad_.contains(offset);
  for (int i = 0; i < kReadTries && !known && !unreadable(); ++i) {
    if (recovery_.wait(log_, offset, memory, bytes, false) >= 0) return;
  }
  if (bytes > base::kSectorBytes) {
    for (uint64_t at = 0; at < bytes; at += base::kSectorBytes) read(offset + at, memory + at, base::kSectorBytes);
    return;
  }
  std::memset(memory, 0, bytes);
  if (unreadable() || !bad_.insert(offset).second) return;
  MEMKV_LOG(kError, "shard {}: drive {}: 4 KiB at {} cannot be read", recovery_.options().shard,
            log_.config().slice.drive_index, offset);
}

void ScanReads::look(uint64_t offset, std::byte* memory, uint64_t bytes) {
  const std::byte* early = ahead_.find(offset, bytes);
  if (early == nullptr) return read(offset, memory, bytes);
  std::memcpy(memory, early, bytes);
}

bool ScanReads::cannot_read(uint64_t begin, uint64_t end) const {
  MEMKV_ASSERT(begin <= end);
  const auto first = bad_.lower_bound(begin);
  return first != bad_.end() && *first < end;
}

}  // namespace memkv::engine
