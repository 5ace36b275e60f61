#pragma once
/// What the index knows: blocks, the records behind them, namespaces.

#include <cstdint>
#include <span>
#include <vector>

#include "engine/drives.h"
#include "engine/index.h"
#include "engine/record_ref.h"
#include "engine/store.h"

namespace memkv::engine {

/// The blocks of a shard: found, installed, dropped and listed here and nowhere else, so the counters of blocks and
/// bytes agree with the index. A block is *usable* while the drives of its records are in.
///
/// Owns the index and the table of namespaces. Knows the drives. Thread: worker.
class Blocks {
 public:
  /// Which counter a dropped block counts in.
  using Counter = uint64_t StoreCounters::*;

  /// Throws std::bad_alloc.
  Blocks(const StoreOptions& options, Drives& drives, StoreCounters& counters);

  // Find. An Entry is good until the next install or drop.
  Entry* find(Digest digest) { return index_.find(digest); }
  const Entry* find(Digest digest) const { return index_.find(digest); }
  const Entry* find_chunk(Digest block, uint32_t chunk) const { return index_.find(chunk_digest(block, chunk)); }
  /// The entry that points at the very record with this header at `place`; null: at another version, a copy, or none.
  Entry* find_record(const format::RecordHeader& header, Place place);
  /// A lookup of the block is to come: what the index has of it is fetched meanwhile.
  void prefetch(Digest digest) const { index_.prefetch(digest); }
  /// A block whose drive is out is dropped here, and null.
  Entry* find_usable(Digest digest);
  /// A chunk whose drive is out takes its block with it, and is null.
  Entry* find_usable_chunk(Digest block, uint32_t chunk);
  static RecordRef ref_of(const Entry& e) {
    return {e.place(), e.sequence(), e.checksum(), e.length(), e.has(kHasHoles)};
  }
  static uint64_t block_bytes_of(const Entry& e) { return e.has(kHead) ? e.checksum() : e.length(); }
  /// A record of the block lies on a drive that lags.
  bool waits_for_drive(Digest digest) const;

  // Install and drop.
  /// The one step in which a new version becomes the block: its head (or whole record) and all its chunks. False: the
  /// index has no room for it, and no version of the block is there any more.
  bool install_block(Digest digest, const RecordRef& ref, bool head, uint64_t namespace_id, uint32_t expiry_s,
                     uint64_t block_bytes, std::span<const ChunkRefs::value_type> chunks);
  /// Recovery: a block of one record, which is not in the index yet. False: it has no room.
  bool restore_block(Digest digest, const RecordRef& ref, uint16_t namespace_index, uint32_t expiry_s);
  /// From the index only. nullptr: it is not to be counted.
  void drop(Digest digest, Counter counter);
  /// Reclaim drops it, in the log that is given: a restart finds it again until its segment is known to be free.
  void evict(Digest digest, Log& log);
  /// All blocks with a record in this segment.
  void evict_all_in(Log& log, uint64_t epoch);

  // What logs may still hold of blocks that have left the index.
  struct Leftover {
    bool elsewhere = false;  ///< a usable record that recovery may meet without its successor, at `place`
    Place place;
    bool gone = false;  ///< perhaps records that were evicted or flushed a moment ago
  };
  /// Of a block that is to be replaced by a record at `fresh`.
  Leftover leftover_of(Digest digest, Place fresh, uint64_t namespace_id);
  /// A record of the block that is in no index may be found after a restart.
  bool may_return(Digest digest, uint64_t namespace_id) const;

  // Flush.
  void begin_flush(uint64_t namespace_id, uint64_t sequence);
  /// Drops the blocks of the namespace from before the flush.
  void drop_flushed(uint64_t namespace_id, uint64_t sequence);
  /// The flush is in all logs.
  void end_flush(uint64_t namespace_id, uint64_t sequence);

  // As users see them.
  bool stat(const BlockKey& key, BlockStat& out);
  bool touch(const BlockKey& key);
  uint64_t list(uint64_t namespace_id, uint64_t cursor, uint32_t limit, void (*visit)(void*, const Store::ListEntry&),
                void* context);

  // Room in the index.
  uint64_t entries() const { return index_.size(); }
  uint64_t entries_max() const { return index_.entries_max(); }
  uint64_t entries_of(uint16_t namespace_index) const { return index_.size_of(namespace_index); }
  uint16_t namespace_index(uint64_t namespace_id);  ///< a new one where it is not known yet
  uint64_t namespace_id(uint16_t namespace_index) const { return namespaces_[namespace_index].id; }
  size_t namespace_count() const { return namespaces_.size(); }
  uint64_t slot_count() const { return index_.slot_count(); }
  Entry* next(uint64_t& cursor, uint64_t end) { return index_.next(cursor, end); }

 private:
  struct Namespace {
    uint64_t id = 0;
    uint64_t flushed = 0;          // sequence of its last flush in this life
    uint64_t flushed_durably = 0;  // and of the last one that is in all logs
  };
  Entry* install(Digest digest, uint16_t namespace_index, const RecordRef& ref, uint16_t flags, uint32_t expiry_s);
  void erase(Entry* entry);
  void erase_chunks(Digest block, uint32_t begin, uint32_t end);
  bool has_holes(Digest digest, const Entry& e) const;
  bool flush_is_open(uint64_t namespace_id) const;

  const StoreOptions& options_;
  Drives& drives_;
  StoreCounters& counters_;
  Index index_;
  std::vector<Namespace> namespaces_;
};

/// The record lies in this segment of the log.
bool lies_in(Place place, const Log& log, uint64_t epoch);

}  // namespace memkv::engine
