#include "plan_write.h"

#include <algorithm>

namespace memkv::nixl {

void WritePlanner::plan(std::span<const Descriptor> descriptors, PlanBuilder& to) {
  extents_.clear();
  for (uint32_t i = 0; i < descriptors.size(); ++i) {
    if (descriptors[i].length > 0) extents_.push_back(extent_of(descriptors[i], i, Again::kNo));
  }
  if (extents_.empty()) return;
  to.begin_stage();
  to.options().coalesce ? fold(to) : to.add_one_by_one(extents_);
}

void WritePlanner::fold(PlanBuilder& to) {
  sorter_.sort(extents_);
  find_overlapped();
  for (size_t i = 0; i < extents_.size(); ++i) {
    const uint64_t offset = extents_[i].offset;
    folds_into_the_last(i) ? to.add_piece(extents_[i], offset) : to.begin_op(extents_[i], offset);
  }
}

void WritePlanner::find_overlapped() {
  overlapped_.assign(extents_.size(), false);
  for (size_t i = 1, farthest = 0; i < extents_.size(); ++i) {
    if (extents_[i].key == extents_[farthest].key) {
      if (extents_[i].offset < extents_[farthest].end) overlapped_[i] = overlapped_[farthest] = true;
      if (extents_[i].end <= extents_[farthest].end) continue;
    }
    farthest = i;
  }
}

bool WritePlanner::folds_into_the_last(size_t i) const {
  return i > 0 && !overlapped_[i] && !overlapped_[i - 1] && extents_[i].key == extents_[i - 1].key &&
         extents_[i].offset == extents_[i - 1].end;
}

}  // namespace memkv::nixl
