#pragma once
/// Which descriptors of a read write to the same memory, and in which stages they must therefore run.

#include <cstdint>
#include <span>
#include <vector>

#include "plan.h"
#include "sort_records.h"

namespace memkv::nixl {

/// Puts each descriptor into the first stage after those of all earlier descriptors that its destination overlaps.
/// Linear but for a sort by address; descriptors that do overlap cost as much as the pieces into which the boundaries
/// of their neighbours cut them.
class Aliasing {
 public:
  /// Returns the number of stages: 1 where nothing overlaps, and then stage_of() is not filled.
  uint32_t find_stages(std::span<const Descriptor> descriptors);
  uint32_t stage_of(size_t descriptor) const { return stages_[descriptor]; }

 private:
  void sort_by_address(std::span<const Descriptor> descriptors);
  uint32_t stage_group(std::span<const Descriptor> descriptors, std::span<SortRecord> group);
  void cut(std::span<const Descriptor> descriptors, std::span<const SortRecord> group);
  uint32_t paint(const Descriptor& descriptor);
  size_t cut_at(uint64_t address) const;

  std::vector<SortRecord> records_, scratch_;  ///< descriptors that are not empty, by address
  std::vector<uint32_t> stages_;               ///< by descriptor
  std::vector<uint64_t> cuts_;                 ///< boundaries of one group, ascending
  std::vector<uint32_t> free_from_;            ///< the first stage that may write between cut i and cut i + 1
};

}  // namespace memkv::nixl
