#pragma once
/// The write side of the optimizer. What it decides and why stands in plan.h.

#include <cstdint>
#include <span>
#include <vector>

#include "extent.h"
#include "plan_builder.h"

namespace memkv::nixl {

/// Plans writes. Keeps its memory.
class WritePlanner {
 public:
  void plan(std::span<const Descriptor> descriptors, PlanBuilder& to);

 private:
  void fold(PlanBuilder& to);
  void find_overlapped();
  bool folds_into_the_last(size_t i) const;

  ExtentSorter sorter_;
  Extents extents_;
  std::vector<bool> overlapped_;  ///< another extent of the same key shares bytes with it
};

}  // namespace memkv::nixl
