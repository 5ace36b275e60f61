#pragma once
/// The read side of the optimizer: stages, clusters, owners, copies. What it decides and why stands in plan.h.

#include <cstdint>
#include <span>
#include <vector>

#include "aliasing.h"
#include "extent.h"
#include "plan_builder.h"

namespace memkv::nixl {

/// A range that a wire operation fetches into its owner's memory.
struct Source {
  uint64_t offset = 0;
  uint64_t end = 0;
  Place place;
  uint32_t wire_op = 0;
};

/// Plans the wire operations and copies of extents whose destinations do not overlap. Keeps its memory.
class ClusterFetcher {
 public:
  void fetch(Extents& extents, PlanBuilder& to);

 private:
  void fetch_clusters(Extents& extents, PlanBuilder& to);
  void fetch_cluster(std::span<Extent> cluster, PlanBuilder& to);
  void copy_from_owners(std::span<Extent> cluster, uint32_t op_first, PlanBuilder& to);
  size_t copy_from(const Source& source, std::span<Extent> cluster, size_t first, PlanBuilder& to);
  void copy_part(const Source& source, Extent& wanted, PlanBuilder& to);

  ExtentSorter sorter_;
  Extents left_over_[kMemoryKinds];  ///< what no copy may fill, by its kind of memory
  Extents left_now_;                 ///< the one of them that is being fetched
};

/// Plans whole reads. Keeps its memory.
class ReadPlanner {
 public:
  void plan(std::span<const Descriptor> descriptors, PlanBuilder& to);

 private:
  void plan_stage(Extents& extents, PlanBuilder& to);

  Aliasing aliasing_;
  ClusterFetcher fetcher_;
  std::vector<Extents> stages_;  ///< what to fetch, by stage
};

}  // namespace memkv::nixl
