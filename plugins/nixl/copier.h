#pragma once
/// Runs local copies: host to host on copy threads, to and from VRAM on the CUDA thread.

#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "copy_job_queue.h"
#include "cuda_thread.h"
#include "thread.h"

namespace memkv::nixl {

/// Thread: any; start and cancel of one job by one thread at a time. Destruction waits for all jobs.
class Copier {
 public:
  struct Options {
    uint32_t threads = 1;                   ///< at least 1
    uint64_t inline_bytes_max = 256 << 10;  ///< jobs of at most so many bytes on the host run inside start()
  };
  explicit Copier(Options options);
  Copier() : Copier(Options{}) {}
  ~Copier();
  Copier(const Copier&) = delete;
  Copier& operator=(const Copier&) = delete;

  /// Loads CUDA and starts its thread, once; a failure may be tried again. Before the first job that touches a device.
  Result<CudaThread*, Message> start_cuda();
  /// nullptr before start_cuda() has succeeded.
  CudaThread* cuda() const { return cuda_.load(std::memory_order_acquire); }

  /// True: all is done already, and on_done is not called. Never waits for the CUDA or a copy thread; where there is no
  /// copy thread, copies on the host run inside, whatever their size.
  bool start(CopyJob& job);
  /// From now on at most the pieces under way are finished; done() follows soon. Harmless when the job is done.
  void cancel(CopyJob& job);

 private:
  bool start_threads();
  bool enqueue(CopyJob& job);
  void run_thread();
  /// Takes part in a job that stands in the queue, and takes it out when all is claimed. Thread: any number.
  void take_part(CopyJob& job, std::unique_lock<std::mutex>& lock);

  const Options options_;
  std::mutex mutex_;
  std::condition_variable wake_;
  CopyJobQueue<&CopyJob::next_on_host_> queue_;
  bool stopping_ = false;
  std::vector<std::unique_ptr<OptionalThread>> threads_;
  std::mutex cuda_mutex_;
  std::unique_ptr<CudaThread> owned_cuda_;
  std::atomic<CudaThread*> cuda_{nullptr};
};

}  // namespace memkv::nixl
