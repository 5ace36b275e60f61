#include "aliasing.h"

#include <algorithm>

namespace memkv::nixl {
namespace {

uint64_t end_of(const Descriptor& descriptor) { return descriptor.place.address + descriptor.length; }

/// The end of the records from `first` on that hang together by overlaps.
size_t group_end(std::span<const Descriptor> descriptors, std::span<const SortRecord> records, size_t first) {
  uint64_t reach = end_of(descriptors[records[first].index]);
  size_t next = first + 1;
  for (; next < records.size() && records[next].low < reach; ++next) {
    reach = std::max(reach, end_of(descriptors[records[next].index]));
  }
  return next;
}

}  // namespace

uint32_t Aliasing::find_stages(std::span<const Descriptor> descriptors) {
  sort_by_address(descriptors);
  uint32_t stages = 1;
  for (size_t first = 0, next = 0; first < records_.size(); first = next) {
    next = group_end(descriptors, records_, first);
    if (next - first == 1) continue;
    if (stages == 1) stages_.assign(descriptors.size(), 0);
    stages = std::max(stages, stage_group(descriptors, std::span(records_).subspan(first, next - first)));
  }
  return stages;
}

void Aliasing::sort_by_address(std::span<const Descriptor> descriptors) {
  records_.clear();
  for (uint32_t i = 0; i < descriptors.size(); ++i) {
    if (descriptors[i].length > 0) records_.push_back({.low = descriptors[i].place.address, .high = 0, .index = i});
  }
  sort_records(records_, scratch_);
}

/// Goes through the group in list order; each descriptor takes the first stage free in all of its range.
uint32_t Aliasing::stage_group(std::span<const Descriptor> descriptors, std::span<SortRecord> group) {
  cut(descriptors, group);
  std::sort(group.begin(), group.end(), [](const auto& a, const auto& b) { return a.index < b.index; });
  uint32_t stages = 0;
  for (const SortRecord& record : group) {
    stages_[record.index] = paint(descriptors[record.index]);
    stages = std::max(stages, stages_[record.index] + 1);
  }
  return stages;
}

void Aliasing::cut(std::span<const Descriptor> descriptors, std::span<const SortRecord> group) {
  cuts_.clear();
  for (const SortRecord& record : group) {
    cuts_.push_back(record.low);
    cuts_.push_back(end_of(descriptors[record.index]));
  }
  std::sort(cuts_.begin(), cuts_.end());
  cuts_.erase(std::unique(cuts_.begin(), cuts_.end()), cuts_.end());
  free_from_.assign(cuts_.size(), 0);
}

uint32_t Aliasing::paint(const Descriptor& descriptor) {
  const auto first = free_from_.begin() + static_cast<ptrdiff_t>(cut_at(descriptor.place.address));
  const auto last = free_from_.begin() + static_cast<ptrdiff_t>(cut_at(end_of(descriptor)));
  const uint32_t stage = *std::max_element(first, last);
  std::fill(first, last, stage + 1);
  return stage;
}

size_t Aliasing::cut_at(uint64_t address) const {
  return static_cast<size_t>(std::lower_bound(cuts_.begin(), cuts_.end(), address) - cuts_.begin());
}

}  // namespace memkv::nixl
