#include "copier.h"

#include "base/assert.h"

namespace memkv::nixl {

Copier::Copier(Options options) : options_(options) {
  MEMKV_ASSERT(options.threads > 0, "large jobs do not run inside start()");
  constexpr const char* kPurpose = "for local copies: who starts them makes them";
  for (uint32_t i = 0; i < options.threads; ++i)
    threads_.push_back(std::make_unique<OptionalThread>("memkv-copy", kPurpose));
  const std::lock_guard lock(mutex_);
  start_threads();
}

Copier::~Copier() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (const auto& thread : threads_) thread->join();
}

/// False: there is none. The caller holds the lock.
bool Copier::start_threads() {
  bool any = false;
  for (const auto& thread : threads_) any = thread->start([this] { run_thread(); }) || any;
  return any;
}

Result<CudaThread*, Message> Copier::start_cuda() {
  const std::lock_guard lock(cuda_mutex_);
  if (owned_cuda_) return owned_cuda_.get();
  auto started = CudaThread::start();
  if (!started) return started.error();
  owned_cuda_ = std::move(started).value();
  cuda_.store(owned_cuda_.get(), std::memory_order_release);
  return owned_cuda_.get();
}

bool Copier::start(CopyJob& job) {
  MEMKV_ASSERT(job.done(), "a job is started again only when it is done");
  job.prepare();
  if (job.has_device_copies_) {
    MEMKV_ASSERT(cuda() != nullptr, "start_cuda() comes first");
    job.enter();
    cuda()->submit(job);
  }
  if (job.host_bytes_ <= options_.inline_bytes_max || !enqueue(job)) job.run_host();
  if (!job.leave()) return false;
  job.done_.store(true, std::memory_order_release);
  return true;
}

/// False: there is no thread to take it out again.
bool Copier::enqueue(CopyJob& job) {
  {
    const std::lock_guard lock(mutex_);
    if (!start_threads()) return false;
    job.enter();
    queue_.push(job);
  }
  wake_.notify_all();
  return true;
}

void Copier::cancel(CopyJob& job) {
  if (job.done()) return;
  job.canceled_.store(true, std::memory_order_relaxed);
  std::unique_lock lock(mutex_);
  // What nobody has begun is passed over here, rather than when a thread comes to it.
  if (queue_.contains(job)) take_part(job, lock);
}

void Copier::run_thread() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    take_part(queue_.front(), lock);
  }
}

void Copier::take_part(CopyJob& job, std::unique_lock<std::mutex>& lock) {
  job.enter();
  lock.unlock();
  job.run_host();
  lock.lock();
  const bool was_queued = queue_.remove(job);
  lock.unlock();
  if (was_queued) job.leave_and_tell();
  job.leave_and_tell();
  lock.lock();
}

}  // namespace memkv::nixl
