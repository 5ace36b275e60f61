#include "sim/loop.h"

#include <cerrno>

#include "sim/calls.h"
#include "sim/fabric.h"

namespace memkv::sim {

SimLoop::SimLoop(World& world, Network& network, Likeness likeness, uint64_t clock_offset_ns, uint32_t ops_max)
    : LoopBase(ops_max), world_(world), network_(network), likeness_(likeness), clock_offset_ns_(clock_offset_ns) {}

Result<void> SimLoop::accept(io::IoOp& op, int listen_fd) {
  if (auto admitted = admit(op, io::IoOp::Kind::kAccept, listen_fd); !admitted) return admitted;
  network_.park(op, *this);
  return {};
}

Result<void> SimLoop::connect(io::IoOp& op, int fd, const sockaddr* address, socklen_t length) {
  if (auto admitted = admit(op, io::IoOp::Kind::kConnect, fd); !admitted) return admitted;
  network_.park(op, *this);
  network_.connect(fd, address, length);
  return {};
}

Result<void> SimLoop::recv(io::IoOp& op, int fd, std::span<const iovec> pieces) {
  if (auto admitted = admit_pieces(op, io::IoOp::Kind::kRecv, fd, pieces); !admitted) return admitted;
  network_.park(op, *this);
  return {};
}

Result<void> SimLoop::send(io::IoOp& op, int fd, std::span<const iovec> pieces) {
  if (auto admitted = admit_pieces(op, io::IoOp::Kind::kSend, fd, pieces); !admitted) return admitted;
  network_.park(op, *this);
  return {};
}

Result<void> SimLoop::readable(io::IoOp& op, int fd) {
  if (auto admitted = admit(op, io::IoOp::Kind::kReadable, fd); !admitted) return admitted;
  network_.rdma().watch(op, *this);
  return {};
}

void SimLoop::cancel(io::IoOp& op) {
  if (!op.pending() || op.canceled) return;
  op.canceled = true;
  if (op.kind == io::IoOp::Kind::kPost) op.result = -ECANCELED;
  if (op.fd < 0 || op.place == io::IoOp::Place::kDone) return;
  if (op.kind == io::IoOp::Kind::kReadable) {
    network_.rdma().unwatch(op);
    return finish_later(op, -ECANCELED);
  }
  // With io_uring the cancel is only on its way: what arrives meanwhile still counts.
  if (likeness_ == Likeness::kUring && world_.random().chance(1, 2)) return poke(op.fd);
  network_.unpark(op);
  finish_later(op, -ECANCELED);
}

size_t SimLoop::run_sockets() {
  size_t ran = 0;
  running_.swap(hot_);
  for (const int fd : running_) {
    for (const bool in : {false, true}) {
      io::IoOp* op = nullptr;
      int32_t result = 0;
      const bool can = in ? network_.try_in(fd, *this, op, result) : network_.try_out(fd, *this, op, result);
      if (!can && (op == nullptr || !op->canceled)) continue;
      if (!can) network_.unpark(*op);
      complete(*op, can ? result : -ECANCELED);
      ran++;
    }
  }
  running_.clear();
  return ran;
}

size_t SimLoop::run_once(uint64_t wait_ns) {
  bind_thread();
  disarm_sources();
  // Called by code outside of all turns that waits for something: the world goes on meanwhile.
  if (wait_ns > 0 && world_.current() == nullptr) {
    const uint32_t host = host_now();
    world_.run_for(wait_ns);
    use_host(host);
  }
  size_t ran = poll_sources();
  ran += run_finished();
  told_turns_++;
  ran += run_sockets();
  ran += run_timers();
  ran += run_wake();
  owner_has_work_ = wait_ns == 0 || !may_sleep();
  return ran;
}

/// Poll sources are armed before the loop sleeps. Sometimes it stays awake for another turn, so that peers meet one that
/// needs no wake-up.
bool SimLoop::may_sleep() {
  if (!has_sources()) return true;
  return !world_.random().chance(1, 4) && arm_sources();
}

bool SimLoop::runnable() const {
  return !finished_.empty() || !hot_.empty() || woken() || owner_has_work_ || timers_.next_deadline() <= now_ns();
}

uint64_t SimLoop::next_ns() const {
  const uint64_t deadline = timers_.next_deadline();
  return deadline == io::TimerHeap::kNever ? Actor::kNever : deadline - std::min(deadline, clock_offset_ns_);
}

}  // namespace memkv::sim
