#pragma once
/// How a client's thread waits: it polls for a moment, then sleeps.

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace memkv::client {

/// 50 us, or 0 where a spinning thread keeps others from the CPU: one CPU, or a CPU quota.
uint64_t spin_limit_ns();

inline uint64_t monotonic_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

inline uint64_t timeout_ns(std::chrono::nanoseconds time) {
  return time.count() > 0 ? static_cast<uint64_t>(time.count()) : 0;
}

/// One wait: first turns without sleep (sched_yield between them), then one that sleeps.
class Waiter {
 public:
  Waiter(uint64_t spin_ns, uint64_t wait_ns) : spin_ns_(spin_ns), wait_ns_(wait_ns) {
    if (wait_ns > 0) started_ns_ = last_moved_ns_ = monotonic_ns();
  }
  /// How long the next turn may sleep.
  uint64_t sleep_ns() const { return sleep_ns_; }
  /// After a turn: false when the time is over. Whatever moved starts the spinning anew.
  bool go_on(bool moved) {
    if (wait_ns_ == 0) return false;
    const uint64_t now = monotonic_ns();
    if (now - started_ns_ >= wait_ns_) return false;
    if (moved) last_moved_ns_ = now;
    if (now - last_moved_ns_ < spin_ns_) {
      sleep_ns_ = 0;
      if (!moved) sched_yield();
    } else {
      sleep_ns_ = wait_ns_ - (now - started_ns_);
    }
    return true;
  }

 private:
  const uint64_t spin_ns_;
  const uint64_t wait_ns_;
  uint64_t started_ns_ = 0;
  uint64_t last_moved_ns_ = 0;
  uint64_t sleep_ns_ = 0;
};

}  // namespace memkv::client
