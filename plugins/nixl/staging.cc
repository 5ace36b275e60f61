#include "staging.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/assert.h"

namespace memkv::nixl {

StagingPool::~StagingPool() {
  MEMKV_ASSERT(line_.empty(), "somebody waits for a slot");
  if (!memory_) return;
  MEMKV_ASSERT(free_.size() == slot_count_, "a slot has not come back");
  cuda_->unpin(memory_);
  munmap(memory_, bytes());
}

Result<void, Message> StagingPool::open(CudaThread& cuda, uint32_t device) {
  const std::lock_guard lock(mutex_);
  if (memory_) return {};
  if (slot_count_ == 0) return Message{Status::kInvalid, "staging_mb must be at least 2 for VRAM"};
  void* memory = mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Message{Status::kNoSpace, "no memory for staging: lower staging_mb"};
  madvise(memory, bytes(), MADV_HUGEPAGE);
  auto pinned = cuda.pin(memory, bytes(), device);
  if (!pinned) {
    munmap(memory, bytes());
    return pinned.error();
  }
  cuda_ = &cuda;
  memory_ = static_cast<char*>(memory);
  for (size_t i = slot_count_; i > 0; --i) free_.push_back(memory_ + (i - 1) * kSlotBytes);
  return {};
}

bool StagingPool::ask(Ask& ask, size_t slots) {
  const std::lock_guard lock(mutex_);
  MEMKV_ASSERT(memory_ && slots <= slot_count_, "asked for more slots than there are");
  MEMKV_ASSERT(!ask.waiting_ && !ask.granted(), "asked twice");
  ask.wanted_ = slots;
  ask.waiting_ = true;
  line_.push_back(&ask);
  serve();
  return ask.granted();
}

void StagingPool::give_back(Ask& ask) {
  const std::lock_guard lock(mutex_);
  if (ask.waiting_) std::erase(line_, &ask);
  ask.waiting_ = false;
  free_.insert(free_.end(), ask.slots_.begin(), ask.slots_.end());
  ask.slots_.clear();
  ask.granted_.store(false, std::memory_order_relaxed);
  serve();
}

void StagingPool::serve() {
  while (!line_.empty() && line_.front()->wanted_ <= free_.size()) {
    Ask& ask = *line_.front();
    line_.erase(line_.begin());
    ask.slots_.assign(free_.end() - static_cast<std::ptrdiff_t>(ask.wanted_), free_.end());
    free_.resize(free_.size() - ask.wanted_);
    ask.waiting_ = false;
    ask.granted_.store(true, std::memory_order_release);
  }
}

}  // namespace memkv::nixl
