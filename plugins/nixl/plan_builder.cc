#include "plan_builder.h"

#include "base/assert.h"

namespace memkv::nixl {
namespace {

template <typename T>
uint32_t size32(const std::vector<T>& list) {
  return static_cast<uint32_t>(list.size());
}

}  // namespace

Place PlanBuilder::place(const Extent& extent, uint64_t offset) const {
  const Descriptor& of = descriptor(extent);
  return of.place + (offset - of.offset);
}

void PlanBuilder::begin_stage() { plan_.stages.push_back({.wire_op_first = size32(plan_.wire_ops)}); }

void PlanBuilder::begin_op(const Extent& extent, uint64_t from) {
  plan_.wire_ops.push_back({.offset = from,
                            .key = extent.key,
                            .piece_first = size32(plan_.pieces),
                            .copy_first = size32(plan_.copies),
                            .again = extent.again});
  ++plan_.stages.back().wire_op_count;
  append(extent, from);
}

void PlanBuilder::add_piece(const Extent& extent, uint64_t from) {
  if (plan_.wire_ops.back().piece_count >= options_.op_pieces_max) return begin_op(extent, from);
  append(extent, from);
}

void PlanBuilder::append(const Extent& extent, uint64_t from) {
  WireOp& op = plan_.wire_ops.back();
  const uint64_t length = extent.end - from;
  MEMKV_ASSERT(op.key == extent.key && op.offset + op.length == from, "pieces follow each other without gaps");
  plan_.pieces.push_back({.place = place(extent, from), .length = length, .descriptor = extent.descriptor});
  ++op.piece_count;
  op.length += length;
  plan_.wire_bytes += length;
}

void PlanBuilder::add_copy(uint32_t wire_op, const Place& from, const Extent& to) {
  WireOp& op = plan_.wire_ops[wire_op];
  const uint64_t length = to.end - to.offset;
  if (op.copy_count++ == 0) op.copy_first = size32(plan_.copies);
  MEMKV_ASSERT(op.copy_first + op.copy_count == plan_.copies.size() + 1, "the copies of a wire operation lie together");
  plan_.copies.push_back(
      {.from = from, .to = place(to, to.offset), .length = length, .wire_op = wire_op, .descriptor = to.descriptor});
  plan_.copy_bytes += length;
}

void PlanBuilder::add_one_by_one(std::span<const Extent> extents) {
  for (const Extent& extent : extents) begin_op(extent, extent.offset);
}

}  // namespace memkv::nixl
