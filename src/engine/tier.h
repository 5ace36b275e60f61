#pragma once
/// The RAM tier: hot records of the drives, in memory (docs/decisions/0042-the-ram-tier.md).

#include <cstdint>
#include <span>
#include <vector>

#include "base/intrusive_list.h"
#include "engine/record_ref.h"
#include "engine/store.h"
#include "engine/then.h"
#include "engine/tier_memories.h"
#include "engine/tier_policy.h"
#include "engine/tier_room.h"
#include "io/huge_memory.h"

namespace memkv::engine {

/// A read that waits for bytes that another read brings.
struct TierWait {
  base::QueueLink<TierWait> link;
  Then then;
};

/// A record in the tier. It is *in the table* while find() may return it. Whoever uses its bytes holds it: its memory
/// goes to another record only when it is out of the table and nobody holds it.
struct TierEntry {
  enum class State : uint8_t {
    kFree,
    kReading,   ///< the drive writes into its memory; who made it holds it
    kResident,  ///< the bytes are there
    kFailed,    ///< they did not come; it is out of the table
  };
  State state = State::kFree;
  TierQueue queue = TierQueue::kFirst;
  uint8_t reads = 0;
  bool in_table : 1 = false;
  bool ahead : 1 = false;       ///< a prefetch made it, and no get has used it
  bool remembered : 1 = false;  ///< of such a one: it had been read before
  uint32_t holders = 0;
  uint32_t first_sector = 0;
  uint32_t next_in_table = 0;
  RecordRef record;
  base::ListLink<TierEntry> link;  ///< of its queue, while it is in the table
  base::IntrusiveQueue<TierWait, &TierWait::link> waits;
};

/// Whole records, as gets read them from the drives, in memory from which they are sent in place. An entry is found by
/// the place and the sequence of its record, as the index names them when the get begins: what the index does not name
/// any more, because it was replaced, removed, evicted, moved or flushed, nobody can find here, and it leaves as
/// everything does that is not read.
///
/// Owns the memory, which is all taken at start. Knows no drive. Thread: worker.
class Tier {
 public:
  /// `bytes`: with all that is known of the entries; 0: no tier. Throws std::bad_alloc.
  Tier(uint64_t bytes, StoreCounters& counters);
  ~Tier();
  Tier(const Tier&) = delete;
  Tier& operator=(const Tier&) = delete;

  bool on() const { return !entries_.empty(); }
  std::span<std::byte> memory() const { return memory_.bytes(); }
  uint64_t bytes_used() const { return uint64_t{room_.used()} * base::kSectorBytes; }
  /// How often entries are held; 0 at rest.
  uint64_t holds() const { return holds_; }

  /// The entry of exactly this record, reading or resident. Null: it is not there.
  TierEntry* find(const RecordRef& record);
  /// A get of the record needs no buffer of its own: find() has it, or take() will. Makes room for it. `whole`: the get
  /// is for all of the record.
  bool serves(const RecordRef& record, bool whole);
  /// A new entry for a record that find() does not have, to be read into buffer_of(); the caller holds it. Null: the
  /// policy does not want it, or there is no room.
  TierEntry* take(const RecordRef& record, bool whole);
  /// The same for a get that is to come. Null: there is no room.
  TierEntry* take_ahead(const RecordRef& record);
  /// Where the record is read to, as RecordLoad wants it.
  std::byte* buffer_of(const TierEntry& entry) const;
  /// The bytes are there, or they are not; those who wait go on.
  void end_read(TierEntry& entry, bool good);

  /// One more uses its bytes, which counts as a read.
  void hold(TierEntry& entry);
  void wait(TierEntry& entry, TierWait& wait) { entry.waits.push_back(wait); }
  void release(TierEntry& entry);
  /// Its bytes are in doubt: the next get reads the drive.
  void forget(const RecordRef& record);

 private:
  using Queue = base::IntrusiveList<TierEntry, &TierEntry::link>;
  static constexpr uint32_t kNone = UINT32_MAX;
  static constexpr uint32_t kTurnsMax = 64;       // in one call: more would hold up the worker
  static constexpr uint32_t kSectorsAnEntry = 2;  // there are entries for records of this size on average

  static uint64_t name_of(const RecordRef& record);
  static uint32_t sectors_of(const RecordRef& record);
  uint32_t& bucket_of(const RecordRef& record) { return table_[name_of(record) % table_.size()]; }
  uint32_t window() const;
  bool make_room(uint32_t sectors);
  TierEntry& add(const RecordRef& record, TierQueue queue);
  void give_turn(TierEntry& entry);
  void enter(TierEntry& entry, TierQueue queue);
  void leave_queue(TierEntry& entry);
  void take_out(TierEntry& entry);
  void free(TierEntry& entry);
  Queue& queue_of(TierQueue queue) { return queue == TierQueue::kFirst ? first_ : main_; }

  StoreCounters& counters_;
  const uint32_t sectors_;
  io::HugeMemory memory_;
  TierRoom room_;
  TierMemories memories_;
  std::vector<TierEntry> entries_;
  std::vector<uint32_t> table_;  // of each bucket the first entry
  uint32_t free_entry_ = kNone;
  Queue first_, main_;
  uint64_t first_sectors_ = 0, main_sectors_ = 0;
  uint64_t holds_ = 0;
  uint64_t promised_ = 0;  // the name of what serves() spoke of last, if it was remembered: making room may forget it
};

}  // namespace memkv::engine
