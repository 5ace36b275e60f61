#pragma once
/// Records that are used again and again: grown in groups, never given back before the end.

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/assert.h"

namespace memkv::client {

/// A record taken is in the state in which it was given back: its vectors keep their room. Thread: the owner's.
template <typename T, size_t kGroup = 64>
class Pool {
 public:
  Pool() = default;
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  ~Pool() { MEMKV_ASSERT(in_use_ == 0, "a record was not given back"); }

  T& take() {
    if (free_.empty()) grow();
    T* record = free_.back();
    free_.pop_back();
    in_use_++;
    return *record;
  }
  void give_back(T& record) {
    MEMKV_ASSERT(in_use_ > 0);
    free_.push_back(&record);
    in_use_--;
  }
  /// The next so many take() need no memory.
  void reserve(size_t records) {
    while (free_.size() < records) grow();
  }
  size_t in_use() const { return in_use_; }

 private:
  void grow() {
    const size_t records = (groups_.size() + 1) * kGroup;
    if (free_.capacity() < records) free_.reserve(std::max(records, 2 * free_.capacity()));
    groups_.push_back(std::make_unique<T[]>(kGroup));
    for (size_t i = kGroup; i > 0; i--) free_.push_back(&groups_.back()[i - 1]);
  }
  std::vector<std::unique_ptr<T[]>> groups_;
  std::vector<T*> free_;
  size_t in_use_ = 0;
};

}  // namespace memkv::client
