#include "client/io_thread.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "base/assert.h"
#include "base/clock.h"
#include "base/thread.h"
#include "client/waiting.h"

namespace memkv::client {
namespace {

constexpr size_t kMailboxItems = 1024;
constexpr uint64_t kSleepNs = 1'000'000'000;

}  // namespace

/// std::atomic has no wait that ends by the clock. The policy is the calling thread's, for all of its jobs.
bool Job::wait(uint64_t timeout_ns) {
  if (done()) return true;
  static thread_local base::PollPolicy policy(poll_least_ns());
  base::SystemClock clock;
  const uint64_t began_ns = clock.now_ns();
  uint64_t now_ns = began_ns;
  policy.expect(now_ns);
  const auto in_time = [&] { return now_ns - began_ns < timeout_ns; };
  for (; !done() && in_time() && policy.polls(now_ns); now_ns = clock.now_ns()) base::relax_cpu();
  for (uint32_t phase; (phase = phase_.load(std::memory_order_acquire)) != kDone; now_ns = clock.now_ns()) {
    if (phase == kTelling) {
      base::nap();
      continue;
    }
    if (!in_time()) return false;
    if (phase == kUnderWay && !phase_.compare_exchange_strong(phase, kAwaited, std::memory_order_acq_rel)) continue;
    const uint64_t left = timeout_ns - (now_ns - began_ns);
    const timespec time{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
    syscall(SYS_futex, &phase_, FUTEX_WAIT_PRIVATE, kAwaited, timeout_ns == kForever ? nullptr : &time, nullptr, 0);
  }
  policy.moved(now_ns);
  return true;
}

/// From kDone on the job may be gone: the wake-up names its address and touches nothing there. Whoever waits at the same
/// address for something else by then wakes in vain, which a futex allows.
void Job::finish() {
  const uint32_t before = phase_.exchange(kTelling, std::memory_order_acq_rel);
  if (on_done.fn) on_done.fn(on_done.context);
  phase_.store(kDone, std::memory_order_release);
  if (before == kAwaited) syscall(SYS_futex, &phase_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

Result<std::unique_ptr<IoThread>, Message> IoThread::start(const Settings& settings, uint32_t index) {
  auto context = Context::make(settings);
  if (!context) return context.error();
  std::unique_ptr<IoThread> thread(new IoThread(std::move(*context)));
  const std::string name = "memkv-io-" + std::to_string(index);
  auto started = base::start_thread(name.c_str(), [self = thread.get()] { self->loop(); });
  if (!started) {
    return Message{started.error().status,
                   "the client cannot start its I/O thread: " + std::string(std::strerror(started.error().sys_errno)) +
                       ": " + started.error().what};
  }
  thread->thread_ = std::move(*started);
  return thread;
}

IoThread::IoThread(std::unique_ptr<Context> context)
    : context_(std::move(context)), mailbox_(kMailboxItems, &context_->reactor()) {
  context_->set_on_wake([](void* self) { static_cast<IoThread*>(self)->drain(); }, this);
}

IoThread::~IoThread() {
  if (!thread_.joinable()) return;
  stopping_.store(true, std::memory_order_release);
  context_->reactor().wake();
  thread_.join();
}

void IoThread::push(Item item) {
  while (!mailbox_.push(std::move(item))) base::nap();  // full: the thread is at work on the items before
}

void IoThread::submit(Job& job) {
  MEMKV_ASSERT(!job.link.linked() && !stopping_.load(std::memory_order_relaxed));
  job.thread = this;
  job.call.context = &job;
  job.call.outcomes = &job.outcomes;
  push({.job = &job, .canceled = 0});
}

void IoThread::cancel(uint64_t id) { push({.job = nullptr, .canceled = id}); }

void IoThread::loop() {
  base::PollPolicy policy(poll_least_ns());
  while (!stopping_.load(std::memory_order_acquire)) {
    // Sleeps when nothing is under way, and after a while without movement.
    Waiter waiter(policy, kSleepNs);
    if (jobs_.empty()) {
      context_->run_once(kSleepNs);
      continue;
    }
    while (waiter.go_on(context_->run_once(waiter.sleep_ns()) > 0) && !jobs_.empty()) {
    }
  }
  drain();
  context_->shut_down();
  MEMKV_ASSERT(jobs_.empty(), "shut_down() ends every job");
}

void IoThread::drain() {
  while (auto item = mailbox_.pop()) take(*item);
}

void IoThread::take(Item& item) {
  if (item.job == nullptr) {
    for (Job& job : jobs_) {
      if (job.id == item.canceled) return context_->cancel(job.call);
    }
    return;  // complete already
  }
  Job& job = *item.job;
  if (job.kind == Job::Kind::kDescribe) {
    job.lines = context_->describe();
    return job.finish();
  }
  jobs_.push_back(job);
  job.call.on_done = [](Call& call) {
    auto& done = *static_cast<Job*>(call.context);
    done.thread->jobs_.remove(done);
    done.finish();
  };
  context_->submit(job.call);
}

}  // namespace memkv::client
