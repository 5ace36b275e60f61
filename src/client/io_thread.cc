#include "client/io_thread.h"

#include <cstring>

#include "base/assert.h"
#include "base/thread.h"
#include "client/waiting.h"

namespace memkv::client {
namespace {

constexpr size_t kMailboxItems = 1024;
constexpr uint64_t kSleepNs = 1'000'000'000;

}  // namespace

void Job::wait() {
  const uint64_t spin_ns = spin_limit_ns();
  if (spin_ns > 0) {
    const uint64_t until = monotonic_ns() + spin_ns;
    while (!done() && monotonic_ns() < until) sched_yield();
  }
  for (uint32_t phase; (phase = phase_.load(std::memory_order_acquire)) != kDone;) {
    // kEnding lasts as long as the I/O thread's wake-up call, its last touch of this job.
    phase == kUnderWay ? phase_.wait(kUnderWay, std::memory_order_acquire) : static_cast<void>(sched_yield());
  }
}

void Job::finish() {
  phase_.store(kEnding, std::memory_order_release);
  phase_.notify_all();
  phase_.store(kDone, std::memory_order_release);
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
  while (!mailbox_.push(std::move(item))) sched_yield();  // full: the thread is at work on the items before
}

void IoThread::submit(Job& job) {
  job.thread = this;
  job.call.context = &job;
  job.call.outcomes = &job.outcomes;
  push({.job = &job, .canceled = 0});
}

void IoThread::cancel(uint64_t id) { push({.job = nullptr, .canceled = id}); }

void IoThread::loop() {
  const uint64_t spin_ns = spin_limit_ns();
  while (!stopping_.load(std::memory_order_acquire)) {
    // Sleeps when nothing is under way, and after a while without movement.
    Waiter waiter(spin_ns, kSleepNs);
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
    job.text = context_->describe();
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
