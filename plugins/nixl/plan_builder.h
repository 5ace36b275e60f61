#pragma once
/// Appends to a plan, piece by piece, what its makers decide.

#include <cstdint>
#include <span>

#include "extent.h"
#include "plan.h"

namespace memkv::nixl {

class PlanBuilder {
 public:
  PlanBuilder(std::span<const Descriptor> descriptors, const PlanOptions& options, Plan& plan)
      : descriptors_(descriptors), options_(options), plan_(plan) {}

  const PlanOptions& options() const { return options_; }
  const Plan& plan() const { return plan_; }
  const Descriptor& descriptor(const Extent& extent) const { return descriptors_[extent.descriptor]; }
  /// The memory of `extent`'s descriptor for the byte at `offset` of its key.
  Place place(const Extent& extent, uint64_t offset) const;

  /// Wire operations added from now on belong to a new stage.
  void begin_stage();
  /// Starts a wire operation with the piece [from, extent.end).
  void begin_op(const Extent& extent, uint64_t from);
  /// [from, extent.end) as the next piece of the last wire operation; of a new one if that has as many as it may.
  void add_piece(const Extent& extent, uint64_t from);
  /// Fills `to` from `from`, which the wire operation delivers; added in the order of wire operations.
  void add_copy(uint32_t wire_op, const Place& from, const Extent& to);
  /// A wire operation of its own for each extent.
  void add_one_by_one(std::span<const Extent> extents);

 private:
  void append(const Extent& extent, uint64_t from);

  std::span<const Descriptor> descriptors_;
  const PlanOptions& options_;
  Plan& plan_;
};

}  // namespace memkv::nixl
