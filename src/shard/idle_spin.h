#pragma once
/// How long a worker polls before it sleeps.

#include <algorithm>
#include <cstdint>

namespace memkv::shard {

/// At least `least_ns` after the last event; up to four times that while the next one keeps coming just after the
/// worker fell asleep: being woken then costs more (60 us in a virtual machine) than to wait. Thread: the worker's.
class IdleSpin {
 public:
  explicit IdleSpin(uint64_t least_ns) : least_ns_(least_ns), spin_ns_(least_ns) {}

  /// Of a turn that begins now: it polls only.
  bool polls(uint64_t now_ns) {
    began_ns_ = now_ns;
    polled_ = now_ns < until_ns_;
    return polled_;
  }
  /// The turn had something to do.
  void moved(uint64_t now_ns) {
    const uint64_t most_ns = kGrowth * least_ns_;
    if (!polled_) spin_ns_ = now_ns - began_ns_ < most_ns ? std::min(2 * spin_ns_, most_ns) : least_ns_;
    until_ns_ = now_ns + spin_ns_;
  }

 private:
  static constexpr uint64_t kGrowth = 4;
  const uint64_t least_ns_;
  uint64_t spin_ns_, until_ns_ = 0, began_ns_ = 0;
  bool polled_ = false;
};

}  // namespace memkv::shard
