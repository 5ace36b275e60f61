#pragma once
/// Slots: page-aligned buffers of a few fixed sizes, all allocated at start and registered with the reactor (and with
/// NICs).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "memkv/error.h"

namespace memkv::io {

/// Room in front of every slot's payload for an extent header of one sector. So a chunk is received into a slot and
/// written to a drive from there, header and payload in one write, without a copy.
inline constexpr uint32_t kSlotHeadroom = 4096;

/// A borrowed slot. `data` is aligned to 4 KiB. In front of it kSlotHeadroom bytes are writable, behind it `capacity`
/// bytes.
struct Slot {
  std::byte* data = nullptr;
  uint32_t capacity = 0;
  uint8_t size_class = 0;
  uint32_t index = 0;
  explicit operator bool() const { return data != nullptr; }
};

/// How many slots of one size an arena has.
struct SlotClass {
  uint32_t payload_bytes;  ///< usable bytes of a slot, without headroom
  uint32_t count;
};

/// Fixed pools of slots in memory on huge pages (MAP_HUGETLB if any are reserved, else MADV_HUGEPAGE). The memory is
/// faulted in at start, and nothing is allocated after make().
///
/// Rule: a slot that a drive, NIC or socket works on is given back only in that engine's completion, never by a timer.
/// Otherwise the next user's bytes would end up in an old write or retransmission.
///
/// Thread: one (a worker, or a client's I/O context).
class SlotArena {
 public:
  static Result<std::unique_ptr<SlotArena>> make(std::span<const SlotClass> classes);
  virtual ~SlotArena() = default;
  /// The smallest free slot with capacity >= bytes, out of the classes that may be used for this size. A null slot when
  /// none is free; the caller answers kBusy or waits.
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
