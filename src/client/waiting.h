#pragma once
/// How a client's thread waits: it polls for a moment, then sleeps.

#include <chrono>
#include <cstdint>

#include "base/clock.h"
#include "base/pause.h"
#include "base/poll_policy.h"

namespace memkv::client {

/// The least of a client's poll policies: 50 us, or 0 where a thread that polls keeps others from the CPU (one CPU, or a
/// CPU quota).
uint64_t poll_least_ns();

inline uint64_t timeout_ns(std::chrono::nanoseconds time) {
  return time.count() > 0 ? static_cast<uint64_t>(time.count()) : 0;
}

/// One wait: turns that poll while the policy says so, then turns that sleep.
class Waiter {
 public:
  Waiter(base::PollPolicy& policy, uint64_t wait_ns) : policy_(policy), wait_ns_(wait_ns) {
    if (wait_ns == 0) return;
    started_ns_ = base::SystemClock().now_ns();
    policy_.expect(started_ns_);
    choose(started_ns_);
  }
  /// How long the next turn may sleep.
  uint64_t sleep_ns() const { return sleep_ns_; }
  /// After a turn: false when the time is over. Whatever moved may start the polling anew.
  bool go_on(bool moved) {
    if (wait_ns_ == 0) return false;
    const uint64_t now = base::SystemClock().now_ns();
    if (moved) policy_.moved(now);
    if (now - started_ns_ >= wait_ns_) return false;
    choose(now);
    if (sleep_ns_ == 0 && !moved) base::relax_cpu();
    return true;
  }

 private:
  void choose(uint64_t now) { sleep_ns_ = policy_.polls(now) ? 0 : wait_ns_ - (now - started_ns_); }

  base::PollPolicy& policy_;
  const uint64_t wait_ns_;
  uint64_t started_ns_ = 0;
  uint64_t sleep_ns_ = 0;
};

}  // namespace memkv::client
