#pragma once
/// Time as a dependency, so that tests and the simulator own it.

#include <cstdint>

namespace memkv::base {

inline constexpr uint64_t kNsPerUs = 1000;
inline constexpr uint64_t kNsPerMs = 1000 * kNsPerUs;
inline constexpr uint64_t kNsPerSecond = 1000 * kNsPerMs;

/// Thread: any.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic; for deadlines and durations.
  virtual uint64_t now_ns() = 0;
  /// Seconds since 1970, UTC; may jump; for expiry that outlives the process.
  virtual uint64_t wall_s() = 0;
};

class SystemClock final : public Clock {
 public:
  uint64_t now_ns() override;
  uint64_t wall_s() override;
};

/// Stands still until moved. Thread: the test's.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(uint64_t now_ns = kNsPerSecond, uint64_t wall_s = 1'700'000'000)
      : now_ns_(now_ns), wall_s_(wall_s) {}
  uint64_t now_ns() override { return now_ns_; }
  uint64_t wall_s() override { return wall_s_ + (now_ns_ - wall_from_ns_) / kNsPerSecond; }
  void advance_ns(uint64_t by) { now_ns_ += by; }
  void advance_s(uint64_t by) { now_ns_ += by * kNsPerSecond; }
  void set_wall_s(uint64_t wall_s) {
    wall_s_ = wall_s;
    wall_from_ns_ = now_ns_;
  }

 private:
  uint64_t now_ns_;
  uint64_t wall_s_;
  uint64_t wall_from_ns_ = now_ns_;
};

}  // namespace memkv::base
