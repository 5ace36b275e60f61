#pragma once
/// What a client knows of a server's clock.

#include <cstdint>

namespace memkv::client {

/// Bounds of (the server's clock - ours). Both clocks run steadily from an unknown start; they may drift apart, and a
/// message may take any time. A stamp of the server that we read at `now` was made before `now`: so the difference is
/// at least stamp - now. If it answers what we sent at `asked`, it was made after `asked`: so the difference is at most
/// stamp - asked. Neither needs a guess about the way there or back. Pure; thread: the context's.
class ClockBound {
 public:
  /// Forgets all: another process may be at the other end.
  void reset() { *this = {}; }
  /// `asked_ns` = 0: nobody asked.
  void heard(uint64_t server_ns, uint64_t asked_ns, uint64_t now_ns);
  bool known() const { return known_; }
  /// Our `now_ns` on the server's clock: never later than it really is there, and at most slack_ns() earlier.
  uint64_t on_server(uint64_t now_ns) const;
  uint64_t slack_ns(uint64_t now_ns) const;
  /// Worth asking again, for it is not known well; at most every kAgainNs.
  bool should_ask(uint64_t now_ns) const { return now_ns >= ask_ns_ && slack_ns(now_ns) > kSlackGoodNs; }
  void on_asked(uint64_t now_ns) { ask_ns_ = now_ns + kAgainNs; }

  /// Two clocks that NTP slews by at most 500 ppm each, rounded up.
  static constexpr uint64_t kDriftShift = 9;
  static constexpr uint64_t kSlackGoodNs = 2'000'000;
  static constexpr uint64_t kAgainNs = 200'000'000;

 private:
  int64_t low(uint64_t now_ns) const { return low_ - drift(now_ns); }
  int64_t high(uint64_t now_ns) const { return high_ + drift(now_ns); }
  /// How far the clocks may have gone apart since the bounds were found.
  int64_t drift(uint64_t now_ns) const { return static_cast<int64_t>((now_ns - found_ns_) >> kDriftShift); }

  int64_t low_ = 0, high_ = 0;
  uint64_t found_ns_ = 0;
  uint64_t ask_ns_ = 0;
  bool known_ = false;
};

}  // namespace memkv::client
