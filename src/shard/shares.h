#pragma once
/// How the tenants of a worker share its pools.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/assert.h"

namespace memkv::shard {

/// The pools that are shared. Slots are one pool a size class: kSlots and what follows.
enum Pooled : uint8_t {
  kPooledOps,
  kPooledFrames,
  kPooledUploads,
  kPooledConnections,
  kPooledLists,
  kPooledQuestions,
  kPooledSlots
};
inline constexpr size_t kPoolsMax = kPooledSlots + 16;

/// What a tenant holds of each pool.
using Held = std::array<uint32_t, kPoolsMax>;

/// One pool without partition: half of it is guaranteed to the tenants in equal parts, at least one piece to each; the
/// other half is for whoever comes first. A tenant that is alone has all of it. Thread: worker.
class Share {
 public:
  /// For so many tenants; count() follows.
  void set(uint32_t total, uint32_t tenants) {
    guaranteed_ = std::max(1u, total / 2 / std::max(1u, tenants));
    const uint64_t promised = uint64_t{guaranteed_} * std::max(1u, tenants);
    common_ = promised < total ? total - static_cast<uint32_t>(promised) : 0;
    common_used_ = 0;
  }
  /// After set(), once for each tenant that holds something.
  void count(uint32_t held) { common_used_ += held > guaranteed_ ? held - guaranteed_ : 0; }

  bool fits(uint32_t held) const { return held < guaranteed_ || common_used_ < common_; }
  void take(uint32_t& held) {
    if (held >= guaranteed_) common_used_++;
    held++;
  }
  void give(uint32_t& held) {
    MEMKV_ASSERT(held > 0, "given back twice");
    held--;
    if (held < guaranteed_) return;
    MEMKV_ASSERT(common_used_ > 0);
    common_used_--;
  }
  uint32_t guaranteed() const { return guaranteed_; }
  uint32_t most() const { return guaranteed_ + common_; }  ///< that one tenant may hold

 private:
  uint32_t guaranteed_ = 1;
  uint32_t common_ = 0;
  uint32_t common_used_ = 0;  ///< held above what is guaranteed, by all tenants
};

}  // namespace memkv::shard
