#include "extent.h"

#include <algorithm>

namespace memkv::nixl {

void ExtentSorter::sort(Extents& extents) {
  records_.clear();
  for (uint32_t i = 0; i < extents.size(); ++i) {
    records_.push_back({.low = extents[i].offset, .high = extents[i].key, .index = i});
  }
  if (!sort_records(records_, scratch_)) return;
  sorted_.clear();
  for (const SortRecord& record : records_) sorted_.push_back(extents[record.index]);
  extents.swap(sorted_);
}

size_t cluster_end(std::span<const Extent> extents, size_t first) {
  uint64_t reach = extents[first].end;
  size_t next = first + 1;
  for (; next < extents.size() && extents[next].key == extents[first].key && extents[next].offset <= reach; ++next) {
    reach = std::max(reach, extents[next].end);
  }
  return next;
}

}  // namespace memkv::nixl
