#pragma once
/// Threads of the plugin: each is a help, none is needed, since the machine may not give one.

#include <atomic>
#include <functional>
#include <thread>

#include "base/thread.h"
#include "log.h"

namespace memkv::nixl {

/// A thread that is tried for again, at most once a second, while it cannot be had (a limit of processes, memory).
/// Thread: one at a time, but running().
class OptionalThread {
 public:
  /// `name` is the kernel's. `purpose` completes "no thread can be made ...", and says what happens without.
  OptionalThread(const char* name, const char* purpose) : name_(name), purpose_(purpose) {}
  OptionalThread(const OptionalThread&) = delete;
  OptionalThread& operator=(const OptionalThread&) = delete;

  bool running() const { return running_.load(std::memory_order_acquire); }
  /// True: it runs. Cheap when it does, or was tried for a moment ago.
  bool start(const std::function<void()>& run) {
    uint64_t held_back = 0;
    if (running() || !tried_.pass(&held_back)) return running();
    if (auto thread = base::start_thread(name_, run)) {
      thread_ = std::move(*thread);
      running_.store(true, std::memory_order_release);
    } else {
      log_line("no thread can be made {} (see ulimit -u, and pids.max of the container); it is tried again", purpose_);
    }
    return running();
  }
  /// After its function was told to return.
  void join() {
    if (thread_.joinable()) thread_.join();
    running_.store(false, std::memory_order_relaxed);
  }

 private:
  const char* const name_;
  const char* const purpose_;
  base::LogLimiter tried_{1};
  std::thread thread_;
  std::atomic<bool> running_{false};
};

}  // namespace memkv::nixl
