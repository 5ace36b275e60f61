#pragma once
/// Which records the RAM tier takes in, and which it lets go. This is the whole decision: tier.h only carries it out.
///
/// S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP '23), with one rule more for ranges.
/// What comes in waits in a first queue. Whatever is not read again there leaves, and only its name is remembered: so a
/// scan, which reads everything once, passes through the first queue and moves nothing out of the main one.

#include <cstdint>

namespace memkv::engine {

inline constexpr uint8_t kTierReadsMax = 3;  ///< reads are counted up to here: no record lives on old fame for long

enum class TierQueue : uint8_t { kFirst, kMain };

/// A record that is read, and that the tier does not have.
struct TierArrival {
  bool whole = false;       ///< all of it is read: the tier costs the drive nothing
  bool remembered = false;  ///< it was read before, not long ago
  bool ahead = false;       ///< nobody reads it yet: a prefetch brings it
};

enum class TierEntrance : uint8_t {
  kPass,   ///< it stays outside, and is remembered
  kFirst,  ///< it has to show that it is read again
  kMain,   ///< it has shown that
};

/// To take in a record of which a part is read means to read all of it. That pays only if it is read again.
/// What a prefetch brings was not read: so prefetches alone move nothing into the main queue.
constexpr TierEntrance decide_entrance(const TierArrival& a) {
  if (a.ahead) return TierEntrance::kFirst;
  if (a.remembered) return TierEntrance::kMain;
  return a.whole ? TierEntrance::kFirst : TierEntrance::kPass;
}

/// The get that a prefetch was made for is the first read of its entry, not a second one. It counts only where the
/// record had been read before it came in.
constexpr bool first_read_counts(bool remembered) { return remembered; }

/// The entry that came first into its queue, when room is needed.
struct TierTurn {
  TierQueue queue = TierQueue::kFirst;
  uint8_t reads = 0;    ///< since it came into this queue, or since its last turn, at most kTierReadsMax
  bool in_use = false;  ///< it is being sent, or its bytes are still on their way from the drive
  bool ahead = false;   ///< a prefetch brought it, and no get came
};

enum class TierVerdict : uint8_t {
  kStay,      ///< it goes to the end of its queue, with one read less
  kPromote,   ///< it goes to the end of the main queue
  kRemember,  ///< it leaves; if it is read again soon, it comes into the main queue
  kForget,    ///< it leaves
};

constexpr TierVerdict decide_turn(const TierTurn& t) {
  if (t.in_use) return TierVerdict::kStay;
  if (t.queue == TierQueue::kFirst && t.reads > 0) return TierVerdict::kPromote;
  if (t.queue == TierQueue::kFirst) return t.ahead ? TierVerdict::kForget : TierVerdict::kRemember;
  return t.reads > 0 ? TierVerdict::kStay : TierVerdict::kForget;
}

/// Which queue gives room: the first one has half of the bytes, and more only while there is room for all. A tenth, as
/// in the paper, is too little here: turns of a conversation come minutes apart, and much is read exactly twice.
constexpr TierQueue queue_to_shrink(uint64_t first_bytes, uint64_t main_bytes) {
  return first_bytes >= main_bytes ? TierQueue::kFirst : TierQueue::kMain;
}

/// How many names are remembered of what left the first queue, where a full tier has so many entries.
constexpr uint64_t names_remembered(uint64_t entries_when_full) { return entries_when_full / 2; }

}  // namespace memkv::engine
