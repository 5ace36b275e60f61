#pragma once
/// Slots: registered, page-aligned buffers of a few fixed sizes, all taken from the machine at start.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "memkv/error.h"

namespace memkv::io {

/// Room for an extent header in front of every slot's payload, so that a chunk is written to a drive from where it was
/// received.
inline constexpr uint32_t kSlotHeadroom = 4096;

/// A borrowed slot. `data` is 4 KiB aligned and has kSlotHeadroom bytes of writable room in front and `capacity` bytes
/// behind it.
struct Slot {
  std::byte* data = nullptr;
  uint32_t capacity = 0;
  uint8_t size_class = 0;
  uint32_t index = 0;
  explicit operator bool() const { return data != nullptr; }
};

struct SlotClass {
  uint32_t payload_bytes;
  uint32_t count;
};

/// Fixed pools of slots in hugepage-backed memory (MAP_HUGETLB if reserved, else MADV_HUGEPAGE on 2 MiB-aligned
/// memory), faulted in at start. Thread: one (worker or client context). Nothing is allocated after make().
class SlotArena {
 public:
  static Result<std::unique_ptr<SlotArena>> make(std::span<const SlotClass> classes);
  virtual ~SlotArena() = default;
  /// The smallest free slot with capacity >= bytes; a null Slot when none is free (the caller answers kBusy or waits).
  virtual Slot take(uint32_t bytes) = 0;
  virtual void give_back(Slot slot) = 0;
  virtual size_t in_use() const = 0;
  virtual size_t free_of(uint32_t bytes) const = 0;  ///< slots that take(bytes) could still hand out
  virtual std::span<std::byte> memory() const = 0;   ///< for Reactor::register_memory
  virtual bool reserved() const = 0;                 ///< lies on reserved hugepages, where renew() cannot be
  /// The slot's payload lies on other pages from now on, zeroed: those before may be in a socket for good.
  virtual void renew(const Slot& slot) = 0;
};

}  // namespace memkv::io
