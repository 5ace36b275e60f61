#pragma once
/// Counts what a piece of a test allocates, and can refuse it. Include it in one file of a test program: it replaces
/// the program's operator new.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace memkv::base {

/// Counts the allocations of its thread while it lives; those beyond `granted` fail. Thread: the one that made it, one
/// at a time.
class AllocationCounter {
 public:
  explicit AllocationCounter(size_t granted = SIZE_MAX) : granted_(granted) { current() = this; }
  ~AllocationCounter() { current() = nullptr; }
  AllocationCounter(const AllocationCounter&) = delete;
  AllocationCounter& operator=(const AllocationCounter&) = delete;

  /// Allocations so far, those that failed among them.
  size_t count() const { return count_; }

  /// For operator new. Null: there is no memory, or none was granted.
  static void* allocate(size_t bytes) {
    AllocationCounter* counter = current();
    if (counter != nullptr && counter->count_++ >= counter->granted_) return nullptr;
    return std::malloc(bytes);
  }

 private:
  static AllocationCounter*& current() {
    thread_local AllocationCounter* counter = nullptr;
    return counter;
  }

  const size_t granted_;
  size_t count_ = 0;
};

}  // namespace memkv::base

[[gnu::noinline]] void* operator new(size_t bytes) {
  if (void* memory = memkv::base::AllocationCounter::allocate(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return memkv::base::AllocationCounter::allocate(bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
