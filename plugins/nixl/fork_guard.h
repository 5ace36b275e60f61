#pragma once
/// Tells the child of a fork: threads and sockets of the parent are not there or not its own.

#include <pthread.h>

#include <atomic>
#include <cstdint>

namespace memkv::nixl {

class ForkGuard {
 public:
  ForkGuard() {
    static const int watching = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
    (void)watching;
    born_ = forks.load(std::memory_order_relaxed);
  }
  /// This process is a child of the one that made the guard.
  bool forked() const { return forks.load(std::memory_order_relaxed) != born_; }

 private:
  static inline std::atomic<uint64_t> forks{0};
  uint64_t born_;
};

}  // namespace memkv::nixl
