#pragma once
/// Decides which members a store has, from what its drives say (docs/data-file.md, rule 7). A pure function.

#include <cstdint>
#include <span>

#include "memkv/error.h"

namespace memkv::volume {

/// What the newest superblock of one present drive says.
struct MemberState {
  uint32_t index = 0;  ///< of this drive, in the list of members
  uint64_t epoch = 0;
  uint64_t in = 0;  ///< bitmap of the drives that were members at that epoch
};

/// What was decided: who is a member.
struct Membership {
  uint64_t epoch = 0;  ///< of the membership that is in force
  uint64_t in = 0;
  uint64_t epoch_seen = 0;  ///< the highest epoch on any drive; the next membership gets a higher one
};

/// The membership in force is the newest one that all of its members hold durably. A power cut can leave a newer one on
/// some drives only. It is recognized when one of its members holds an older one, or a different one of the same epoch.
/// Nothing was acknowledged under such a membership, so the one before it is still good. kInvalid: two different
/// memberships of one epoch are equally likely (the drives of a split store).
Result<Membership> decide_membership(std::span<const MemberState> present);

}  // namespace memkv::volume
