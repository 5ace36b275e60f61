#pragma once
/// The store's clock, and the word that the store is being closed.

#include "engine/then.h"
#include "io/reactor.h"

namespace memkv::engine {

inline constexpr uint64_t kTickNs = 20'000'000;  ///< while something is under way

/// Ticks while something is under way: whoever begins something calls start(). Once the store is being closed, it ticks
/// when something has ended, and otherwise only when the one who closes asks for it.
///
/// Owns the timer. Thread: worker.
class Tick {
 public:
  explicit Tick(io::Reactor& reactor);
  ~Tick();
  Tick(const Tick&) = delete;
  Tick& operator=(const Tick&) = delete;

  void set_handler(Then on_tick) { on_tick_ = on_tick; }
  /// One tick, kTickNs from now, unless there is one to come already or the store is being closed.
  void start();
  /// From now on closing() is true, and ticks come by next_step() alone.
  void begin_closing();
  bool closing() const { return closing_; }
  /// While closing: one tick, so much later, or when something ends.
  void next_step(uint64_t after_ns);
  /// Something that a closing store may wait for has ended. While closing: a tick at the next turn of the loop.
  void ended() {
    if (closing_) next_step(0);
  }

 private:
  static void on_timer(io::Timer& timer);

  io::Reactor& reactor_;
  io::Timer timer_;
  Then on_tick_;
  bool closing_ = false;
};

}  // namespace memkv::engine
