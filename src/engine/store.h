#pragma once
/// One shard's store: index, logs, reclaim, recovery. Single-threaded, no sockets. The op state machines of src/shard
/// sit on it.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/siphash.h"
#include "io/arena.h"
#include "io/device.h"
#include "io/reactor.h"
#include "memkv/error.h"
#include "memkv/types.h"

namespace memkv::engine {

struct TierEntry;

inline constexpr uint64_t kTierBytesMin = uint64_t{8} << 20;  ///< for a shard; with less hardly a chunk stays

using Digest = base::Hash128;  ///< SipHash-128 (secret of the store) over namespace id and key

/// A key as the engine sees it. `key` is borrowed until the op is done.
struct BlockKey {
  Digest digest;
  uint64_t namespace_id = 0;
  std::string_view key;
};

/// This shard's part of one drive.
struct DriveSlice {
  io::BlockDevice* device = nullptr;  ///< borrowed; null = the member is missing or out (its blocks are misses)
  uint8_t drive_index = 0;
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  uint64_t segment_bytes = 0;
  uint64_t life = 0;   ///< of the drive, as its superblock says
  bool dsync = false;  ///< writes need RWF_DSYNC (volatile cache without power-loss protection)
};

struct StoreOptions {
  uint8_t store_id[16] = {};
  uint32_t shard = 0;
  std::vector<DriveSlice> slices;  ///< by drive index
  uint32_t stripe_width = 4;
  uint64_t index_entries_max = 0;      ///< 64 bytes of memory each at the load limit
  uint64_t tier_bytes = 0;             ///< of memory for hot chunks of the drives; 0: none. Not in memory mode
  uint32_t writes_in_flight_max = 16;  ///< device writes per log
  bool memory_mode = false;            ///< devices give views: reserve and read in place, nothing survives a restart
  /// Called once when a drive failed in this shard: tell the membership, then take_drives_out(); until then no change
  /// is acknowledged (rule 7). Thread: worker.
  void (*on_drive_out)(void* context, uint8_t drive_index, const char* why) = nullptr;
  void* on_drive_out_context = nullptr;
};

/// Common head of the engine's asynchronous ops: owned by the caller, borrowed until `on_done`, which runs exactly
/// once, never inside the call.
struct StoreOp {
  using Fn = void (*)(StoreOp& op);
  Fn on_done = nullptr;
  void* context = nullptr;
  Status status = Status::kInternal;  ///< result
  Generation generation = 0;          ///< result: of the block after a change, of the block read
  /// A change whose turn comes later ends as kDeadline, and nothing is done; a put waits for room up to here.
  uint64_t deadline_ns = ~uint64_t{0};
  /// Of a change: when its turn on the block has come and *fence is above `epoch`, nothing is done and it ends as
  /// kBusy. Its client has given it up by then, or asks again. Null: no fence. Outlives the op.
  const uint64_t* fence = nullptr;
  uint64_t epoch = 0;
  StoreOp* next = nullptr;  ///< private: the store's queue of those that are done
};

/// Bytes of one record on their way in. `data` is slot memory: 4 KiB aligned, io::kSlotHeadroom writable bytes in front
/// of it, capacity rounded up to 4 KiB behind it; untouched by the owner until on_done. Or memory of a Reservation.
struct PayloadIn {
  std::byte* data = nullptr;
  uint32_t size = 0;  ///< 0 .. 2 MiB
  const uint64_t* grain_sums =
      nullptr;  ///< base::grain_count(size) values, seeded as of checksum_seed(); already verified by the caller
};

/// Put of a whole block of at most one chunk.
struct PutOp : StoreOp {
  BlockKey key;
  PayloadIn payload;
  uint32_t expiry_s = 0;
  uint8_t priority = 0;
  bool if_absent = false;  ///< -> kExists with the present generation
};

/// A large put, or a large range write, under way. Chunks stand outside the index until commit. Owned by the caller;
/// open from begin() to commit/abort.
struct Upload {
  BlockKey key;     ///< the key's bytes are copied by begin()
  uint64_t id = 0;  ///< 0 = closed
};
struct ChunkOp : StoreOp {
  Upload* upload = nullptr;
  uint32_t chunk_number = 0;
  uint32_t offset_in_chunk = 0;  ///< range writes: where payload starts in the chunk
  PayloadIn payload;
};
struct CommitOp : StoreOp {
  Upload* upload = nullptr;
};

/// write(offset) inside one chunk of a block that may or may not exist: read-modify-write where needed, then a new
/// record (and head).
struct WriteOp : StoreOp {
  BlockKey key;
  uint64_t offset = 0;
  PayloadIn payload;  ///< lies inside one chunk; grain sums are over the payload cut at the *chunk's* grain boundaries
};

/// A get, step 1 (synchronous, memory only): what is there. Step 2 `read` brings the bytes.
struct Lookup {
  Status status = Status::kMiss;  ///< kOk, kMiss, kChanged
  Generation generation = 0;
  uint64_t block_bytes = 0;
  uint32_t bytes = 0;         ///< that will be delivered (range clipped to the block's end)
  uint32_t buffer_bytes = 0;  ///< slot capacity needed by read(); 0: it lies in memory, or comes there: no slot needed
};

/// A get, step 2: one range inside one chunk.
struct ReadOp : StoreOp {
  BlockKey key;
  uint64_t offset = 0;           ///< in the block
  uint32_t length = 0;           ///< must not cross a chunk boundary
  Generation if_generation = 0;  ///< 0 = any
  bool verify = false;           ///< the store verifies all bytes itself (client asked, or suspect)
  std::byte* buffer = nullptr;   ///< slot memory as in PayloadIn, >= Lookup.buffer_bytes; null when read in place
  uint32_t buffer_bytes = 0;
  // Results
  uint64_t block_bytes = 0;
  const std::byte* data = nullptr;  ///< `bytes` valid until release(); in buffer, the device's view or the RAM tier
  uint32_t bytes = 0;
  bool whole_chunk =
      false;  ///< sums[0] is the chunk's checksum; else sums are per piece cut at the chunk's grain boundaries
  uint16_t sum_count = 0;
  uint64_t sums[33] = {};
  bool dropped = false;    ///< the record was damaged: its block is dropped
  bool renewable = false;  ///< its pages may become other ones; false: they are the RAM tier's, which keeps its own
  /// Set by the caller before release(), of what memory mode reads in place: somebody may still see these pages. The store
  /// writes there again only when they are other pages.
  bool seen_by_others = false;
  // Private to the store until release(): the segment that `data` lies in.
  uint64_t pinned_epoch = 0;  ///< 0: it lies in `buffer`
  uint8_t pinned_drive = 0;
  TierEntry* pinned_entry = nullptr;  ///< the entry of the RAM tier that it lies in
};

struct RemoveOp : StoreOp {
  BlockKey key;
};
struct FlushOp : StoreOp {
  uint64_t namespace_id = 0;
};

struct BlockStat {
  Generation generation = 0;
  uint64_t block_bytes = 0;
  uint32_t expiry_s = 0;
  bool has_holes = false;
};

/// Brings one chunk of a block into the RAM tier, for gets to come. It counts as no use of the block. A get that comes
/// meanwhile shares its read. kOk: the chunk is in the tier. kMiss: it is not there. kRefused: the tier has no room for
/// it, or there is none. A read that fails says nothing of the block: the next get finds out.
struct PrefetchOp : StoreOp {
  Digest digest;  ///< of the block
  uint32_t chunk = 0;
};

/// In-place room of memory mode: the payload is received straight into the log.
struct Reservation {
  std::byte* data = nullptr;  ///< null: no room right now, or not memory mode
  uint64_t id = 0;
};

/// Of the RAM tier. Gets of records on drives: from memory, from a device read of another get, from one of their own.
struct TierCounters {
  uint64_t tier_hits, tier_shared, tier_misses;
  uint64_t tier_evictions, tier_bytes, tier_bytes_max;
  /// Device reads that prefetches made; of those the ones whose record a get found, and the ones that left unread.
  uint64_t tier_prefetches, tier_prefetches_used, tier_prefetches_wasted;
};

struct StoreCounters : TierCounters {
  uint64_t puts, gets, hits, misses, removes;
  uint64_t blocks, bytes_used, bytes_usable;
  uint64_t user_bytes_written, device_bytes_written, bytes_moved;  ///< write amplification = device / user
  uint64_t dropped_evicted, dropped_corrupt, dropped_drive_out, dropped_index_full;
  uint64_t segments_reclaimed, index_entries, index_entries_max;
  uint64_t recovered_records, recovered_torn, recovered_rot, recovery_ns;
  uint64_t recovered_lost;  ///< places where recovery did not know what had been there, and dropped what was older
  uint64_t logs_refusing;   ///< now: the drive is the last one, and takes no writes
};

/// Thread: worker (all calls). Every asynchronous op completes exactly once, later, from the reactor's loop.
class Store {
 public:
  static constexpr uint64_t kListStepSlots = 4096;
  static std::unique_ptr<Store> make(io::Reactor& reactor, StoreOptions options);
  virtual ~Store() = default;

  /// Recovers the index, then on_done. Nothing else may be called before. Progress: counters().recovered_records.
  virtual void open(StoreOp& op) = 0;
  /// Waits for all ops in flight, however long; later ops get kCanceled. Then on_done. Seals nothing: tails are
  /// resumed.
  virtual void close(StoreOp& op) = 0;

  virtual void put(PutOp& op) = 0;
  /// total_bytes: of the block for a put (base 0); for a range write `range_write` = true and chunks may be partial at
  /// both ends.
  virtual Status begin(Upload& upload, uint64_t total_bytes, bool if_absent, bool range_write) = 0;
  virtual void put_chunk(ChunkOp& op) = 0;
  virtual void commit(CommitOp& op) = 0;   ///< installs head and chunks in one step; closes the upload
  virtual void abort(Upload& upload) = 0;  ///< allowed while chunks are in flight; they finish and are dead
  virtual void write(WriteOp& op) = 0;

  /// An op on the block is to come, after those of other blocks: what is known of it is fetched meanwhile.
  virtual void expect(const BlockKey& key) = 0;
  virtual Lookup lookup(const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation) = 0;
  virtual void read(ReadOp& op) = 0;  ///< looks up again; kMiss/kChanged/kBusy(buffer too small now) as status
  virtual void prefetch(PrefetchOp& op) = 0;
  virtual void release(ReadOp& op) = 0;  ///< after on_done of a read with data: the bytes are not needed any more
  virtual bool exists(const BlockKey& key) = 0;
  virtual bool stat(const BlockKey& key, BlockStat& out) = 0;
  virtual bool touch(const BlockKey& key) = 0;
  virtual void remove(RemoveOp& op) = 0;  ///< kOk or kMiss
  virtual void flush_namespace(FlushOp& op) = 0;
  /// Somebody saw a checksum mismatch: re-read, verify, drop with a tombstone if really bad. status kOk = it was fine,
  /// kCorrupt = dropped.
  virtual void suspect(RemoveOp& op, uint64_t offset) = 0;
  /// Lists whole blocks of a namespace: calls `visit` for up to `limit` entries from `cursor` (0 = start), returns the
  /// next cursor (0 = end). One step looks at kListStepSlots places of the index, so it may find fewer, or none, before
  /// the end. Keys stand in record headers on the drives: the caller reads them by read_key.
  struct ListEntry {
    Digest digest;
    Generation generation;
    uint64_t block_bytes;
  };
  virtual uint64_t list(uint64_t namespace_id, uint64_t cursor, uint32_t limit, void (*visit)(void*, const ListEntry&),
                        void* context) = 0;
  /// Reads the key of a listed block from its record header: op.key.digest/namespace in, `key_out` (1 KiB room) filled,
  /// size in key_bytes_out.
  struct KeyOp : StoreOp {
    BlockKey key;
    char* key_out = nullptr;
    uint16_t key_bytes_out = 0;
  };
  virtual void read_key(KeyOp& op) = 0;

  virtual Reservation reserve(uint32_t bytes, size_t key_bytes) = 0;  ///< for a payload, with a key of at most so many
  virtual void abandon(Reservation reservation) = 0;  ///< one that no put or chunk has used; of others nothing is left

  /// The other drives' superblocks say durably that these are out, a bit each. All that went out together are told
  /// together: with none left, nothing is durable, and what waits for the word must not be acknowledged.
  virtual void take_drives_out(uint64_t drives) = 0;
  virtual const StoreCounters& counters() const = 0;
  /// Of the RAM tier: bytes of gets go out from there. Empty: there is none.
  virtual std::span<std::byte> tier_memory() const = 0;
  virtual uint64_t block_bytes_max() const = 0;  ///< a quarter of the shard's usable bytes
  virtual size_t ops_in_flight() const = 0;      ///< 0 at rest
};

/// What a store on so many drives takes of memory at start, beside its index.
uint64_t store_buffer_bytes(size_t drives);
/// Checksum seed of a chunk: known to clients too (docs/wire-protocol.md). grain i uses seed + i.
uint64_t checksum_seed(uint64_t namespace_id, std::string_view key, uint32_t chunk_number);
Digest digest_of(const base::SipKey& secret, uint64_t namespace_id, std::string_view key);

}  // namespace memkv::engine
