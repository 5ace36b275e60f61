#pragma once
/// Time: units of it, and the clock.

#include <cstdint>

namespace memkv::base {

inline constexpr uint64_t kNsPerUs = 1000;
inline constexpr uint64_t kNsPerMs = 1000 * kNsPerUs;
inline constexpr uint64_t kNsPerSecond = 1000 * kNsPerMs;

/// The machine's clock, which the simulator replaces below (docs/simulator.md). Thread: any.
class SystemClock {
 public:
  /// Monotonic; for deadlines and durations.
  uint64_t now_ns();
  /// Seconds since 1970, UTC; may jump; for expiry that outlives the process.
  uint64_t wall_s();
};

}  // namespace memkv::base
