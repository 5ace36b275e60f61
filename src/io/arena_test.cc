#include "io/arena.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <set>
#include <vector>

namespace memkv::io {
namespace {

constexpr std::array<SlotClass, 3> kClasses = {{{2u << 20, 2}, {64u << 10, 3}, {1000, 4}}};

std::unique_ptr<SlotArena> make() { return std::move(SlotArena::make(kClasses)).value(); }

TEST(SlotArena, SlotsAreAlignedApartAndInsideTheMemory) {
  auto arena = make();
  std::vector<Slot> slots;
  std::set<std::pair<std::byte*, std::byte*>> ranges;
  for (const uint32_t bytes : {1000u, 64u << 10, 2u << 20}) {
    while (Slot slot = arena->take(bytes)) {
      EXPECT_EQ(reinterpret_cast<uintptr_t>(slot.data) % 4096, 0u);
      EXPECT_GE(slot.capacity, bytes);
      EXPECT_GE(slot.data - kSlotHeadroom, arena->memory().data());
      EXPECT_LE(slot.data + slot.capacity, arena->memory().data() + arena->memory().size());
      ranges.insert({slot.data - kSlotHeadroom, slot.data + slot.capacity});
      std::memset(slot.data - kSlotHeadroom, 1, kSlotHeadroom + slot.capacity);
      slots.push_back(slot);
    }
  }
  EXPECT_EQ(slots.size(), 9u);
  EXPECT_EQ(arena->in_use(), 9u);
  const std::byte* end = nullptr;
  for (const auto& [from, to] : ranges) {
    EXPECT_GE(from, end);
    end = to;
  }
  for (const Slot& slot : slots) arena->give_back(slot);
  EXPECT_EQ(arena->in_use(), 0u);
}

TEST(SlotArena, TakesTheSmallestAndGoesOneClassUp) {
  auto arena = make();
  std::vector<Slot> slots;
  EXPECT_EQ(arena->free_of(1), 7u);
  for (int i = 0; i < 4; i++) slots.push_back(arena->take(1));
  EXPECT_EQ(slots.back().capacity, 1000u);
  for (int i = 0; i < 3; i++) slots.push_back(arena->take(1));
  EXPECT_EQ(slots.back().capacity, 64u << 10);
  EXPECT_FALSE(arena->take(1));  // the large slots are not given to small payloads
  EXPECT_EQ(arena->free_of(1), 0u);
  EXPECT_EQ(arena->free_of(64u << 10), 2u);
  EXPECT_FALSE(arena->take((2u << 20) + 1));
  for (const Slot& slot : slots) arena->give_back(slot);
}

TEST(SlotArena, RefusesBadShapes) {
  EXPECT_FALSE(SlotArena::make({}));
  const std::array<SlotClass, 1> empty = {{{4096, 0}}};
  EXPECT_FALSE(SlotArena::make(empty));
  const std::array<SlotClass, 2> twice = {{{4096, 1}, {4096, 2}}};
  EXPECT_FALSE(SlotArena::make(twice));
}

TEST(SlotArenaDeathTest, GivingBackTwiceIsABug) {
  auto arena = make();
  const Slot slot = arena->take(1);
  arena->give_back(slot);
  EXPECT_DEATH(arena->give_back(slot), "taken_");
}

}  // namespace
}  // namespace memkv::io
