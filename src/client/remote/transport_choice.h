#pragma once
/// Which transport the ops to one server take, and why.

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "memkv/types.h"

namespace memkv::client {

/// Auto: the best that works, shm before rdma before tcp. One that fails is left at once, probed again after a back-off
/// and taken back when the probe works: nothing latches. Pure state, no I/O. Thread: the context's.
class TransportChoice {
 public:
  static constexpr std::array kOneSided = {Transport::kShm, Transport::kRdma};  ///< best first

  explicit TransportChoice(Transport wanted) : wanted_(wanted) {}

  bool allowed(Transport transport) const { return wanted_ == Transport::kAuto || wanted_ == transport; }
  /// Nothing else may be used: without it ops fail.
  bool is_only(Transport transport) const { return wanted_ == transport; }
  bool only_one_sided() const { return wanted_ == Transport::kShm || wanted_ == Transport::kRdma; }

  bool up(Transport transport) const { return at(transport).up; }
  /// Its first probe with this server process is not over.
  bool untried(Transport transport) const {
    const Known& known = at(transport);
    return allowed(transport) && !known.up && !known.ruled_out && known.backoff_ns == 0 && known.due_ns != UINT64_MAX;
  }
  /// A probe should be made now.
  bool due(Transport transport, uint64_t now_ns) const;
  /// When its next probe is due; UINT64_MAX = never.
  uint64_t due_ns(Transport transport) const { return at(transport).due_ns; }

  /// Another server process answered: what was known of the one before does not count.
  void start_anew(uint64_t now_ns);
  /// A probe worked. True: ops go another way from here on.
  bool set_up(Transport transport);
  /// A probe or a connection failed. `jitter(low, high)` picks the time to the next probe. True: ops go another way.
  bool set_down(Transport transport, std::string why, uint64_t now_ns,
                const std::function<uint64_t(uint64_t, uint64_t)>& jitter);

  /// This program cannot use it at all: it is never probed, unless it is the only one, so that somebody says why.
  void rule_out(Transport transport, std::string why);

  /// What ops take now.
  Transport now() const;
  uint64_t switches() const { return switches_; }
  /// "shm"; "tcp (shm: no socket here)": the reasons against what would be better.
  std::string describe() const;

 private:
  struct Known {
    bool up = false;
    bool ruled_out = false;
    uint64_t due_ns = UINT64_MAX;
    uint64_t backoff_ns = 0;
    std::string why;  ///< it is not up
  };
  Known& at(Transport transport) { return known_[transport == Transport::kShm ? 0 : 1]; }
  const Known& at(Transport transport) const { return known_[transport == Transport::kShm ? 0 : 1]; }
  bool switched_from(Transport before);

  const Transport wanted_;
  std::array<Known, kOneSided.size()> known_;
  uint64_t switches_ = 0;
};

}  // namespace memkv::client
