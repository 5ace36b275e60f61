#pragma once
/// What the optimizer works on: descriptors as ranges of their keys, sorted.

#include <cstdint>
#include <span>
#include <vector>

#include "plan.h"
#include "sort_records.h"

namespace memkv::nixl {

/// What a descriptor wants of its key: all of its range, or what is left over of it. Never empty.
struct Extent {
  uint64_t offset = 0;
  uint64_t end = 0;
  uint64_t copied_to = 0;  ///< [offset, copied_to) comes from other owners by copies, [copied_to, end) it owns itself
  uint32_t key = 0;
  uint32_t descriptor = 0;
  Again again = Again::kNo;  ///< of the wire operation that will fetch it
  uint32_t left_over = 0;    ///< 1 + number of what is left over of it; 0 = nothing is
};
using Extents = std::vector<Extent>;

/// All of a descriptor.
constexpr Extent extent_of(const Descriptor& of, uint32_t index, Again again) {
  const uint64_t end = of.offset + of.length;
  return {.offset = of.offset, .end = end, .copied_to = end, .key = of.key, .descriptor = index, .again = again};
}

/// Sorts by (key, offset); equal ones keep their order. Keeps its memory.
class ExtentSorter {
 public:
  void sort(Extents& extents);

 private:
  std::vector<SortRecord> records_, scratch_;
  Extents sorted_;
};

/// The end of the cluster that starts at `first`: extents of one key that overlap or touch. Needs them sorted.
size_t cluster_end(std::span<const Extent> extents, size_t first);

}  // namespace memkv::nixl
