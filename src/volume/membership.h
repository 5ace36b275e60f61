#pragma once
/// Which members a store has, out of what its drives say (docs/data-file.md, rule 7). A pure function.

#include <cstdint>
#include <span>

#include "memkv/error.h"

namespace memkv::volume {

/// What the newest superblock of a drive that is there says.
struct MemberState {
  uint32_t index = 0;  ///< of this drive
  uint64_t epoch = 0;
  uint64_t in = 0;  ///< bitmap of the members at that epoch
};

struct Membership {
  uint64_t epoch = 0;  ///< in force
  uint64_t in = 0;
  uint64_t epoch_seen = 0;  ///< the highest there is; a next one goes above it
};

/// A membership is in force when it is the newest that was durable on all of its members. One that a power cut left on
/// some drives only is known by a member that holds an older one, or another one of the same epoch: nothing was
/// acknowledged under it, and the one before is still good. kInvalid when two memberships of one epoch are equally
/// likely (drives of a split store).
Result<Membership> decide_membership(std::span<const MemberState> present);

}  // namespace memkv::volume
