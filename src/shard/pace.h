#pragma once
/// How fast a client moves its bytes.

#include <cstdint>

namespace memkv::shard {

/// One direction of a link since its clock started. Judged by rate: a byte now and then is no sign of life. Thread:
/// worker.
class Pace {
 public:
  /// Asked at every tick, `step_ns` after the one before. `under_way`: there is something to move; `total`: bytes that
  /// have moved so far. True: less than `bytes_per_second` moved for `patience_ns`.
  bool too_slow(bool under_way, uint64_t total, uint64_t step_ns, uint64_t patience_ns, uint64_t bytes_per_second) {
    if (!under_way) {
      *this = Pace(total);
      return false;
    }
    ns_ += step_ns;
    if (ns_ < patience_ns) return false;
    const double wanted = static_cast<double>(bytes_per_second) * static_cast<double>(ns_) / 1e9;
    const bool slow = static_cast<double>(total - bytes_) < wanted;
    *this = Pace(total);
    return slow;
  }

  Pace() = default;

 private:
  explicit Pace(uint64_t total) : bytes_(total) {}

  uint64_t bytes_ = 0;  ///< that had moved when the clock started
  uint64_t ns_ = 0;     ///< that there was something to move
};

}  // namespace memkv::shard
