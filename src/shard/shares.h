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
  kPooledPrefetches,
  kPooledSlots
};
inline constexpr size_t kPoolsMax = kPooledSlots + 16;

/// What a client holds of each pool.
using Held = std::array<uint32_t, kPoolsMax>;

/// What the clients of one tenant hold of one pool, and what is theirs of it.
struct Part {
  uint32_t each = 1;    ///< guaranteed to each client
  uint32_t spare = 0;   ///< of what is guaranteed to the tenant, for whichever of its clients comes first
  uint32_t inside = 0;  ///< held by all clients within what is guaranteed to each
  uint32_t above = 0;   ///< and above it
  uint32_t held() const { return inside + above; }
};

/// One pool without partition: half of it is guaranteed to the tenants in equal parts, at least one piece to each; the
/// other half is for whoever comes first. What is guaranteed to a tenant is divided among its clients in the same way.
/// Who is alone has all of it. Thread: worker.
class Share {
 public:
  /// For so many tenants; divide() and count() follow for each.
  void set(uint32_t total, uint32_t tenants) {
    guaranteed_ = std::max(1u, total / 2 / std::max(1u, tenants));
    const uint64_t promised = uint64_t{guaranteed_} * std::max(1u, tenants);
    common_ = promised < total ? total - static_cast<uint32_t>(promised) : 0;
    common_used_ = 0;
  }
  /// For so many clients; add() follows for each that holds something, then count().
  void divide(Part& part, uint32_t clients) const {
    part.each = std::max(1u, guaranteed_ / 2 / std::max(1u, clients));
    const uint64_t promised = uint64_t{part.each} * std::max(1u, clients);
    part.spare = promised < guaranteed_ ? guaranteed_ - static_cast<uint32_t>(promised) : 0;
    part.inside = part.above = 0;
  }
  static void add(Part& part, uint32_t held) {
    part.inside += std::min(held, part.each);
    part.above += held - std::min(held, part.each);
  }
  void count(const Part& part) { common_used_ += of_common(part); }
  /// Before it is divided anew.
  void forget(const Part& part) {
    MEMKV_ASSERT(common_used_ >= of_common(part));
    common_used_ -= of_common(part);
  }

  bool fits(const Part& part, uint32_t held) const {
    return (held < part.each ? part.inside < guaranteed_ : part.above < part.spare) || common_used_ < common_;
  }
  void take(Part& part, uint32_t& held) {
    if (held++ < part.each) {
      common_used_ += part.inside++ >= guaranteed_ ? 1 : 0;
    } else {
      common_used_ += part.above++ >= part.spare ? 1 : 0;
    }
  }
  void give(Part& part, uint32_t& held) {
    MEMKV_ASSERT(held > 0, "given back twice");
    const bool inside = --held < part.each;
    uint32_t& from = inside ? part.inside : part.above;
    MEMKV_ASSERT(from > 0);
    if (from-- <= (inside ? guaranteed_ : part.spare)) return;
    MEMKV_ASSERT(common_used_ > 0);
    common_used_--;
  }
  uint32_t most() const { return guaranteed_ + common_; }  ///< that one tenant may hold

 private:
  /// What the tenant holds of the common half.
  uint32_t of_common(const Part& part) const {
    return (part.inside > guaranteed_ ? part.inside - guaranteed_ : 0) +
           (part.above > part.spare ? part.above - part.spare : 0);
  }

  uint32_t guaranteed_ = 1;
  uint32_t common_ = 0;
  uint32_t common_used_ = 0;
};

}  // namespace memkv::shard
