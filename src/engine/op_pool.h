#pragma once
/// Memory for the ops that are under way.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "engine/completions.h"
#include "engine/store.h"
#include "engine/tick.h"

namespace memkv::engine {

inline constexpr uint32_t kOpsMax = 2048;  ///< under way in a shard; more is kBusy
inline constexpr size_t kOpBytes = 896;    ///< of the largest op
inline constexpr uint64_t kOpPoolBytes = kOpsMax * (kOpBytes + 3 * sizeof(void*) + 8);  // with padding

/// An op under way, as the pool sees it: all that the store needs for it beside its caller's struct.
class PooledOp {
 public:
  static constexpr uint8_t kNewEntriesMax = 0;  // that it may add to the index; ops that add some have their own
  virtual ~PooledOp() = default;

 protected:
  PooledOp() = default;
  PooledOp(const PooledOp&) = delete;
  PooledOp& operator=(const PooledOp&) = delete;
};

/// Places for ops of any kind, taken once at start.
///
/// Owns the ops under way. Thread: worker.
class OpPool {
 public:
  OpPool(Completions& completions, Tick& tick);
  ~OpPool();
  OpPool(const OpPool&) = delete;
  OpPool& operator=(const OpPool&) = delete;

  /// A T for `op`, made of `arguments`. nullptr: no place is left, or the store is being closed; then `op` has ended.
  template <typename T, typename... Arguments>
  T* make(StoreOp& op, Arguments&&... arguments) {
    static_assert(sizeof(T) <= kOpBytes && alignof(T) <= alignof(std::max_align_t));
    Place* place = take(op);
    if (place == nullptr) return nullptr;
    T* made = new (place->memory) T(std::forward<Arguments>(arguments)...);
    place->op = made;
    place->new_entries = T::kNewEntriesMax;
    new_entries_ += T::kNewEntriesMax;
    return made;
  }
  void free(PooledOp& op);
  size_t used() const { return used_; }
  /// Entries that the ops under way may still add to the index, at most.
  uint64_t new_entries() const { return new_entries_; }

 private:
  struct Place {
    alignas(std::max_align_t) std::byte memory[kOpBytes];
    PooledOp* op = nullptr;  // that lives here
    Place* next_free = nullptr;
    uint64_t new_entries = 0;
  };
  static_assert(sizeof(Place) * kOpsMax == kOpPoolBytes);
  Place* take(StoreOp& op);

  Completions& completions_;
  Tick& tick_;
  std::unique_ptr<Place[]> places_;
  Place* free_ = nullptr;
  size_t used_ = 0;
  uint64_t new_entries_ = 0;
};

}  // namespace memkv::engine
