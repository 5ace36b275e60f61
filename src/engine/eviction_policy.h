#pragma once
/// Which records reclaim keeps, and which it drops. This is the whole decision: reclaimer.h and segment_walk.h only
/// carry it out.

#include <cstdint>

namespace memkv::engine {

/// What is known of a record when its segment is reclaimed.
struct EvictionCase {
  // Of the record.
  bool in_index = false;     ///< the index points at this very record: not at another version, or a copy elsewhere
  bool hit = false;          ///< in_index: it was read since it was written, or moved; of a chunk, it or its block
  bool uncommitted = false;  ///< a chunk that an upload or a merge under way will need
  uint64_t payload_bytes = 0;
  uint64_t drive_bytes = 0;  ///< that its copy takes, with its header, in an extent of its own

  // Of the segment, as far as it was walked.
  uint64_t segment_bytes = 0;
  uint64_t kept_payload_bytes = 0;
  uint64_t kept_drive_bytes = 0;  ///< with headers and gaps
};

enum class Eviction : uint8_t {
  kKeepHit,          ///< somebody read it: it gets another turn, and must be read again in it
  kKeepUncommitted,  ///< dropping it would fail an upload
  kDropDead,         ///< nobody can reach it any more
  kDropUnread,       ///< nobody read it in a whole turn of the log: others will be read sooner
  kDropNoRoom,       ///< too much of its segment is kept already
};

/// First in, first out with a second chance. A segment keeps at most half of its bytes as payload, and three quarters
/// with all that goes around it: so a reclaim always frees room, and what is kept fits the one segment that is kept
/// free for it.
constexpr Eviction decide_eviction(const EvictionCase& c) {
  if (c.kept_payload_bytes + c.payload_bytes > c.segment_bytes / 2) return Eviction::kDropNoRoom;
  if (c.kept_drive_bytes + c.drive_bytes > c.segment_bytes / 4 * 3) return Eviction::kDropNoRoom;
  if (c.in_index) return c.hit ? Eviction::kKeepHit : Eviction::kDropUnread;
  return c.uncommitted ? Eviction::kKeepUncommitted : Eviction::kDropDead;
}

constexpr bool keeps(Eviction decision) {
  return decision == Eviction::kKeepHit || decision == Eviction::kKeepUncommitted;
}

}  // namespace memkv::engine
