#pragma once
/// The handles that NIXL carries as pointers and hands back: which of them are alive.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>

#include "base/assert.h"

namespace memkv::nixl {

/// Hands out `Handle`s from memory of its own and knows each pointer that comes back: one that is not a live handle of
/// this table is told apart without a look at what it points to. The address of a handle that was given back is not
/// used again before kRest others were handed out, so that a pointer kept too long does not soon name another handle.
/// Thread: any. find() takes no lock: it is on the way of every poll.
template <typename Handle>
class HandleTable {
 public:
  static constexpr size_t kRest = 32;

  HandleTable() = default;
  ~HandleTable() {
    for (auto& block : blocks_) delete[] block.load(std::memory_order_relaxed);
  }
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

  /// A live handle, with what its last user left in it. Throws std::bad_alloc when the last one is taken and there is
  /// no memory for more.
  Handle& take() {
    const std::lock_guard lock(mutex_);
    if (free_count_ <= kRest) grow();
    if (free_count_ == 0) throw std::bad_alloc();
    Entry* entry = first_free_;
    first_free_ = entry->next_free;
    free_count_--;
    entry->alive.store(true, std::memory_order_release);
    return entry->handle;
  }

  void give_back(Handle& handle) {
    Entry* entry = entry_at(reinterpret_cast<uintptr_t>(&handle));
    MEMKV_ASSERT(entry && entry->alive.exchange(false), "a live handle is given back, once");
    const std::lock_guard lock(mutex_);
    append(*entry);
  }

  /// Null: no live handle of this table stands there.
  Handle* find(const void* pointer) const {
    Entry* entry = entry_at(reinterpret_cast<uintptr_t>(pointer));
    return entry && entry->alive.load(std::memory_order_acquire) ? &entry->handle : nullptr;
  }

 private:
  struct Entry {
    Handle handle;
    std::atomic<bool> alive{false};
    Entry* next_free = nullptr;
  };
  static constexpr size_t kFirstBlock = 64, kBlocks = 24;  // each block has twice the entries of the one before
  static constexpr size_t entries_of(size_t block) { return kFirstBlock << block; }

  Entry* entry_at(uintptr_t address) const {
    for (size_t i = 0; i < kBlocks; i++) {
      Entry* block = blocks_[i].load(std::memory_order_acquire);
      if (!block) return nullptr;
      const uintptr_t first = reinterpret_cast<uintptr_t>(block);
      const uintptr_t at = address - first;  // wraps for what lies below
      if (at >= entries_of(i) * sizeof(Entry)) continue;
      Entry& entry = block[at / sizeof(Entry)];
      return reinterpret_cast<uintptr_t>(&entry.handle) == address ? &entry : nullptr;
    }
    return nullptr;
  }

  /// Without memory for a block the table goes on with what it has.
  void grow() {
    if (block_count_ == kBlocks) return;
    Entry* block = new (std::nothrow) Entry[entries_of(block_count_)];
    if (!block) return;
    for (size_t i = 0; i < entries_of(block_count_); i++) append(block[i]);
    blocks_[block_count_++].store(block, std::memory_order_release);
  }

  void append(Entry& entry) {
    entry.next_free = nullptr;
    (free_count_ == 0 ? first_free_ : last_free_->next_free) = &entry;
    last_free_ = &entry;
    free_count_++;
  }

  std::array<std::atomic<Entry*>, kBlocks> blocks_{};
  mutable std::mutex mutex_;
  size_t block_count_ = 0;
  Entry* first_free_ = nullptr;  // the one that has rested longest
  Entry* last_free_ = nullptr;
  size_t free_count_ = 0;
};

}  // namespace memkv::nixl
