#pragma once
/// Counts what a piece of a test allocates, and can refuse it. Include it in one file of a test program: it replaces
/// the program's operator new.

#include <malloc.h>

#include <algorithm>
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
  /// The most bytes that were allocated at one time, and not before the counter was made.
  size_t peak_bytes() const { return static_cast<size_t>(peak_bytes_); }

  /// For operator new. Null: there is no memory, or none was granted.
  static void* allocate(size_t bytes, size_t alignment = 0) {
    AllocationCounter* counter = current();
    if (counter != nullptr && counter->count_++ >= counter->granted_) return nullptr;
    void* memory = alignment == 0 ? std::malloc(bytes) : std::aligned_alloc(alignment, bytes);
    if (counter != nullptr) counter->add(static_cast<int64_t>(malloc_usable_size(memory)));
    return memory;
  }
  static void free(void* memory) {
    if (AllocationCounter* counter = current()) counter->add(-static_cast<int64_t>(malloc_usable_size(memory)));
    std::free(memory);
  }

 private:
  void add(int64_t bytes) {
    bytes_ += bytes;
    peak_bytes_ = std::max(peak_bytes_, bytes_);
  }
  static AllocationCounter*& current() {
    thread_local AllocationCounter* counter = nullptr;
    return counter;
  }

  const size_t granted_;
  size_t count_ = 0;
  int64_t bytes_ = 0, peak_bytes_ = 0;
};

}  // namespace memkv::base

[[gnu::noinline]] void* operator new(size_t bytes) {
  if (void* memory = memkv::base::AllocationCounter::allocate(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return memkv::base::AllocationCounter::allocate(bytes);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { memkv::base::AllocationCounter::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { memkv::base::AllocationCounter::free(memory); }
[[gnu::noinline]] void* operator new(size_t bytes, std::align_val_t alignment) {
  if (void* memory = memkv::base::AllocationCounter::allocate(bytes, static_cast<size_t>(alignment))) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  memkv::base::AllocationCounter::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept {
  memkv::base::AllocationCounter::free(memory);
}
