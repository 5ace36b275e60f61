#pragma once
/// Sorting for the optimizer: most of a plan's cost, so it looks only at what differs.

#include <cstdint>
#include <vector>

namespace memkv::nixl {

/// Sorted by (high, low); `index` says what it stands for.
struct SortRecord {
  uint64_t low = 0;
  uint32_t high = 0;
  uint32_t index = 0;

  friend bool operator<(const SortRecord& a, const SortRecord& b) {
    return a.high != b.high ? a.high < b.high : a.low < b.low;
  }
};

/// Stable. Radix sort over the bytes in which the records differ (block-sized steps differ in two or three);
/// a list that is sorted already costs one look, a short one an insertion sort. `scratch` keeps its memory. Returns
/// whether anything moved.
bool sort_records(std::vector<SortRecord>& records, std::vector<SortRecord>& scratch);

}  // namespace memkv::nixl
