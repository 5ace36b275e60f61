#pragma once
/// Threads that do blocking device I/O for a reactor without io_uring.

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "io/loop.h"

namespace memkv::io {

/// Holds the only mutex of io. At most as many ops as the reactor admits, all linked through IoOp, so nothing is
/// allocated. Thread: the reactor's, but for the pool's own threads.
class DeviceThreads {
 public:
  /// As many threads as can be had, up to `threads`.
  DeviceThreads(uint32_t threads, Waker& waker);
  ~DeviceThreads();  ///< the queue is empty by then

  size_t size() const { return threads_.size(); }  ///< 0: no thread could be made, nothing may be submitted
  void submit(IoOp& op);
  bool withdraw(IoOp& op);  ///< false when a thread already has it
  bool any_done() const { return any_done_.load(); }
  void take_done(OpQueue& into);  ///< `into` is empty

 private:
  void run(size_t thread);
  IoOp* take();
  static int32_t perform(const IoOp& op);

  Waker& waker_;
  std::mutex mutex_;
  std::condition_variable work_;
  OpQueue queued_;
  OpQueue done_;
  std::vector<int> serving_;  // by thread: the file that it is at, or -1
  bool stopping_ = false;
  std::atomic<bool> any_done_{false};
  std::vector<std::thread> threads_;
};

}  // namespace memkv::io
