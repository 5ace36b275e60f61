#include "volume/membership.h"

#include <algorithm>

#include "base/assert.h"

namespace memkv::volume {

namespace {

bool same(const MemberState& a, const MemberState& b) { return a.epoch == b.epoch && a.in == b.in; }

/// True if the candidate's membership was never in force: one of its members is present, and never received it.
bool disproved(const MemberState& candidate, std::span<const MemberState> present) {
  return std::any_of(present.begin(), present.end(), [&](const MemberState& state) {
    const bool member = (candidate.in >> state.index & 1) != 0;
    return member && state.epoch <= candidate.epoch && !same(state, candidate);
  });
}

}  // namespace

Result<Membership> decide_membership(std::span<const MemberState> present) {
  MEMKV_ASSERT(!present.empty());
  Membership result;
  const MemberState* best = nullptr;
  bool split = false;
  for (const MemberState& candidate : present) {
    result.epoch_seen = std::max(result.epoch_seen, candidate.epoch);
    if (disproved(candidate, present)) continue;
    if (best == nullptr || candidate.epoch > best->epoch) {
      best = &candidate;
      split = false;
    } else if (candidate.epoch == best->epoch && candidate.in != best->in) {
      split = true;
    }
  }
  if (best == nullptr || split) return Error{Status::kInvalid, 0, "members disagree"};
  result.epoch = best->epoch;
  result.in = best->in;
  return result;
}

}  // namespace memkv::volume
