#include "plan_read.h"

#include <algorithm>

namespace memkv::nixl {
namespace {

constexpr size_t index(MemoryKind kind) { return static_cast<size_t>(kind); }

/// Whether `a` is the better owner from a point on that both contain: it reaches farther, or as far and lies in host
/// memory, to which the wire delivers without a detour.
bool better_owner(const Extent& a, const Extent& b, const PlanBuilder& to) {
  if (a.end != b.end) return a.end > b.end;
  return to.descriptor(a).place.kind < to.descriptor(b).place.kind;
}

/// Gives every byte of the cluster to the extent that reaches farthest, which needs the fewest owners, and fetches all
/// of it. Sets each extent's `copied_to`.
void choose_owners(std::span<Extent> cluster, PlanBuilder& to) {
  Extent* best = &cluster[0];
  uint64_t at = best->offset;
  for (size_t next = 1;;) {
    for (; next < cluster.size() && cluster[next].offset <= at; ++next) {
      if (better_owner(cluster[next], *best, to)) best = &cluster[next];
    }
    if (best->end == at) return;  // nothing reaches beyond: the end of the cluster
    best->copied_to = at;
    at == cluster[0].offset ? to.begin_op(*best, at) : to.add_piece(*best, at);
    at = best->end;
  }
}

Again why(uint32_t stage, const PlanBuilder& to) {
  if (!to.options().coalesce) return Again::kNotCoalesced;
  return stage == 0 ? Again::kNo : Again::kLaterStage;
}

/// [from, to) of `of`, without a byte that it owns.
Extent part_of(const Extent& of, uint64_t from, uint64_t to) {
  Extent part = of;
  part.offset = from;
  part.end = part.copied_to = to;
  part.left_over = 0;
  return part;
}

/// Adds [from, to) of `of` to what must be fetched again; to one range with what was left over of it before, so that an
/// extent leaves one at most, and no plan has more wire operations than descriptors.
void leave_over(Extent& of, uint64_t from, uint64_t to, Again why, Extents& left) {
  if (of.left_over > 0) {
    Extent& before = left[of.left_over - 1];
    before.end = before.copied_to = to;
    return;
  }
  left.push_back(part_of(of, from, to));
  left.back().again = why;
  of.left_over = static_cast<uint32_t>(left.size());
}

}  // namespace

/// Three rounds: all of it; what is left over, by kind of memory; what is left over once more, one by one.
void ClusterFetcher::fetch(Extents& extents, PlanBuilder& to) {
  for (Extents& left : left_over_) left.clear();  // of a plan for which memory did not suffice
  fetch_clusters(extents, to);
  for (Extents& left : left_over_) {
    if (left.empty()) continue;
    left_now_.swap(left);
    left.clear();
    fetch_clusters(left_now_, to);
    to.add_one_by_one(left);
    left.clear();
  }
}

void ClusterFetcher::fetch_clusters(Extents& extents, PlanBuilder& to) {
  sorter_.sort(extents);
  for (size_t first = 0, next = 0; first < extents.size(); first = next) {
    next = cluster_end(extents, first);
    fetch_cluster(std::span(extents).subspan(first, next - first), to);
  }
}

void ClusterFetcher::fetch_cluster(std::span<Extent> cluster, PlanBuilder& to) {
  if (cluster.size() == 1) return to.begin_op(cluster[0], cluster[0].offset);
  const auto op_first = static_cast<uint32_t>(to.plan().wire_ops.size());
  choose_owners(cluster, to);
  copy_from_owners(cluster, op_first, to);
}

/// Goes by source, so that the copies of a wire operation lie together and a source is read while it is in the cache.
void ClusterFetcher::copy_from_owners(std::span<Extent> cluster, uint32_t op_first, PlanBuilder& to) {
  size_t first = 0;
  for (uint32_t op = op_first; op < to.plan().wire_ops.size(); ++op) {
    uint64_t offset = to.plan().wire_ops[op].offset;
    for (const LocalPiece& piece : to.plan().pieces_of(to.plan().wire_ops[op])) {
      const Source source{.offset = offset, .end = offset + piece.length, .place = piece.place, .wire_op = op};
      first = copy_from(source, cluster, first, to);
      offset = source.end;
    }
  }
}

/// Since the owner of the next range reaches at least as far as all that start in this one, only extents that start in
/// it or in the range before want any of it. `first`: the first that starts in the range before; returns the first that
/// starts in this one.
size_t ClusterFetcher::copy_from(const Source& source, std::span<Extent> cluster, size_t first, PlanBuilder& to) {
  for (; first < cluster.size() && cluster[first].offset < source.offset; ++first) {
    copy_part(source, cluster[first], to);
  }
  for (size_t i = first; i < cluster.size() && cluster[i].offset < source.end; ++i) copy_part(source, cluster[i], to);
  return first;
}

void ClusterFetcher::copy_part(const Source& source, Extent& wanted, PlanBuilder& to) {
  const uint64_t from = std::max(wanted.offset, source.offset);
  const uint64_t end = std::min(wanted.copied_to, source.end);
  if (from >= end) return;
  const MemoryKind kind = to.descriptor(wanted).place.kind;
  const CopyPath& path = to.options().copies[index(source.place.kind)][index(kind)];
  if (!path.takes(end - from)) {
    return leave_over(wanted, from, end, path.exists() ? Again::kCheaper : Again::kNoCopyPath, left_over_[index(kind)]);
  }
  to.add_copy(source.wire_op, source.place + (from - source.offset), part_of(wanted, from, end));
}

void ReadPlanner::plan(std::span<const Descriptor> descriptors, PlanBuilder& to) {
  const uint32_t stages = aliasing_.find_stages(descriptors);
  if (stages_.size() < stages) stages_.resize(stages);
  for (uint32_t i = 0; i < descriptors.size(); ++i) {
    if (descriptors[i].length == 0) continue;
    const uint32_t stage = stages == 1 ? 0 : aliasing_.stage_of(i);
    stages_[stage].push_back(extent_of(descriptors[i], i, why(stage, to)));
  }
  for (uint32_t stage = 0; stage < stages; ++stage) plan_stage(stages_[stage], to);
}

void ReadPlanner::plan_stage(Extents& extents, PlanBuilder& to) {
  if (extents.empty()) return;
  to.begin_stage();
  to.options().coalesce ? fetcher_.fetch(extents, to) : to.add_one_by_one(extents);
  extents.clear();
}

}  // namespace memkv::nixl
