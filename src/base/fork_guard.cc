#include "base/fork_guard.h"

#include <pthread.h>

#include <atomic>

namespace memkv::base {
namespace {

std::atomic<uint64_t> forks{0};

void watch_forks() {
  static const int watching = pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  (void)watching;
}

}  // namespace

uint64_t fork_count() {
  watch_forks();
  return forks.load(std::memory_order_relaxed);
}

ForkGuard::ForkGuard() : generation_(fork_count()) {}

bool ForkGuard::forked() const { return forks.load(std::memory_order_relaxed) != generation_; }

}  // namespace memkv::base
