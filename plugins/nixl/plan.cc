#include "plan.h"

#include "base/assert.h"
#include "plan_builder.h"
#include "plan_read.h"
#include "plan_write.h"

namespace memkv::nixl {
namespace {

constexpr size_t kDescriptorsMax = size_t{1} << 30;  // twice as many copies still have 32-bit numbers

bool overflows(uint64_t start, uint64_t length) { return length > std::numeric_limits<uint64_t>::max() - start; }

uint64_t checked_bytes(std::span<const Descriptor> descriptors) {
  MEMKV_ASSERT(descriptors.size() <= kDescriptorsMax, "a request has at most 2^30 descriptors");
  uint64_t bytes = 0;
  for (const Descriptor& descriptor : descriptors) {
    MEMKV_ASSERT(!overflows(descriptor.offset, descriptor.length), "the caller checks ranges of objects");
    MEMKV_ASSERT(!overflows(descriptor.place.address, descriptor.length), "the caller checks ranges of memory");
    bytes += descriptor.length;
  }
  return bytes;
}

}  // namespace

void Plan::clear() {
  stages.clear();
  wire_ops.clear();
  pieces.clear();
  copies.clear();
  request_bytes = wire_bytes = copy_bytes = 0;
}

struct Planner::Makers {
  ReadPlanner read;
  WritePlanner write;
};

Planner::Planner(const PlanOptions& options) : options_(options), makers_(std::make_unique<Makers>()) {
  MEMKV_ASSERT(options.op_pieces_max > 0, "a wire operation has a piece");
}
Planner::~Planner() = default;
Planner::Planner(Planner&&) noexcept = default;
Planner& Planner::operator=(Planner&&) noexcept = default;

void Planner::plan(Op op, std::span<const Descriptor> descriptors, Plan& plan) {
  plan.clear();
  plan.request_bytes = checked_bytes(descriptors);
  PlanBuilder builder(descriptors, options_, plan);
  op == Op::kRead ? makers_->read.plan(descriptors, builder) : makers_->write.plan(descriptors, builder);
}

}  // namespace memkv::nixl
