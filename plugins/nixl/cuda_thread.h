#pragma once
/// The one thread that calls CUDA.

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "copy_job_queue.h"
#include "cudart.h"

namespace memkv::nixl {

/// All CUDA calls are made here, on a thread of our own: the caller's current device is never changed, no context is
/// made on a device that nobody named, a capture of the caller's goes on undisturbed (this thread is in relaxed mode),
/// and a call that blocks (pageable memory) blocks nobody else. Per device one non-blocking stream.
/// Thread: any.
class CudaThread {
 public:
  /// Failure: why there is no CUDA.
  static Result<std::unique_ptr<CudaThread>, Message> start();
  /// Waits for all jobs, gives streams and events back.
  ~CudaThread();
  CudaThread(const CudaThread&) = delete;
  CudaThread& operator=(const CudaThread&) = delete;

  /// The device that this memory lies on; failure: it is not device memory. Makes `device_hint`'s context, if the hint
  /// names a device. Waits.
  Result<uint32_t, Message> device_of(uintptr_t memory, uint64_t device_hint);
  /// Pins host memory for copies of all devices. Waits.
  Result<void, Message> pin(void* memory, size_t bytes, uint32_t device);
  void unpin(void* memory);

  /// Makes the job's copies that touch a device. The caller has entered the job; the thread leaves it.
  void submit(CopyJob& job);

 private:
  /// So many copies are asked for ahead of the bytes: what a cancel has to wait for.
  static constexpr uint32_t kWindowCopies = 32;

  struct Device {
    CudaStream stream = nullptr;
    std::vector<CudaEvent> free_events;
  };
  /// A job under way.
  struct Running {
    CopyJob* job = nullptr;
    size_t copy = 0;            ///< the next to be asked for
    uint64_t offset = 0;        ///< in it
    uint32_t device = 0;        ///< of the window that is out
    CudaEvent event = nullptr;  ///< reached when the window is through; nullptr: none is out
  };

  explicit CudaThread(const CudaRuntime& cuda);
  void run();
  void wait_for_news(std::unique_lock<std::mutex>& lock);
  void take_arrivals(std::unique_lock<std::mutex>& lock);
  void advance_all();
  /// False: the job has ended.
  bool advance(Running& running);
  bool window_is_out(Running& running);
  void ask_window(Running& running);
  void ask_copies(Running& running, CudaStream stream);
  CudaStatus ask_piece(const Copy& copy, uint64_t offset, uint64_t bytes, CudaStream stream);
  /// Makes the device current here, with its stream on the first use; nullptr and `status` when that fails.
  Device* use(uint32_t device, CudaStatus* status);
  CudaEvent take_event(Device& device, CudaStatus* status);
  void fail(Running& running, CudaStatus status);
  /// When events cannot say any more what is under way: waits for the stream.
  void fail_quietly(Running& running, Device& device, CudaStatus status);
  /// Runs `call` on the thread and waits for it.
  void call(const std::function<void()>& call);
  Message failure(const char* what, CudaStatus status) const;
  void give_back_all();

  const CudaRuntime& cuda_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable called_;
  CopyJobQueue<&CopyJob::next_on_cuda_> arrived_;
  std::vector<std::function<void()>> calls_;
  bool stopping_ = false;
  // The thread's own:
  std::vector<Running> running_;
  std::map<uint32_t, Device> devices_;
  std::optional<uint32_t> current_;
  std::thread thread_;
};

}  // namespace memkv::nixl
