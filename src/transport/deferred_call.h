#pragma once
/// A call that the reactor makes soon: for things that must not happen inside a call by a link's owner.

#include "base/assert.h"
#include "io/reactor.h"

namespace memkv::transport {

/// Thread: the reactor's.
class DeferredCall {
 public:
  using Fn = void (*)(void* context);
  DeferredCall(io::Reactor& reactor, Fn fn, void* context) : reactor_(reactor), fn_(fn), context_(context) {
    op_.context = timer_.context = this;
    op_.on_done = [](io::IoOp& op, int32_t) { static_cast<DeferredCall*>(op.context)->run(); };
    timer_.on_done = [](io::Timer& timer) { static_cast<DeferredCall*>(timer.context)->run(); };
  }
  ~DeferredCall() {
    MEMKV_ASSERT(!op_.pending(), "destroyed with a turn to come");
    reactor_.stop(timer_);
  }
  DeferredCall(const DeferredCall&) = delete;
  DeferredCall& operator=(const DeferredCall&) = delete;

  /// Asks for a call at the next turn. There is one, however often it was asked for.
  void soon() {
    if (pending()) return;
    if (!reactor_.post(op_, 0)) later();
  }
  /// Asks for a call in a moment; used when the reactor takes no more ops now.
  void later() {
    if (!pending()) reactor_.start(timer_, reactor_.now_ns() + kLaterNs);
  }
  bool pending() const { return op_.pending() || timer_.armed(); }

 private:
  static constexpr uint64_t kLaterNs = 1'000'000;
  void run() { fn_(context_); }  // may destroy this

  io::Reactor& reactor_;
  const Fn fn_;
  void* const context_;
  io::IoOp op_;
  io::Timer timer_;
};

}  // namespace memkv::transport
