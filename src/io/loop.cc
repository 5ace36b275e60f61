#include "io/loop.h"

#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace memkv::io {

void OpQueue::push(IoOp& op) {
  op.prev = tail_;
  op.next = nullptr;
  (tail_ ? tail_->next : head_) = &op;
  tail_ = &op;
  size_++;
}

void OpQueue::remove(IoOp& op) {
  MEMKV_ASSERT(size_ > 0);
  (op.prev ? op.prev->next : head_) = op.next;
  (op.next ? op.next->prev : tail_) = op.prev;
  op.prev = op.next = nullptr;
  size_--;
}

IoOp* OpQueue::pop() {
  IoOp* op = head_;
  if (op) remove(*op);
  return op;
}

void OpQueue::swap(OpQueue& other) {
  std::swap(head_, other.head_);
  std::swap(tail_, other.tail_);
  std::swap(size_, other.size_);
}

bool TimerHeap::before(const Timer& a, const Timer& b) {
  return a.deadline_ns != b.deadline_ns ? a.deadline_ns < b.deadline_ns : a.order < b.order;
}

void TimerHeap::place(size_t index, Timer* timer) {
  heap_[index] = timer;
  timer->heap_index = index;
}

void TimerHeap::sift_up(size_t index) {
  Timer* timer = heap_[index];
  while (index > 0) {
    const size_t parent = (index - 1) / 2;
    if (!before(*timer, *heap_[parent])) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, timer);
}

void TimerHeap::sift_down(size_t index) {
  Timer* timer = heap_[index];
  for (size_t child = 2 * index + 1; child < heap_.size(); child = 2 * index + 1) {
    if (child + 1 < heap_.size() && before(*heap_[child + 1], *heap_[child])) child++;
    if (!before(*heap_[child], *timer)) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, timer);
}

void TimerHeap::start(Timer& timer, uint64_t deadline_ns) {
  MEMKV_ASSERT(timer.on_done != nullptr);
  stop(timer);
  timer.deadline_ns = std::max(deadline_ns, floor_ns_);
  timer.order = order_++;
  heap_.push_back(&timer);
  sift_up(heap_.size() - 1);
}

void TimerHeap::stop(Timer& timer) {
  const size_t index = timer.heap_index;
  if (index == Timer::kNotArmed) return;
  MEMKV_ASSERT(index < heap_.size() && heap_[index] == &timer);
  Timer* last = heap_.back();
  heap_.pop_back();
  timer.heap_index = Timer::kNotArmed;
  if (last == &timer) return;
  place(index, last);
  sift_up(index);
  sift_down(last->heap_index);
}

size_t TimerHeap::run_due(uint64_t now_ns) {
  const uint64_t armed_later = order_;
  size_t ran = 0;
  // Timers armed by these callbacks stand behind all that is due now, so the first of them to come up ends the run.
  floor_ns_ = std::max(floor_ns_, now_ns);
  while (!heap_.empty() && heap_[0]->deadline_ns <= now_ns && heap_[0]->order < armed_later) {
    Timer& timer = *heap_[0];
    stop(timer);
    timer.on_done(timer);
    ran++;
  }
  return ran;
}

Waker::Waker() : fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
  if (fd_ < 0) error_ = errno;
}

Waker::~Waker() {
  if (fd_ >= 0) close(fd_);
}

void Waker::notify() {
  if (!sleeping_.exchange(false)) return;
  const uint64_t one = 1;
  const ssize_t written = write(fd_, &one, sizeof one);
  MEMKV_ASSERT(written == sizeof one);
}

LoopBase::LoopBase(uint32_t ops_max) : timers_(std::max<size_t>(ops_max, 1024)), ops_max_(ops_max) {}

// Whoever submitted must see its completions before the loop goes: an op left behind is memory that the kernel still
// writes.
LoopBase::~LoopBase() { MEMKV_ASSERT(pending_ == 0 && sources_.empty()); }

void LoopBase::adopt() { owner_ = std::this_thread::get_id(); }

void LoopBase::bind_thread() {
  if (owner_ == std::thread::id{}) owner_ = std::this_thread::get_id();
  check_thread();
}

Result<void> LoopBase::admit(IoOp& op, IoOp::Kind kind, int fd) {
  check_thread();
  MEMKV_ASSERT(!op.pending() && op.on_done != nullptr);
  if (pending_ >= ops_max_) return Error{Status::kBusy, 0, "reactor: too many ops in flight"};
  op.kind = kind;
  op.place = IoOp::Place::kNone;
  op.canceled = false;
  op.dsync = false;
  op.fd = fd;
  op.result = 0;
  op.prev = op.next = nullptr;
  pending_++;
  return {};
}

Result<void> LoopBase::admit_pieces(IoOp& op, IoOp::Kind kind, int fd, std::span<const iovec> pieces) {
  if (pieces_bytes(pieces) == 0) return Error{Status::kInvalid, 0, "reactor: no bytes, or too many pieces, in one op"};
  if (auto admitted = admit(op, kind, fd); !admitted) return admitted;
  op.message = {};
  op.message.msg_iov = const_cast<iovec*>(pieces.data());  // only read
  op.message.msg_iovlen = pieces.size();
  if (kind == IoOp::Kind::kRecv && !op.control.empty()) {
    op.message.msg_control = op.control.data();
    op.message.msg_controllen = op.control.size();
  }
  return {};
}

void LoopBase::unadmit(IoOp& op) {
  MEMKV_ASSERT(op.pending() && pending_ > 0);
  op.kind = IoOp::Kind::kIdle;
  pending_--;
}

Result<void> LoopBase::post(IoOp& op, int32_t result) {
  if (auto admitted = admit(op, IoOp::Kind::kPost, -1); !admitted) return admitted;
  finish_later(op, result);
  return {};
}

void LoopBase::finish_later(IoOp& op, int32_t result) {
  MEMKV_ASSERT(op.pending());
  op.result = result;
  op.place = IoOp::Place::kDone;
  finished_.push(op);
}

void LoopBase::complete(IoOp& op, int32_t result) {
  unadmit(op);
  op.place = IoOp::Place::kNone;
  op.result = result;
  op.on_done(op, result);
}

size_t LoopBase::run_finished() {
  // Bounded by what is there now: completions that post again wait for the next turn.
  const size_t count = finished_.size();
  size_t ran = 0;
  for (IoOp* op; ran < count && (op = finished_.pop()) != nullptr; ran++) complete(*op, op->result);
  return ran;
}

void LoopBase::start(Timer& timer, uint64_t deadline_ns) {
  check_thread();
  timers_.start(timer, deadline_ns);
}

void LoopBase::stop(Timer& timer) {
  check_thread();
  timers_.stop(timer);
}

void LoopBase::add(PollSource& source) {
  check_thread();
  sources_.push_back(&source);
}

void LoopBase::remove(PollSource& source) {
  check_thread();
  std::replace(sources_.begin(), sources_.end(), &source, static_cast<PollSource*>(nullptr));
  if (!polling_) std::erase(sources_, nullptr);
}

size_t LoopBase::poll_sources() {
  if (sources_.empty()) return 0;
  polling_ = true;
  size_t ran = 0;
  for (size_t i = 0; i < sources_.size(); i++) {
    if (sources_[i] != nullptr) ran += sources_[i]->poll();
  }
  polling_ = false;
  std::erase(sources_, nullptr);
  return ran;
}

bool LoopBase::arm_sources() {
  armed_ = true;
  bool idle = true;
  for (PollSource* source : sources_) idle = source->arm() && idle;
  return idle;
}

void LoopBase::disarm_sources() {
  if (!std::exchange(armed_, false)) return;
  for (PollSource* source : sources_) source->disarm();
}

uint64_t LoopBase::now_ns() const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void LoopBase::wake() {
  if (!wake_requested_.exchange(true)) waker_.notify();
}

size_t LoopBase::run_wake() {
  if (!wake_requested_.load(std::memory_order_relaxed)) return 0;
  wake_requested_.exchange(false);  // before the callback: what comes after it wakes again
  if (on_wake_) on_wake_(on_wake_context_);
  return 1;
}

uint64_t LoopBase::wait_until_timer(uint64_t wait_ns) const {
  const uint64_t deadline = timers_.next_deadline();
  if (deadline == TimerHeap::kNever || wait_ns == 0) return wait_ns;
  const uint64_t now = now_ns();
  return deadline <= now ? 0 : std::min(wait_ns, deadline - now);
}

size_t pieces_bytes(std::span<const iovec> pieces) {
  if (pieces.size() > kPiecesMax) return 0;
  size_t bytes = 0;
  for (const iovec& piece : pieces) {
    if (piece.iov_len > size_t{INT32_MAX} - bytes) return 0;
    bytes += piece.iov_len;
  }
  return bytes;
}

}  // namespace memkv::io
