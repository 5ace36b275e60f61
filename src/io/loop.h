#pragma once
/// Parts that every reactor is made of: a queue of ops, a heap of timers, and the way another thread wakes a sleeping
/// loop.

#include <atomic>
#include <cstdint>
#include <limits>
#include <span>
#include <thread>
#include <vector>

#include "base/assert.h"
#include "io/reactor.h"

namespace memkv::io {

inline constexpr size_t kPiecesMax = 1024;  ///< iovecs in one op (IOV_MAX)

/// First in, first out, intrusive through IoOp::prev and next.
class OpQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  size_t size() const { return size_; }
  IoOp* front() const { return head_; }  ///< and on by IoOp::next
  void push(IoOp& op);
  IoOp* pop();
  void remove(IoOp& op);
  void swap(OpQueue& other);

 private:
  IoOp* head_ = nullptr;
  IoOp* tail_ = nullptr;
  size_t size_ = 0;
};

/// Binary heap of borrowed timers by (deadline, order of arming).
class TimerHeap {
 public:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  explicit TimerHeap(size_t reserve) { heap_.reserve(reserve); }
  void start(Timer& timer, uint64_t deadline_ns);
  void stop(Timer& timer);
  uint64_t next_deadline() const { return heap_.empty() ? kNever : heap_[0]->deadline_ns; }
  size_t size() const { return heap_.size(); }
  /// Runs what was due at `now_ns` when called; timers armed meanwhile wait for the next turn, so a timer cannot starve
  /// the loop.
  size_t run_due(uint64_t now_ns);

 private:
  static bool before(const Timer& a, const Timer& b);
  void place(size_t index, Timer* timer);
  void sift_up(size_t index);
  void sift_down(size_t index);

  std::vector<Timer*> heap_;
  uint64_t order_ = 0;
  uint64_t floor_ns_ = 0;  // deadlines in the past count as this, so that they queue fairly
};

/// An eventfd that is written only while the loop sleeps, so waking a busy loop costs no system call.
/// The waker sets its own flag first, then calls notify(); the sleeper calls begin_sleep(), then looks at the flags,
/// then blocks. It is watched edge-triggered and never read.
class Waker {
 public:
  Waker();
  ~Waker();
  Waker(const Waker&) = delete;
  Waker& operator=(const Waker&) = delete;

  int fd() const { return fd_; }
  int error() const { return error_; }  ///< why there is no eventfd: an errno; 0: there is one
  void notify();                        ///< Thread: any
  void begin_sleep() { sleeping_.store(true); }
  void end_sleep() { sleeping_.store(false, std::memory_order_relaxed); }

 private:
  int fd_ = -1;
  int error_ = 0;
  std::atomic<bool> sleeping_{false};
};

/// What io_uring, epoll and simulator have in common: accounting, timers, posted ops, wake.
class LoopBase : public Reactor {
 public:
  Result<void> post(IoOp& op, int32_t result) override;
  void start(Timer& timer, uint64_t deadline_ns) override;
  void stop(Timer& timer) override;
  void add(PollSource& source) override;
  void remove(PollSource& source) override;
  uint64_t now_ns() const override;
  void wake() override;
  size_t pending() const override { return pending_; }
  void adopt() override;

 protected:
  explicit LoopBase(uint32_t ops_max);
  ~LoopBase() override;

  /// The checks of every submit. On ok the op counts as pending and the caller must see it completed.
  Result<void> admit(IoOp& op, IoOp::Kind kind, int fd);
  Result<void> admit_pieces(IoOp& op, IoOp::Kind kind, int fd, std::span<const iovec> pieces);
  /// Undoes admit() when the submit failed after it.
  void unadmit(IoOp& op);
  /// Queues a completion for this or the next turn.
  void finish_later(IoOp& op, int32_t result);
  void complete(IoOp& op, int32_t result);
  size_t run_finished();
  size_t run_timers() { return timers_.run_due(now_ns()); }
  size_t run_wake();
  size_t poll_sources();
  bool has_sources() const { return !sources_.empty(); }
  /// Arms all poll sources. False: one of them has work, so the loop must not sleep.
  [[nodiscard]] bool arm_sources();
  void disarm_sources();
  bool woken() const { return wake_requested_.load(); }
  uint64_t wait_until_timer(uint64_t wait_ns) const;
  void bind_thread();
  void check_thread() const { MEMKV_ASSERT(owner_ == std::thread::id{} || owner_ == std::this_thread::get_id()); }

  TimerHeap timers_;
  OpQueue finished_;
  Waker waker_;

 private:
  const uint32_t ops_max_;
  size_t pending_ = 0;
  std::atomic<bool> wake_requested_{false};
  std::vector<PollSource*> sources_;  // null: removed while they are polled
  bool polling_ = false;
  bool armed_ = false;
  std::thread::id owner_;
};

/// Bytes asked for by `pieces`; 0 when they are empty, too many, or more than one op can count.
size_t pieces_bytes(std::span<const iovec> pieces);

Result<std::unique_ptr<Reactor>> make_uring_reactor(const ReactorOptions& options, std::string* why_not);

}  // namespace memkv::io
