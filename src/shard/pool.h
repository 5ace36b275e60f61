#pragma once
/// A fixed number of objects, all made at start.

#include <cstddef>
#include <memory>
#include <vector>

#include "base/assert.h"

namespace memkv::shard {

/// Whole at rest: in_use() == 0. An empty pool gives null, and the caller answers kBusy. Thread: worker.
template <typename T>
class Pool {
 public:
  explicit Pool(size_t count) : items_(new T[count]), count_(count) {
    free_.reserve(count);
    for (size_t i = count; i > 0; i--) free_.push_back(&items_[i - 1]);
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  T* take() {
    if (free_.empty()) return nullptr;
    T* item = free_.back();
    free_.pop_back();
    return item;
  }
  void give_back(T& item) {
    MEMKV_ASSERT(&item >= items_.get() && &item < items_.get() + count_, "of another pool");
    MEMKV_ASSERT(free_.size() < count_, "given back twice");
    free_.push_back(&item);
  }
  size_t size() const { return count_; }
  size_t free() const { return free_.size(); }
  size_t in_use() const { return count_ - free_.size(); }
  /// All of them, used or not.
  T* begin() { return items_.get(); }
  T* end() { return items_.get() + count_; }

 private:
  std::unique_ptr<T[]> items_;
  size_t count_;
  std::vector<T*> free_;
};

}  // namespace memkv::shard
