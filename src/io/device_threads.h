#pragma once
/// Threads that do blocking device I/O, for a reactor without io_uring.

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "io/loop.h"

namespace memkv::io {

/// Hands ops to its threads and collects those that are done. It has the only mutex of src/io. The reactor admits a
/// limited number of ops, and they are linked through IoOp, so nothing is allocated. Thread: the reactor's, except for
/// the threads of the pool.
class DeviceThreads {
 public:
  /// Starts as many threads as it can get, up to `threads`.
  DeviceThreads(uint32_t threads, Waker& waker);
  ~DeviceThreads();  ///< the queue must be empty

  size_t size() const { return threads_.size(); }  ///< 0: no thread could be started, so nothing may be submitted
  void submit(IoOp& op);
  bool withdraw(IoOp& op);  ///< false: a thread already works on it
  bool any_done() const { return any_done_.load(); }
  void take_done(OpQueue& into);  ///< `into` must be empty

 private:
  void run(size_t thread);
  IoOp* take();
  static int32_t perform(const IoOp& op);

  Waker& waker_;
  std::mutex mutex_;
  std::condition_variable work_;
  OpQueue queued_;
  OpQueue done_;
  std::vector<int> serving_;  // for each thread the file that it works on, or -1
  bool stopping_ = false;
  std::atomic<bool> any_done_{false};
  std::vector<std::thread> threads_;
};

}  // namespace memkv::io
