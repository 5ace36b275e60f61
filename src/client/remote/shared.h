#pragma once
/// What the connections of all servers of one context share.

#include "client/machine.h"
#include "client/remote/frame.h"
#include "client/remote/unit_owner.h"

namespace memkv::client {

/// While frames are under way it goes off once a tick, so that silent servers are noticed. Thread: the context's.
class Watch {
 public:
  static constexpr uint64_t kTickNs = 50'000'000;

  Watch(Machine& machine, io::Timer::Fn on_tick, void* context)
      : machine_(machine), alarm_(machine, on_tick, context) {}
  /// A frame is under way: tick.
  void start() {
    if (!alarm_.armed() && !stopping_) alarm_.set(machine_.now_ns() + kTickNs);
  }
  /// How late the tick is that goes off now.
  uint64_t late_ns() const { return machine_.now_ns() - alarm_.due_ns(); }
  void keep_stopped() { stopping_ = true; }  ///< no further tick begins
  void stop() { alarm_.stop(); }

 private:
  Machine& machine_;
  Alarm alarm_;
  bool stopping_ = false;
};

/// Borrowed by servers and connections, which it outlives.
struct Shared {
  Machine& machine;
  UnitOwner& units;
  FramePool& frames;
  Watch& watch;
};

}  // namespace memkv::client
