#include "io/sim_reactor.h"

#include <algorithm>
#include <cerrno>

#include "base/assert.h"

namespace memkv::io {

void SimReactor::cancel(IoOp& op) {
  if (op.pending()) op.result = -ECANCELED, op.canceled = true;
}

size_t SimReactor::turn() {
  bind_thread();
  size_t ran = poll_sources();
  ran += run_finished();
  ran += run_timers();
  return ran + run_wake();
}

size_t SimReactor::run_until_idle() {
  size_t ran = 0;
  for (size_t now; (now = turn()) > 0;) ran += now;
  return ran;
}

void SimReactor::advance(uint64_t ns) {
  const uint64_t target = now_ns_ + ns;
  MEMKV_ASSERT(target >= now_ns_, "time does not wrap");
  run_until_idle();
  while (timers_.next_deadline() <= target) {
    now_ns_ = std::max(now_ns_, timers_.next_deadline());
    run_until_idle();
  }
  now_ns_ = target;
}

size_t SimReactor::run_once(uint64_t wait_ns) {
  const size_t ran = turn();
  if (ran > 0 || wait_ns == 0 || !finished_.empty()) return ran;
  const bool idle = arm_sources();
  disarm_sources();
  if (!idle) return turn();
  const uint64_t until = wait_ns > TimerHeap::kNever - now_ns_ ? TimerHeap::kNever : now_ns_ + wait_ns;
  const uint64_t next = std::min(until, timers_.next_deadline());
  if (next != TimerHeap::kNever) now_ns_ = std::max(now_ns_, next);
  return turn();
}

bool SimReactor::step_or_jump() {
  if (turn() > 0) return true;
  if (timers_.next_deadline() == TimerHeap::kNever) return false;
  now_ns_ = std::max(now_ns_, timers_.next_deadline());
  return true;
}

}  // namespace memkv::io
