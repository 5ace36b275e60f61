#pragma once
/// Helpers that the tests of this folder share. Test code only.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "io/reactor.h"

namespace memkv::io {

/// An op that counts its completions and may do something at each one.
struct TestOp {
  IoOp op;
  int count = 0;
  int32_t result = INT32_MIN;
  std::function<void(TestOp&)> then;

  TestOp() { arm(); }
  TestOp(const TestOp&) = delete;
  TestOp& operator=(const TestOp&) = delete;
  /// Returns the op, ready to be submitted again.
  IoOp& arm() {
    op.context = this;
    op.on_done = [](IoOp& done, int32_t moved) {
      auto& self = *static_cast<TestOp*>(done.context);
      MEMKV_ASSERT(!done.pending());
      self.count++;
      self.result = moved;
      if (self.then) self.then(self);
    };
    return op;
  }
};

/// Bytes that begin on a sector boundary, as devices want them.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size, int fill = 0)
      : size_(size), data_(static_cast<std::byte*>(std::aligned_alloc(4096, size)), std::free) {
    for (size_t i = 0; i < size; i++) data_.get()[i] = static_cast<std::byte>(fill);
  }
  std::byte* data() { return data_.get(); }
  size_t size() const { return size_; }
  iovec piece(size_t from = 0) { return {data() + from, size_ - from}; }
  iovec piece(size_t from, size_t length) { return {data() + from, length}; }
  std::byte& operator[](size_t i) { return data_.get()[i]; }
  friend bool operator==(const AlignedBytes& a, const AlignedBytes& b) {
    return a.size_ == b.size_ && std::equal(a.data_.get(), a.data_.get() + a.size_, b.data_.get());
  }

 private:
  size_t size_;
  std::unique_ptr<std::byte, void (*)(void*)> data_;
};

}  // namespace memkv::io
