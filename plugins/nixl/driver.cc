#include "driver.h"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/assert.h"
#include "base/clock.h"

namespace memkv::nixl {
namespace {

using std::chrono::nanoseconds;

constexpr uint64_t kCallerPollsNs = 200'000;      // since its last poll a caller is taken to be at it
constexpr uint64_t kCallerPausesNs = 50'000'000;  // likewise one that has polled for long
constexpr int kNapMsMin = 1, kNapMsMax = 16;      // of the progress thread meanwhile: each waking costs them time
constexpr nanoseconds kWaitBusy{10'000'000};      // other threads may have brought timers that are due earlier
constexpr nanoseconds kWaitIdle{100'000'000};
constexpr nanoseconds kWaitCopies{100'000};  // copy threads do not wake this one
constexpr nanoseconds kWaitCaller{1'000'000};
constexpr double kSlowestBytesPerSecond = 64u << 20;  // as the client's own default deadlines
constexpr int kTurnsToSend = 2;                       // until what is submitted has left

}  // namespace

Result<std::unique_ptr<Driver>, Message> Driver::open(const ClientOptions& options) {
  auto session = Session::connect(options);
  if (!session) return session.error();
  std::unique_ptr<Driver> driver(new Driver(std::move(*session)));
  if (driver->rouse_fd_ < 0) return Message{Status::kIo, "no event descriptor (too many open files? see ulimit -n)"};
  driver->start_progress();
  return driver;
}

Driver::Driver(Session session)
    : session_(std::move(session)), wait_fd_(session_.wait_fd()), rouse_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Driver::~Driver() {
  stopping_ = true;
  if (progress_.running()) {
    const std::lock_guard lock(mutex_);
    rouse();
  }
  progress_.join();
  MEMKV_ASSERT(active_.empty(), "a driver goes after all its work has ended");
  if (rouse_fd_ >= 0) close(rouse_fd_);
}

void Driver::start(Work& work) {
  polled_ns_.store(base::SystemClock().now_ns(), std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  MEMKV_ASSERT(work.place_ == Work::kNotActive, "work is started once at a time");
  active_.push_back(&work);
  work.place_ = active_.size() - 1;
  weight_ += work.weight();
  start_progress();
  settle(work, work.start(session_));
  if (progress_waits_) rouse();
  for (int i = 0; i < kTurnsToSend; i++) turn();
}

uint64_t Driver::allowance_ns() const {
  return static_cast<uint64_t>(static_cast<double>(weight_) * (1e9 / kSlowestBytesPerSecond));
}

/// Yields when nothing moves: callers poll without a pause, and the server, or whoever holds the lock, may
/// have no CPU but theirs.
void Driver::poll() {
  polled_ns_.store(base::SystemClock().now_ns(), std::memory_order_relaxed);
  bool moved = false;
  if (const std::unique_lock lock(mutex_, std::try_to_lock); lock.owns_lock()) {
    if (progress_waits_) rouse();
    moved = turn();
  }
  if (!moved) sched_yield();
  polled_ns_.store(base::SystemClock().now_ns(), std::memory_order_relaxed);  // a turn with much to move takes long
}

bool Driver::stop(Work& work) {
  const std::lock_guard lock(mutex_);
  if (work.place_ != Work::kNotActive) {
    work.cancel(session_);
    settle(work, work.step(session_));
  }
  return work.place_ == Work::kNotActive;
}

bool Driver::stop_all(const std::function<bool(const Work&)>& which, uint64_t deadline_ns) {
  const auto named = [&](const Work* work) { return which(*work); };
  std::unique_lock lock(mutex_);
  for (Work* work : active_) {
    if (which(*work)) work->cancel(session_);
  }
  while (sweep(), std::any_of(active_.begin(), active_.end(), named)) {
    if (base::SystemClock().now_ns() > deadline_ns) return false;
    turn();
    const nanoseconds limit = session_.arm_wait();
    lock.unlock();
    wait_for_sockets(std::min(limit, kWaitCaller));
    lock.lock();
  }
  return true;
}

void Driver::run(Batch& batch, Deadline deadline, std::vector<Outcome>& outcomes) {
  polled_ns_.store(base::SystemClock().now_ns(), std::memory_order_relaxed);
  std::unique_lock lock(mutex_);
  const Session::Ticket ticket = session_.submit(batch, deadline);
  while (turn(), !session_.done(ticket)) {
    const nanoseconds limit = session_.arm_wait();
    lock.unlock();
    wait_for_sockets(std::min(limit, kWaitCaller));
    polled_ns_.store(base::SystemClock().now_ns(), std::memory_order_relaxed);
    lock.lock();
  }
  session_.collect(ticket, outcomes);
}

std::vector<Status> Driver::ask_servers(Deadline deadline) {
  const std::lock_guard lock(mutex_);
  return session_.ask_servers(deadline);
}

Result<Region> Driver::register_memory(void* data, size_t size, memkv::MemoryKind kind, uint32_t device) {
  return session_.register_memory(data, size, kind, static_cast<int>(device));
}

void Driver::release(Region region) {
  const std::lock_guard lock(mutex_);
  const Region gone(std::move(region));  // a parameter would end after the lock
}

/// Moves bytes once. Under the lock. False: none were there to be moved.
bool Driver::turn() {
  const bool completed = session_.poll() > 0;
  if (completed || copying_) sweep();
  return session_.moved();
}

void Driver::sweep() {
  copying_ = false;
  for (size_t i = active_.size(); i-- > 0;) settle(*active_[i], active_[i]->step(session_));
}

void Driver::settle(Work& work, Work::Wait wait) {
  if (wait == Work::Wait::kNothing) return remove(work);
  copying_ = copying_ || wait == Work::Wait::kCopy;
}

void Driver::remove(Work& work) {
  Work* last = active_.back();
  active_[work.place_] = last;
  last->place_ = work.place_;
  active_.pop_back();
  weight_ -= work.weight();
  work.place_ = Work::kNotActive;
}

void Driver::wait_for_sockets(nanoseconds limit) const {
  pollfd fd{wait_fd_, POLLIN, 0};
  const timespec timeout{limit.count() / 1'000'000'000, limit.count() % 1'000'000'000};
  ppoll(&fd, 1, &timeout, nullptr);
}

bool Driver::callers_poll() const {
  const uint64_t since = base::SystemClock().now_ns() - polled_ns_.load(std::memory_order_relaxed);
  return since < (nap_ms_ == kNapMsMax ? kCallerPausesNs : kCallerPollsNs);
}

void Driver::rouse() {
  const uint64_t one = 1;
  MEMKV_ASSERT(write(rouse_fd_, &one, sizeof one) == sizeof one, "an event descriptor takes a count");
  progress_waits_ = false;
}

// The progress thread.

void Driver::run_progress() {
  while (!stopping_) callers_poll() ? nap() : take_over();
}

/// The longer callers have driven their work themselves, the longer.
void Driver::nap() {
  pollfd roused{rouse_fd_, POLLIN, 0};
  uint64_t count = 0;
  if (::poll(&roused, 1, nap_ms_) > 0) (void)!read(rouse_fd_, &count, sizeof count);
  nap_ms_ = std::min(2 * nap_ms_, kNapMsMax);
}

/// Moves bytes, then waits for the sockets, or for callers to begin something.
void Driver::take_over() {
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return nap();
  if (!active_.empty()) nap_ms_ = kNapMsMin;
  turn();
  nanoseconds limit = std::min(session_.arm_wait(), active_.empty() ? kWaitIdle : kWaitBusy);
  if (copying_) limit = std::min(limit, kWaitCopies);
  progress_waits_ = limit.count() > 0;
  if (!progress_waits_) return;
  lock.unlock();
  pollfd fds[] = {{wait_fd_, POLLIN, 0}, {rouse_fd_, POLLIN, 0}};
  const timespec timeout{limit.count() / 1'000'000'000, limit.count() % 1'000'000'000};
  ppoll(fds, 2, &timeout, nullptr);
  progress_waits_ = false;
  uint64_t count = 0;
  (void)!read(rouse_fd_, &count, sizeof count);
}

}  // namespace memkv::nixl
