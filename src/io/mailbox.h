#pragma once
/// Sends items from any thread to one thread: a bounded ring that many push and one pops.

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "base/assert.h"
#include "io/reactor.h"

namespace memkv::io {

/// All memory is allocated at start, and no call blocks. Each push wakes the owner's reactor, which costs a system call
/// only while that sleeps. Items of one pusher come out in the order in which it pushed them. Source: the bounded queue
/// of D. Vyukov, with a sequence number for each cell.
template <typename T>
class Mailbox {
  static_assert(std::is_nothrow_move_constructible_v<T> && std::is_nothrow_default_constructible_v<T>);

 public:
  /// `reactor` must outlive the mailbox; it may be null, and then nobody is woken. Capacity is rounded up to a power of
  /// two, at least 2.
  Mailbox(size_t capacity, Reactor* reactor)
      : mask_(std::bit_ceil(capacity < 2 ? size_t{2} : capacity) - 1), cells_(new Cell[mask_ + 1]), reactor_(reactor) {
    for (size_t i = 0; i <= mask_; i++) cells_[i].sequence.store(i, std::memory_order_relaxed);
  }
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;

  size_t capacity() const { return mask_ + 1; }

  /// False: the mailbox is full, and `item` was not moved from. Thread: any.
  [[nodiscard]] bool push(T&& item) {
    size_t at = tail_.load(std::memory_order_relaxed);
    while (true) {
      Cell& cell = cells_[at & mask_];
      const size_t sequence = cell.sequence.load(std::memory_order_acquire);
      if (sequence == at) {
        if (!tail_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) continue;
        cell.item = std::move(item);
        cell.sequence.store(at + 1, std::memory_order_release);
        if (reactor_) reactor_->wake();
        return true;
      }
      // Behind: the cell still holds an item of the round before, so the ring is full. Ahead: another pusher took this
      // place.
      if (static_cast<intptr_t>(sequence - at) < 0) return false;
      at = tail_.load(std::memory_order_relaxed);
    }
  }
  [[nodiscard]] bool push(const T& item) {
    T copy = item;
    return push(std::move(copy));
  }

  /// Takes the next item. Thread: the owner's.
  std::optional<T> pop() {
    Cell& cell = cells_[head_ & mask_];
    if (cell.sequence.load(std::memory_order_acquire) != head_ + 1) return std::nullopt;
    std::optional<T> item(std::move(cell.item));
    cell.item = T{};  // frees what the item owned
    cell.sequence.store(head_ + mask_ + 1, std::memory_order_release);
    head_++;
    return item;
  }

 private:
  static constexpr size_t kCacheLine = 64;
  struct Cell {
    std::atomic<size_t> sequence{0};
    T item{};
  };

  const size_t mask_;
  const std::unique_ptr<Cell[]> cells_;
  Reactor* const reactor_;
  alignas(kCacheLine) std::atomic<size_t> tail_{0};  // used by pushers
  alignas(kCacheLine) size_t head_ = 0;              // used by the owner
};

}  // namespace memkv::io
