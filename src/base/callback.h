#pragma once
/// A callback that never allocates: what it captures lies inside it.

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include "base/assert.h"

namespace memkv::base {

/// Move-only `Function<R(Args...), bytes of captures>`. A callable that does not fit is a compile error. Calling an
/// empty one aborts. Moved from = empty.
template <typename Signature, size_t kCapacity = 48>
class Function;

template <typename R, typename... Args, size_t kCapacity>
class Function<R(Args...), kCapacity> {
 public:
  Function() = default;
  Function(std::nullptr_t) {}  // NOLINT: implicit on purpose

  template <typename F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, Function> && std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
      Function(F&& callable) {  // NOLINT: implicit on purpose
    using Held = std::decay_t<F>;
    static_assert(sizeof(Held) <= kCapacity, "captures do not fit: capture a pointer to the op instead");
    static_assert(alignof(Held) <= alignof(std::max_align_t));
    static_assert(std::is_nothrow_move_constructible_v<Held>);
    new (storage_) Held(std::forward<F>(callable));
    table_ = &kTable<Held>;
  }

  Function(Function&& other) noexcept { take(other); }
  Function& operator=(Function&& other) noexcept {
    if (this == &other) return *this;
    clear();
    take(other);
    return *this;
  }
  Function& operator=(std::nullptr_t) {
    clear();
    return *this;
  }
  ~Function() { clear(); }

  explicit operator bool() const { return table_ != nullptr; }

  R operator()(Args... args) {
    MEMKV_ASSERT(table_ != nullptr, "called an empty callback");
    return table_->call(storage_, std::forward<Args>(args)...);
  }

 private:
  struct Table {
    R (*call)(void* held, Args&&... args);
    void (*relocate)(void* to, void* from);
    void (*destroy)(void* held);
  };

  template <typename Held>
  static constexpr Table kTable = {
      [](void* held, Args&&... args) -> R { return (*static_cast<Held*>(held))(std::forward<Args>(args)...); },
      [](void* to, void* from) {
        new (to) Held(std::move(*static_cast<Held*>(from)));
        static_cast<Held*>(from)->~Held();
      },
      [](void* held) { static_cast<Held*>(held)->~Held(); },
  };

  void take(Function& other) {
    table_ = std::exchange(other.table_, nullptr);
    if (table_ != nullptr) table_->relocate(storage_, other.storage_);
  }
  void clear() {
    if (const Table* table = std::exchange(table_, nullptr)) table->destroy(storage_);
  }

  const Table* table_ = nullptr;
  alignas(std::max_align_t) std::byte storage_[kCapacity];
};

template <size_t kCapacity = 48>
using Callback = Function<void(), kCapacity>;

}  // namespace memkv::base
