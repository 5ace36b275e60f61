#include "engine/tier_room.h"

#include <bit>

#include "base/assert.h"

namespace memkv::engine {

TierRoom::TierRoom(uint32_t sectors) : marks_(sectors) {
  bins_.fill(kNone);
  if (sectors > 0) link(0, sectors);
}

/// The first bin that is not empty and whose runs all have so many sectors.
uint32_t TierRoom::bin_for(uint32_t sectors) const {
  MEMKV_ASSERT(sectors > 0 && sectors <= kTierRunMax);
  uint32_t word = sectors / 64;
  uint64_t bits = filled_[word] & (~uint64_t{0} << sectors % 64);
  while (bits == 0) {
    if (++word == filled_.size()) return kNone;
    bits = filled_[word];
  }
  return word * 64 + static_cast<uint32_t>(std::countr_zero(bits));
}

void TierRoom::mark(uint32_t first, uint32_t sectors, bool free) {
  marks_[first].tag = marks_[first + sectors - 1].tag = sectors << 1 | (free ? 1 : 0);
}

void TierRoom::link(uint32_t first, uint32_t sectors) {
  const uint32_t bin = bin_of(sectors);
  mark(first, sectors, /*free=*/true);
  marks_[first].previous = kNone;
  marks_[first].next = bins_[bin];
  if (bins_[bin] != kNone) marks_[bins_[bin]].previous = first;
  bins_[bin] = first;
  filled_[bin / 64] |= uint64_t{1} << bin % 64;
}

void TierRoom::unlink(uint32_t first) {
  const Mark& m = marks_[first];
  const uint32_t bin = bin_of(m.tag >> 1);
  MEMKV_ASSERT(is_free(first));
  (m.previous != kNone ? marks_[m.previous].next : bins_[bin]) = m.next;
  if (m.next != kNone) marks_[m.next].previous = m.previous;
  if (bins_[bin] == kNone) filled_[bin / 64] &= ~(uint64_t{1} << bin % 64);
}

uint32_t TierRoom::take(uint32_t sectors) {
  const uint32_t bin = bin_for(sectors);
  if (bin == kNone) return kNone;
  const uint32_t first = bins_[bin];
  const uint32_t length = run_at(first);
  MEMKV_ASSERT(length >= sectors);
  unlink(first);
  if (length > sectors) link(first + sectors, length - sectors);
  mark(first, sectors, /*free=*/false);
  used_ += sectors;
  return first;
}

void TierRoom::give(uint32_t first) {
  uint32_t sectors = run_at(first);
  MEMKV_ASSERT(!is_free(first) && sectors > 0 && used_ >= sectors, "given back twice, or never taken");
  used_ -= sectors;
  if (const uint32_t behind = first + sectors; behind < marks_.size() && is_free(behind)) {
    unlink(behind);
    sectors += run_at(behind);
  }
  if (first > 0 && is_free(first - 1)) {
    const uint32_t before = run_at(first - 1);
    first -= before;
    sectors += before;
    unlink(first);
  }
  link(first, sectors);
}

}  // namespace memkv::engine
