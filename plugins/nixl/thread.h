#pragma once
/// Threads of the plugin: each is a help, none is needed, since the machine may not give one.

#include <atomic>
#include <exception>
#include <functional>
#include <string>
#include <thread>

#include "log.h"

namespace memkv::nixl {

/// A thread that is tried for again, at most once a second, while it cannot be had (a limit of processes, memory).
/// Thread: one at a time, but running().
class OptionalThread {
 public:
  /// `purpose` completes "no thread can be made ...", and says what happens without.
  explicit OptionalThread(const char* purpose) : purpose_(purpose) {}
  OptionalThread(const OptionalThread&) = delete;
  OptionalThread& operator=(const OptionalThread&) = delete;

  bool running() const { return running_.load(std::memory_order_acquire); }
  /// True: it runs. Cheap when it does, or was tried for a moment ago.
  bool start(const std::function<void()>& run) {
    uint64_t held_back = 0;
    if (running() || !tried_.pass(held_back)) return running();
    try {
      thread_ = std::thread(run);
      running_.store(true, std::memory_order_release);
    } catch (const std::exception& e) {
      log_line(std::string("no thread can be made ") + purpose_ + " (" + e.what() + "); it is tried again");
    }
    return running();
  }
  /// After its function was told to return.
  void join() {
    if (thread_.joinable()) thread_.join();
    running_.store(false, std::memory_order_relaxed);
  }

 private:
  const char* const purpose_;
  LogLimit tried_{1'000'000'000};
  std::thread thread_;
  std::atomic<bool> running_{false};
};

}  // namespace memkv::nixl
