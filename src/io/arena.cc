#include "io/arena.h"

#include <algorithm>
#include <vector>

#include "base/assert.h"
#include "base/bytes.h"
#include "io/huge_memory.h"

namespace memkv::io {
namespace {

constexpr size_t kClassesMax = 16;
constexpr uint32_t kSlotAlignment = 4096;
static_assert(kSlotHeadroom % kSlotAlignment == 0, "else data would not be aligned");

/// The slots of one size. They lie `stride` apart, each with its headroom in front.
class Pool {
 public:
  Pool(SlotClass shape, uint8_t size_class, std::byte* base)
      : capacity_(shape.payload_bytes), size_class_(size_class), base_(base), taken_(shape.count, false) {
    free_.reserve(shape.count);
    for (uint32_t i = shape.count; i > 0; i--) free_.push_back(i - 1);
  }

  static size_t stride_of(uint32_t payload_bytes) {
    return base::align_up(size_t{payload_bytes} + kSlotHeadroom, kSlotAlignment);
  }
  uint32_t capacity() const { return capacity_; }
  size_t free() const { return free_.size(); }
  size_t in_use() const { return taken_.size() - free_.size(); }

  Slot take() {
    const uint32_t index = free_.back();
    free_.pop_back();
    MEMKV_ASSERT(!taken_[index]);
    taken_[index] = true;
    return {data_of(index), capacity_, size_class_, index};
  }

  void give_back(const Slot& slot) {
    MEMKV_ASSERT(slot.index < taken_.size() && slot.data == data_of(slot.index));
    MEMKV_ASSERT(taken_[slot.index]);  // given back twice
    taken_[slot.index] = false;
    free_.push_back(slot.index);  // the slot given back last is taken first, since it is warm in the cache
  }

 private:
  std::byte* data_of(uint32_t index) const { return base_ + stride_of(capacity_) * index + kSlotHeadroom; }

  uint32_t capacity_;
  uint8_t size_class_;
  std::byte* base_;
  std::vector<uint32_t> free_;
  std::vector<bool> taken_;
};

class Arena final : public SlotArena {
 public:
  Arena(HugeMemory memory, std::span<const SlotClass> sorted) : memory_(std::move(memory)) {
    std::byte* at = memory_.data();
    for (const SlotClass& shape : sorted) {
      pools_.emplace_back(shape, static_cast<uint8_t>(pools_.size()), at);
      at += Pool::stride_of(shape.payload_bytes) * shape.count;
    }
    MEMKV_ASSERT(at == memory_.data() + memory_.size());
  }
  ~Arena() override { MEMKV_ASSERT(in_use() == 0); }  // a drive or socket may still write to a slot that is not back

  Slot take(uint32_t bytes) override {
    const auto [first, last] = candidates(bytes);
    for (size_t i = first; i < last; i++) {
      if (pools_[i].free() > 0) return pools_[i].take();
    }
    return {};
  }

  void give_back(Slot slot) override {
    MEMKV_ASSERT(slot && slot.size_class < pools_.size());
    pools_[slot.size_class].give_back(slot);
  }

  size_t in_use() const override {
    size_t count = 0;
    for (const Pool& pool : pools_) count += pool.in_use();
    return count;
  }

  size_t free_of(uint32_t bytes) const override {
    size_t count = 0;
    const auto [first, last] = candidates(bytes);
    for (size_t i = first; i < last; i++) count += pools_[i].free();
    return count;
  }

  std::span<std::byte> memory() const override { return memory_.bytes(); }
  bool reserved() const override { return memory_.reserved(); }
  void renew(const Slot& slot) override {
    renew_pages({slot.data, base::align_up(slot.capacity, kSlotAlignment)}, /*prefault=*/true);
  }

 private:
  struct Range {
    size_t first, last;
  };

  /// Which classes take() looks at: the smallest that fits, and the next larger one. It goes no further, so that small
  /// payloads do not use up the few large slots.
  Range candidates(uint32_t bytes) const {
    size_t first = 0;
    while (first < pools_.size() && pools_[first].capacity() < bytes) first++;
    return {first, std::min(first + 2, pools_.size())};
  }

  HugeMemory memory_;
  std::vector<Pool> pools_;
};

bool valid(std::span<const SlotClass> sorted) {
  if (sorted.empty() || sorted.size() > kClassesMax) return false;
  for (size_t i = 0; i < sorted.size(); i++) {
    if (sorted[i].payload_bytes == 0 || sorted[i].count == 0) return false;
    if (i > 0 && sorted[i].payload_bytes == sorted[i - 1].payload_bytes) return false;
  }
  return true;
}

}  // namespace

Result<std::unique_ptr<SlotArena>> SlotArena::make(std::span<const SlotClass> classes) {
  std::vector<SlotClass> sorted(classes.begin(), classes.end());
  std::sort(sorted.begin(), sorted.end(), [](auto& a, auto& b) { return a.payload_bytes < b.payload_bytes; });
  if (!valid(sorted)) return Error{Status::kInvalid, 0, "slot arena: 1 to 16 different non-empty classes"};
  size_t bytes = 0;
  for (const SlotClass& shape : sorted) bytes += Pool::stride_of(shape.payload_bytes) * shape.count;
  auto memory = HugeMemory::make(bytes, /*prefault=*/true);
  if (!memory) return memory.error();
  return std::unique_ptr<SlotArena>(std::make_unique<Arena>(std::move(memory).value(), sorted));
}

}  // namespace memkv::io
