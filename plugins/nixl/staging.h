#pragma once
/// Host memory that bytes of VRAM pass through on their way to and from the wire.

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "cuda_thread.h"
#include "memkv/types.h"

namespace memkv::nixl {

/// A fixed number of slots of one chunk each, pinned for CUDA when the first VRAM is registered. Who finds none free
/// waits in line; a slot comes back only from the one who has it, when the wire and CUDA are done with it.
/// Thread: any, but open() once before the rest; an Ask belongs to one thread at a time.
class StagingPool {
 public:
  static constexpr uint64_t kSlotBytes = kChunkBytesMax;

  /// One who wants slots, all or none. Must not be destroyed while it waits or holds some.
  class Ask {
   public:
    /// True: slots() are ours.
    bool granted() const { return granted_.load(std::memory_order_acquire); }
    const std::vector<char*>& slots() const { return slots_; }

   private:
    friend class StagingPool;
    size_t wanted_ = 0;
    bool waiting_ = false;
    std::vector<char*> slots_;
    std::atomic<bool> granted_{false};
  };

  explicit StagingPool(uint64_t bytes) : slot_count_(bytes / kSlotBytes) {}
  /// All slots must be back.
  ~StagingPool();
  StagingPool(const StagingPool&) = delete;
  StagingPool& operator=(const StagingPool&) = delete;

  /// Maps the memory and pins it, in the context of `device`; it stays. `cuda` must live longer than the pool.
  Result<void, Message> open(CudaThread& cuda, uint32_t device);
  uint64_t bytes() const { return slot_count_ * kSlotBytes; }

  /// Gets in line for `slots` of them, at most as many as there are (asserted). True: granted at once.
  bool ask(Ask& ask, size_t slots);
  /// Leaves the line or gives back what was granted, whichever it is; harmless when neither.
  void give_back(Ask& ask);

 private:
  void serve();

  const size_t slot_count_;
  std::mutex mutex_;
  CudaThread* cuda_ = nullptr;
  char* memory_ = nullptr;
  std::vector<char*> free_;
  std::vector<Ask*> line_;  // first in, first served
};

}  // namespace memkv::nixl
