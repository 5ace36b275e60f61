#pragma once
/// A reactor without a machine: it has posted ops, timers, and a clock that moves only when the test says so.

#include "io/loop.h"

namespace memkv::io {

/// Tests of the engine run on it, over memory and faulty devices. Ops on descriptors are refused with kInvalid.
/// Time stands still while there is work. A wait makes it pass at once. Thread: the one that runs it, except `wake`.
class SimReactor final : public LoopBase {
 public:
  struct Options {
    uint32_t ops_max = 4096;
    uint64_t start_ns = 1'000'000'000;  ///< not 0, so that a deadline that was never set shows
  };
  SimReactor() : SimReactor(Options{}) {}
  explicit SimReactor(const Options& options) : LoopBase(options.ops_max), now_ns_(options.start_ns) {}

  /// Moves the clock. Each timer runs at its own time, and all completions in between run too.
  void advance(uint64_t ns);
  /// Runs posted ops and due timers until there are none; the clock does not move. Returns how many ran.
  size_t run_until_idle();
  /// Runs and lets time jump from timer to timer, until `done(context)` is true or nothing is left. Returns what `done`
  /// said last.
  template <typename Done>
  bool run_until(Done&& done) {
    while (!done() && step_or_jump()) {
    }
    return done();
  }

  std::string_view name() const override { return "sim"; }
  Result<void> accept(IoOp&, int) override { return refused(); }
  Result<void> connect(IoOp&, int, const sockaddr*, socklen_t) override { return refused(); }
  Result<void> recv(IoOp&, int, std::span<const iovec>) override { return refused(); }
  Result<void> send(IoOp&, int, std::span<const iovec>) override { return refused(); }
  Result<void> readable(IoOp&, int) override { return refused(); }
  Result<void> writable(IoOp&, int) override { return refused(); }
  Result<void> read(IoOp&, int, uint64_t, std::span<const iovec>) override { return refused(); }
  Result<void> write(IoOp&, int, uint64_t, std::span<const iovec>, bool) override { return refused(); }
  Result<void> sync(IoOp&, int) override { return refused(); }
  void cancel(IoOp& op) override;
  void register_memory(std::span<std::byte>) override {}
  uint64_t now_ns() const override { return now_ns_; }
  /// One turn. If there is nothing to do, `wait_ns` passes, or less if a timer is due before.
  size_t run_once(uint64_t wait_ns) override;

 private:
  static Error refused() { return {Status::kInvalid, 0, "the simulated reactor has no descriptors"}; }
  size_t turn();
  bool step_or_jump();

  uint64_t now_ns_;
};

}  // namespace memkv::io
