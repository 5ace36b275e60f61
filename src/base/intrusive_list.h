#pragma once
/// Lists whose links lie inside the elements. They allocate nothing, an element can be taken out of the middle, and
/// somebody else owns the elements.

#include <cstddef>

#include "base/assert.h"

namespace memkv::base {

/// The link that an element has for one list. An element that can be in two lists at a time has two. A copy of the
/// element is in no list.
template <typename T>
struct ListLink {
  T* previous = nullptr;
  T* next = nullptr;
  const void* list = nullptr;  ///< the list that the element is in, or nullptr

  ListLink() = default;
  ListLink(const ListLink&) {}
  ListLink& operator=(const ListLink&) { return *this; }
  ~ListLink() { MEMKV_ASSERT(list == nullptr, "destroyed while in a list"); }
  bool linked() const { return list != nullptr; }
};

/// A list: `struct Op { ListLink<Op> link; }; IntrusiveList<Op, &Op::link> ops;` It borrows its elements. Its
/// destructor takes them all out.
template <typename T, ListLink<T> T::*kLink>
class IntrusiveList {
 public:
  IntrusiveList() = default;
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  ~IntrusiveList() { clear(); }

  bool empty() const { return first_ == nullptr; }
  size_t size() const { return size_; }
  T* front() const { return first_; }  ///< nullptr if empty
  T* back() const { return last_; }    ///< nullptr if empty
  static T* next(const T& element) { return (element.*kLink).next; }
  bool contains(const T& element) const { return (element.*kLink).list == this; }

  void push_back(T& element) { insert(element, last_, nullptr); }
  void push_front(T& element) { insert(element, nullptr, first_); }

  /// nullptr if empty.
  T* pop_front() {
    T* element = first_;
    if (element) remove(*element);
    return element;
  }

  void remove(T& element) {
    ListLink<T>& link = element.*kLink;
    MEMKV_ASSERT(link.list == this, "removed from a list that it is not in");
    (link.previous ? (link.previous->*kLink).next : first_) = link.next;
    (link.next ? (link.next->*kLink).previous : last_) = link.previous;
    link.previous = link.next = nullptr;
    link.list = nullptr;
    --size_;
  }

  void clear() {
    while (pop_front()) {
    }
  }

  /// For range-based loops. The body may remove the element that the loop is at.
  class Iterator {
   public:
    explicit Iterator(T* at) : at_(at), next_(at ? (at->*kLink).next : nullptr) {}
    T& operator*() const { return *at_; }
    Iterator& operator++() { return *this = Iterator(next_); }
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    T* at_;
    T* next_;
  };
  Iterator begin() const { return Iterator(first_); }
  Iterator end() const { return Iterator(nullptr); }

 private:
  void insert(T& element, T* previous, T* next) {
    ListLink<T>& link = element.*kLink;
    MEMKV_ASSERT(link.list == nullptr, "already in a list");
    link.previous = previous;
    link.next = next;
    link.list = this;
    (previous ? (previous->*kLink).next : first_) = &element;
    (next ? (next->*kLink).previous : last_) = &element;
    ++size_;
  }

  T* first_ = nullptr;
  T* last_ = nullptr;
  size_t size_ = 0;
};

/// The link that an element has for an IntrusiveQueue: one pointer.
template <typename T>
struct QueueLink {
  T* next = nullptr;
};

/// First in, first out; the cheapest list. An element can be in one queue for each link. Unlike IntrusiveList, the
/// queue does not notice when it is put into two: the caller must know.
template <typename T, QueueLink<T> T::*kLink>
class IntrusiveQueue {
 public:
  IntrusiveQueue() = default;
  IntrusiveQueue(const IntrusiveQueue&) = delete;
  IntrusiveQueue& operator=(const IntrusiveQueue&) = delete;

  bool empty() const { return first_ == nullptr; }
  T* front() const { return first_; }  ///< nullptr if empty

  void push_back(T& element) {
    (element.*kLink).next = nullptr;
    (last_ ? (last_->*kLink).next : first_) = &element;
    last_ = &element;
  }
  void push_front(T& element) {
    (element.*kLink).next = first_;
    first_ = &element;
    if (!last_) last_ = &element;
  }
  /// nullptr if empty.
  T* pop_front() {
    T* element = first_;
    if (!element) return nullptr;
    first_ = (element->*kLink).next;
    if (!first_) last_ = nullptr;
    (element->*kLink).next = nullptr;
    return element;
  }

 private:
  T* first_ = nullptr;
  T* last_ = nullptr;
};

}  // namespace memkv::base
