#include "request_plan.h"

#include <algorithm>
#include <iterator>

namespace memkv::nixl {
namespace {

constexpr uint64_t kOpWeight = 512;  // as the client's own default deadlines count an op beside its bytes

bool overflows(const abi::BasicDesc& desc) { return desc.length > UINT64_MAX - desc.address; }

}  // namespace

abi::Status check_lists(const Registry& registry, const abi::MetaList& local, const abi::MetaList& remote) {
  const bool memory = local.memory == abi::Memory::kDram || local.memory == abi::Memory::kVram;
  if (!memory || remote.memory != abi::Memory::kObject) return abi::Status::kInvalidParam;
  if (local.descs.size() != remote.descs.size() || local.descs.empty()) return abi::Status::kInvalidParam;
  bool unusable = false;
  for (size_t i = 0; i < local.descs.size(); i++) {
    const abi::MetaDesc& here = local.descs[i];
    const abi::MetaDesc& there = remote.descs[i];
    if (here.length != there.length || overflows(here) || overflows(there)) return abi::Status::kInvalidParam;
    const Registration* from = registry.find(here.metadata);
    const Registration* object = registry.find(there.metadata);
    if (!from || !object || from->is_object() || !object->is_object()) return abi::Status::kInvalidParam;
    unusable = unusable || object->unusable;
  }
  return unusable ? abi::Status::kBackend : abi::Status::kSuccess;
}

void RequestPlan::plan(Planner& planner, const abi::MetaList& local, const abi::MetaList& remote) {
  descriptors_.resize(local.descs.size());
  for (size_t i = 0; i < descriptors_.size(); i++) {
    const auto& memory = *static_cast<const Registration*>(local.descs[i].metadata);
    const auto& object = *static_cast<const Registration*>(remote.descs[i].metadata);
    descriptors_[i] = {.key = object.key->id,
                       .offset = remote.descs[i].address,
                       .length = remote.descs[i].length,
                       .place = {local.descs[i].address, memory.device, memory.kind}};
  }
  planner.plan(is_read() ? Op::kRead : Op::kWrite, descriptors_, plan_);
  remember(local);
  remember(remote);
  if (!is_read()) split_off_ranges(remote);
  for (const WireOp& op : plan_.wire_ops) {
    const Registration& object = object_of(op, remote);
    targets_.push_back({object.key, form_of(op, object)});
  }
  for (const WireOp& op : plan_.wire_ops) weight_ += op.length + kOpWeight;
  build_staged(local);
  build_copies();
  build_batches();
  if (!is_read() && options_.write_mode == WriteMode::kIfAbsent) build_probe();
}

void RequestPlan::remember(const abi::MetaList& list) {
  for (const abi::MetaDesc& desc : list.descs) {
    if (registrations_.empty() || registrations_.back() != desc.metadata) registrations_.push_back(desc.metadata);
  }
  std::sort(registrations_.begin(), registrations_.end());
  registrations_.erase(std::unique(registrations_.begin(), registrations_.end()), registrations_.end());
}

bool RequestPlan::uses(const abi::Metadata* metadata) const {
  return std::binary_search(registrations_.begin(), registrations_.end(), metadata);
}

const Registration& RequestPlan::object_of(const WireOp& op, const abi::MetaList& remote) const {
  const uint32_t descriptor = plan_.pieces_of(op).front().descriptor;
  return *static_cast<const Registration*>(remote.descs[descriptor].metadata);
}

Target::Form RequestPlan::form_of(const WireOp& op, const Registration& object) const {
  if (is_read()) return Form::kGet;
  if (op.offset != 0) return Form::kRange;
  switch (options_.write_mode) {
    case WriteMode::kReplace:
      return Form::kPut;
    case WriteMode::kIfAbsent:
      return Form::kPutIfAbsent;
    case WriteMode::kAuto:
      break;
  }
  return op.length == object.bytes ? Form::kPut : Form::kRange;
}

/// Into a stage behind the first one: those of keys that are put as well.
void RequestPlan::split_off_ranges(const abi::MetaList& remote) {
  const auto is_range = [&](const WireOp& op) { return form_of(op, object_of(op, remote)) == Form::kRange; };
  std::vector<uint32_t> put, written;
  for (const WireOp& op : plan_.wire_ops) (is_range(op) ? written : put).push_back(op.key);
  if (put.empty() || written.empty()) return;
  std::sort(put.begin(), put.end());
  std::sort(written.begin(), written.end());
  std::set_intersection(put.begin(), put.end(), written.begin(), written.end(), std::back_inserter(mixed_keys_));
  mixed_keys_.erase(std::unique(mixed_keys_.begin(), mixed_keys_.end()), mixed_keys_.end());
  if (mixed_keys_.empty()) return;
  const auto split = std::stable_partition(plan_.wire_ops.begin(), plan_.wire_ops.end(),
                                           [&](const WireOp& op) { return !is_range(op) || !mixed_index(op.key); });
  const auto first = static_cast<uint32_t>(split - plan_.wire_ops.begin());
  const auto second = static_cast<uint32_t>(plan_.wire_ops.end() - split);
  plan_.stages = {{.wire_op_first = 0, .wire_op_count = first}, {.wire_op_first = first, .wire_op_count = second}};
}

std::optional<size_t> RequestPlan::mixed_index(uint32_t key) const {
  const auto found = std::lower_bound(mixed_keys_.begin(), mixed_keys_.end(), key);
  if (found == mixed_keys_.end() || *found != key) return std::nullopt;
  return static_cast<size_t>(found - mixed_keys_.begin());
}

void RequestPlan::add(uint32_t op, Batch& batch) const {
  const Target& target = targets_[op];
  std::vector<Piece> into;
  std::vector<ConstPiece> from;
  for (const LocalPiece& piece : pieces_of(op)) {
    void* memory = reinterpret_cast<void*>(piece.place.address);
    if (target.form == Form::kGet)
      into.push_back({memory, piece.length});
    else
      from.push_back({memory, piece.length});
  }
  if (target.form == Form::kGet)
    batch.get(target.key->text, Scatter(into), wire_op(op).offset);
  else
    target.add_write(batch, Gather(from), wire_op(op).offset);
}

bool RequestPlan::has_vram(const WireOp& op) const {
  const auto pieces = plan_.pieces_of(op);
  return std::any_of(pieces.begin(), pieces.end(), [](auto& piece) { return piece.place.kind == MemoryKind::kCuda; });
}

void RequestPlan::build_staged(const abi::MetaList& local) {
  const auto reached = [&](const LocalPiece& piece) {
    return static_cast<const Registration*>(local.descs[piece.descriptor].metadata)->direct;
  };
  staged_.resize(plan_.wire_ops.size());
  direct_.resize(plan_.wire_ops.size());
  for (uint32_t i = 0; i < staged_.size(); i++) {
    const WireOp& op = plan_.wire_ops[i];
    if (has_vram(op)) staged_[i] = std::make_unique<StagedWireOp>(i, op, plan_.pieces_of(op), targets_[i], movers_);
    const auto pieces = plan_.pieces_of(op);
    direct_[i] = staged_[i] && std::all_of(pieces.begin(), pieces.end(), reached);
  }
}

void RequestPlan::build_copies() {
  copies_.resize(plan_.wire_ops.size());
  for (size_t i = 0; i < copies_.size(); i++) {
    if (plan_.wire_ops[i].copy_count > 0) copies_[i] = std::make_unique<CopyJob>();
  }
}

uint64_t RequestPlan::staged_write_bytes_max() const {
  uint64_t most = 0;
  for (size_t i = 0; i < staged_.size() && !is_read(); i++) {
    if (staged_[i]) most = std::max(most, plan_.wire_ops[i].length);
  }
  return most;
}

void RequestPlan::build_batches() {
  const size_t known = mixed_keys_.empty() ? plan_.stages.size() : 1;
  for (const Stage& stage : std::span(plan_.stages).first(known)) {
    Batch& batch = batches_.emplace_back();
    for (uint32_t i = 0; i < stage.wire_op_count; i++) {
      const uint32_t op = stage.wire_op_first + i;
      if (!starts_staged(op)) add(op, batch);
    }
  }
}

/// All that it asks of is in the first stage.
void RequestPlan::build_probe() {
  for (uint32_t i = 0; i < targets_.size(); i++) {
    if (targets_[i].form != Form::kPutIfAbsent) continue;
    probe_.exists(targets_[i].key->text, /*touch=*/true);
    probed_.push_back(i);
  }
}

}  // namespace memkv::nixl
