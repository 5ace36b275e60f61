#pragma once
/// Whether a thread that waits polls for a moment first, or sleeps at once (docs/decisions/0038-waiting.md).

#include <sys/resource.h>

#include <algorithm>
#include <cstdint>

namespace memkv::base {

/// How often the calling thread lost its CPU to others while it had work to do.
inline uint64_t involuntary_switches() {
  rusage usage{};
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? static_cast<uint64_t>(usage.ru_nivcsw) : 0;
}

/// To be woken costs more (5 to 60 us) than to poll for as long, where there is a CPU to spare. Where there is none, a
/// thread that polls uses up its time slice, and waits for milliseconds when it has work; one that sleeps runs as soon
/// as it is woken. So a thread polls only while three things hold:
/// * What it waits for came soon, lately. Waits that mostly end long after the polling did are not polled for at all.
/// * It was not kept from its CPU: the clock did not jump between two polls with nothing in between, and the kernel did
///   not take the CPU away again and again.
/// * The last time when it was is long ago. It tries again after a pause, which doubles while the tries fail.
/// Knows no clock: the caller says what time it is. Thread: the one that waits, which may change between waits.
class PollPolicy {
 public:
  using Switches = uint64_t (*)();  ///< such as involuntary_switches()

  static constexpr uint64_t kGrowth = 4;                  ///< polls at most so many times `least_ns`
  static constexpr uint32_t kVainMax = 4;                 ///< waits in a row that were polled for in vain
  static constexpr uint64_t kLateNs = 300'000;            ///< between two polls; one takes some microseconds
  static constexpr uint64_t kSampleNs = 10'000'000;       ///< between two looks at the switches
  static constexpr uint64_t kSwitchEachNs = 5'000'000;    ///< one in this time is too often
  static constexpr uint64_t kPauseNsMin = 20'000'000;     ///< without polls
  static constexpr uint64_t kPauseNsMax = 1'000'000'000;  ///< likewise
  static constexpr uint64_t kCalmNs = 100'000'000;        ///< polls went well for so long: the next pause is short

  /// `least_ns`: polled after an event. 0: never polls.
  explicit PollPolicy(uint64_t least_ns, Switches switches = &involuntary_switches)
      : least_ns_(least_ns), poll_ns_(least_ns), switches_(switches) {}

  /// Something was begun whose end is waited for.
  void expect(uint64_t now_ns) {
    polled_ = false;
    expected_ns_ = now_ns;
  }

  /// Of a turn that begins now: it polls, it must not sleep.
  bool polls(uint64_t now_ns) {
    if (polled_) end_vain_poll(now_ns);
    began_ns_ = now_ns;
    return polled_ = now_ns < expected_ns_ + poll_ns_ && now_ns >= retry_ns_;
  }

  /// The turn found something to do.
  void moved(uint64_t now_ns) {
    if (least_ns_ == 0) return;
    if (polled_) {
      vain_ = 0;
    } else if (began_ns_ >= retry_ns_) {
      learn_from_sleep(now_ns - expected_ns_);
    }
    if (now_ns - sampled_ns_ >= kSampleNs) sample(now_ns);
    expect(now_ns);
  }

 private:
  /// The last turn polled, and nothing was there.
  void end_vain_poll(uint64_t now_ns) {
    if (now_ns - began_ns_ >= kLateNs) return hold_back(now_ns);
    if (now_ns >= expected_ns_ + poll_ns_ && ++vain_ >= kVainMax) poll_ns_ = 0;
  }

  /// The thread slept before it moved. Where longer polls would have made that needless, they are longer from now on.
  void learn_from_sleep(uint64_t waited_ns) {
    if (waited_ns < kGrowth * least_ns_) {
      vain_ = 0;
      poll_ns_ = std::clamp(2 * poll_ns_, least_ns_, kGrowth * least_ns_);
    } else if (vain_ < kVainMax) {
      poll_ns_ = least_ns_;
    }
  }

  void sample(uint64_t now_ns) {
    const uint64_t switches = switches_(), more = switches - std::min(switches, seen_);
    const bool often = sampled_ns_ != 0 && more >= 2 && more * kSwitchEachNs >= now_ns - sampled_ns_;
    sampled_ns_ = now_ns;
    seen_ = switches;
    if (often) {
      hold_back(now_ns);
    } else if (now_ns >= retry_ns_ + kCalmNs) {
      pause_ns_ = 0;
    }
  }

  /// Others need the CPU: no polls for a while. What is told meanwhile makes the pause last, and not longer each time.
  void hold_back(uint64_t now_ns) {
    if (now_ns >= retry_ns_) pause_ns_ = std::clamp(2 * pause_ns_, kPauseNsMin, kPauseNsMax);
    retry_ns_ = now_ns + pause_ns_;
  }

  const uint64_t least_ns_;
  uint64_t poll_ns_;          // after an event
  uint64_t expected_ns_ = 0;  // since then: the last event, or the begin of a wait
  uint64_t began_ns_ = 0;     // the last turn
  bool polled_ = false;       // in it, and nothing moved
  uint32_t vain_ = 0;         // waits in a row whose polls ran out
  uint64_t retry_ns_ = 0;     // no polls before
  uint64_t pause_ns_ = 0;     // that ended, or ends, then
  uint64_t sampled_ns_ = 0;
  uint64_t seen_ = 0;  // switches then
  const Switches switches_;
};

}  // namespace memkv::base
