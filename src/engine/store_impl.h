#pragma once
/// The parts of a shard's store that its source files share. Private to the engine.

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/assert.h"
#include "base/checksum.h"
#include "engine/log.h"
#include "engine/store.h"
#include "io/huge_memory.h"

namespace memkv::engine {

inline constexpr uint32_t kOpStates = 2048;               ///< ops in flight in a shard; more is kBusy
inline constexpr uint64_t kTickNs = 20'000'000;           ///< while something is in flight
inline constexpr uint64_t kLoneOver = base::kGrainBytes;  ///< longer payloads stand alone in their extent

/// A record as the index or an upload knows it.
struct RecordRef {
  Place place;
  uint64_t sequence = 0;
  uint64_t checksum = 0;
  uint32_t length = 0;
  bool has_holes = false;
  bool lone() const { return length > kLoneOver || has_holes; }
};

/// One 4 KiB + 2 MiB + 4 KiB buffer for merges and moves.
struct BigBuffer {
  std::byte* memory = nullptr;  ///< header room first
  std::byte* data() const { return memory + base::kSectorBytes; }
};

class StoreImpl;
struct Target;  // of a read: read.cc
struct UploadState;

/// Everything one op needs besides the caller's struct. From a fixed pool.
struct OpState {
  StoreImpl* store = nullptr;
  StoreOp* op = nullptr;
  Append append;                       // the record
  Append tombstone;                    // in the old record's log
  void (*locked)(OpState&) = nullptr;  // runs when the key is ours
  void (*step)(OpState&) = nullptr;    // what follows the append, or the load
  Digest digest{};
  bool holds_lock = false;
  OpState* lock_next = nullptr;  // waiters for the same key
  OpState* bucket_next = nullptr;
  io::IoOp io[2];
  iovec piece[2]{};
  int io_left = 0;
  int32_t io_result = 0;
  uint64_t epoch = 0;  // pinned segment
  Log* log = nullptr;
  RecordRef record;  // being read
  uint32_t attempts = 0;
  uint32_t left = 0;  // flush: logs to go
  uint8_t tombstone_drive = 0;
  size_t sweep = 0, sweep_except = 0;  // the drive that gets its tombstone next, and the one that needs none
  uint64_t sweep_sequence = 0;
  void (*swept)(OpState&) = nullptr;
  UploadState* upload = nullptr;  // whose commit this is, where nothing is merged; it stays until then
  Status status = Status::kOk;
  bool change = false;      // its acknowledgement waits while a drive is on its way out
  OpState* next = nullptr;  // free list, queues
  bool free = true;
};

/// An upload under way.
struct UploadState {
  uint64_t id = 0;
  BlockKey key;
  std::string key_bytes;
  uint64_t total = 0;
  bool if_absent = false, range_write = false, failed = false, closing = false;
  bool committing = false;  // its head is being written: no chunk may change any more
  uint32_t in_flight = 0;
  std::unordered_map<uint32_t, RecordRef> chunks;
  // Of its commit, where nothing is merged: the head's payload, and that payload's grain sums.
  std::vector<std::byte> head;
  std::vector<uint64_t> head_sums;
};

/// A read-modify-write under way: one at a time in a shard, since it needs the merge buffers.
struct Merge {
  OpState* st = nullptr;
  UploadState* upload = nullptr;                      // commit of a range write
  std::vector<std::pair<uint32_t, RecordRef>> parts;  // chunks of this change; reclaim keeps their places up to date
  bool part_lost = false;                             // reclaim could not keep one
  std::vector<uint32_t> todo;                         // staged chunks still to look at
  bool whole_result = false;                          // the block stays one record
  uint64_t namespace_id = 0;
  uint64_t block_bytes = 0;
  uint32_t chunk = 0;  // being merged
  uint64_t in_chunk = 0;
  const std::byte* source = nullptr;  // write op: the new bytes
  uint32_t source_bytes = 0;
  RecordRef old_record;                      // what stands in buffer 0; length 0: nothing
  std::vector<format::PresentRange> ranges;  // of buffer 0
  std::vector<uint64_t> sums;
  std::string key;
};

/// Reclaim of one log's oldest segment.
struct Reclaim {
  explicit Reclaim(StoreImpl& owner) : store(owner) {}
  StoreImpl& store;
  io::HugeMemory buffer;  // what is read, and what is moved
  Log* log = nullptr;
  bool active = false;
  uint64_t epoch = 0;
  uint32_t sector = 0, end = 0;
  uint64_t moved_bytes = 0;           // payload
  uint64_t moved_sectors_before = 0;  // of the log when the segment's turn began
  uint64_t extent_move_bytes = 0;     // of the present extent, each in an extent of its own at worst
  uint32_t moves_in_flight = 0;
  io::IoOp io;
  iovec piece{};
  uint64_t window_bytes = 0;  // to be read next
  bool blind = false;         // records of the segment could not be read
  bool stuck() const { return io.pending() || moves_in_flight > 0; }
};

/// A record on its way to the log's front, with its own copy of what the header needs.
struct Move : Append {
  StoreImpl* store = nullptr;
  Reclaim* reclaim = nullptr;  // until it has moved
  std::string key_bytes;
  std::vector<uint64_t> sum_list;
  std::vector<format::PresentRange> range_list;
  Place from;
};

/// The two anchors of one log, and the one on its way.
struct AnchorWrite {
  alignas(base::kSectorBytes) std::byte sector[base::kSectorBytes]{};
  StoreImpl* store = nullptr;
  Log* log = nullptr;
  io::IoOp io;
  iovec piece{};
  uint64_t counter = 0;  // of the last one; its parity is the copy
  LogFacts facts;
  uint64_t sequence_end = 0;
  uint64_t ends[2] = {};    // as each copy says durably
  uint64_t written_ns = 0;  // the last time
};

class StoreImpl final : public Store, public LogOwner {
 public:
  StoreImpl(io::Reactor& reactor, StoreOptions options);
  ~StoreImpl() override;

  void open(StoreOp& op) override;
  void close(StoreOp& op) override;
  void put(PutOp& op) override;
  Status begin(Upload& upload, uint64_t total_bytes, bool if_absent, bool range_write) override;
  void put_chunk(ChunkOp& op) override;
  void commit(CommitOp& op) override;
  void abort(Upload& upload) override;
  void write(WriteOp& op) override;
  Lookup lookup(const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation) override;
  void read(ReadOp& op) override;
  void release(ReadOp& op) override;
  bool exists(const BlockKey& key) override;
  bool stat(const BlockKey& key, BlockStat& out) override;
  bool touch(const BlockKey& key) override;
  void remove(RemoveOp& op) override;
  void flush_namespace(FlushOp& op) override;
  void suspect(RemoveOp& op, uint64_t offset) override;
  uint64_t list(uint64_t ns, uint64_t cursor, uint32_t limit, void (*visit)(void*, const ListEntry&),
                void* context) override;
  void read_key(KeyOp& op) override;
  Reservation reserve(uint32_t bytes) override;
  void abandon(Reservation reservation) override;
  void take_drives_out(uint64_t drives) override;
  const StoreCounters& counters() const override;
  uint64_t block_bytes_max() const override { return usable_ / 4; }
  void complete(StoreOp& op, Status status);  ///< later, from the loop
  void skip_sequences(uint64_t count);        ///< for tests: as if so many changes had been made
  size_t ops_in_flight() const override { return states_used_ + uploads_.size() + reservations_.size(); }

 private:
  friend class Recovery;
  friend class KeySearch;
  void take_buffers();
  // --- store.cc: pools, locks, completion
  OpState* take_state(StoreOp& op);
  void free_state(OpState& st);
  void finish(OpState& st, Status status);  // gives everything back, then completes
  void release_held();
  bool all_out() const;
  void lock(OpState& st, Digest digest, void (*locked)(OpState&));
  void unlock(OpState& st);
  Status refusal_of(const StoreOp& op) const;
  static void on_post(io::IoOp& op, int32_t);
  static void on_tick(io::Timer& timer);
  void start_tick();
  bool at_rest() const;
  void close_step();
  // --- sequence.cc
  uint64_t next_sequence();
  void extend_reservation();
  void anchor_logs();
  format::Anchor next_anchor(Log& log, AnchorWrite& write);
  void write_anchor(Log& log, AnchorWrite& write);
  static void on_anchor(io::IoOp& op, int32_t result);
  bool anchors_pending() const;
  // --- drives.cc
  Log* log_of(uint8_t drive) const { return drive < logs_.size() ? logs_[drive].get() : nullptr; }
  Log* usable_log(uint8_t drive) const {
    Log* log = log_of(drive);
    return log != nullptr && !log->out() ? log : nullptr;
  }
  Log* choose_log(Digest digest, uint32_t chunk, uint32_t attempt) const;
  Log* less_busy(Log* home) const;
  void on_log_failed(uint8_t drive, const char* why) override;
  bool is_last_drive(uint8_t drive) const override;
  Status landed(const Append& a) const;  // kIo also when its drive went out while it was written
  uint64_t overtaken_ns(uint8_t drive) const;
  void watch_drives();
  const io::DriveLoad* load_of(uint8_t drive) const;
  void watch_wait(uint8_t drive, uint64_t step_ns);
  bool waits_alone(uint8_t drive) const;
  void watch_crawling(uint8_t drive, uint64_t step_ns);
  bool lags(uint8_t drive) const { return (lagging_ >> drive & 1) != 0; }
  bool lags(const Log& log) const { return lags(log.config().slice.drive_index); }
  bool is_full(uint8_t drive) const;          // it lags, and has in flight all that it may have
  bool waits_for_drive(Digest digest) const;  // a record of the block lies on a drive that lags
  // --- blocks.cc
  uint16_t namespace_index(uint64_t id);
  Entry* live(Digest digest);                        // null also when its drive is out (then dropped)
  Entry* live_chunk(Digest digest, uint32_t chunk);  // null also when its drive is out (then the block is dropped)
  RecordRef ref_of(const Entry& e) const;
  uint64_t block_bytes_of(const Entry& e) const { return e.has(kHead) ? e.checksum() : e.length(); }
  uint32_t chunk_count(uint64_t bytes) const {
    return static_cast<uint32_t>((bytes + base::kChunkBytes - 1) / base::kChunkBytes);
  }
  bool has_holes(Digest digest, const Entry& e) const;
  void drop_block(Digest digest, uint64_t& counter);  // from the index only
  void erase_chunks(Digest digest, uint64_t block_bytes);
  Entry* install(Digest digest, uint64_t ns, const RecordRef& ref, uint16_t flags, uint32_t expiry_s);
  bool install_block(OpState& st, const RecordRef& ref, bool head, uint64_t ns, uint32_t expiry_s, uint64_t block_bytes,
                     std::span<const std::pair<uint32_t, RecordRef>> chunks);
  // --- index_room.cc
  struct IndexShares {
    uint32_t namespaces = 0;   // that have entries, and the one that asks
    uint16_t largest = 0;      // the one with most entries
    bool above_share = false;  // the one that asks has more than an equal part
  };
  struct IndexEviction : RemoveOp {
    bool under_way = false;
  };
  bool index_has_room(uint64_t ns, uint64_t entries);
  bool has_sealed_segment() const;
  IndexShares index_shares(uint64_t ns);
  bool reclaim_helps_index() const;
  void evict_from_index(uint16_t victim);
  void start_eviction(IndexEviction& eviction, const Entry& e);
  // --- put.cc
  static void put_locked(OpState& st);
  void put_append(OpState& st);
  static void put_appended(Append& a);
  void tombstone_then(OpState& st, Place old_place, uint64_t sequence, void (*step)(OpState&));
  static void tombstone_done(Append& a);
  bool may_return(Digest digest, uint64_t ns) const;
  void sweep_then(OpState& st, size_t except, uint64_t sequence, void (*step)(OpState&));
  static void sweep_next(OpState& st);
  /// What logs may still hold of a block from before a change: recovery would find it once the change is gone.
  struct Leftover {
    bool elsewhere = false;  // a live record that outlives the change, at `place`
    Place place;
    bool gone = false;  // perhaps records that were evicted or flushed a moment ago
  };
  Leftover leftover_of(Digest digest, const Append& a);
  void bury_then(OpState& st, const Leftover& old, const Append& a, bool installed, void (*step)(OpState&));
  bool outlives(const Entry* old, Place fresh) const;
  static void put_done(OpState& st);
  // --- remove.cc
  void start_remove(RemoveOp& op, Generation if_generation);
  static void remove_locked(OpState& st);
  void remove_missing(OpState& st);
  static void removed(OpState& st);
  /// With a tombstone, and only while it is still this version.
  void drop_durably(Digest digest, uint64_t ns, Generation generation, uint64_t& counter);
  // --- flush.cc
  void start_flush(OpState* st);
  void flush_done(OpState& st);
  bool flush_is_open(uint64_t ns) const;
  // --- read.cc
  Target find_target(const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation);
  bool start_read(OpState& st, const RecordRef& ref, uint64_t from, uint64_t to, std::byte* buffer, bool with_header,
                  void (*step)(OpState&));
  static void on_io(io::IoOp& op, int32_t result);
  void start_read_op(ReadOp& op, bool over_holes);
  void read_nowhere(OpState& st);
  static void read_done(OpState& st);
  Status deliver(OpState& st, ReadOp& op, const std::byte* grains, uint64_t first_grain_at, const std::byte* header);
  static bool header_record(const OpState& st, const std::byte* header, uint32_t chunk, format::RecordHeader& h,
                            std::vector<uint64_t>* sums, std::vector<format::PresentRange>* ranges);
  // --- upload.cc
  UploadState* upload_of(uint64_t id);
  void stage_append(OpState& st);
  static void staged(Append& a);
  static void commit_locked(OpState& st);
  void commit_whole(OpState& st, UploadState& u);
  static void whole_appended(Append& a);
  static void whole_done(OpState& st);
  void append_head(OpState& st, uint64_t block_bytes, std::span<const uint64_t> sequences);
  void set_head(OpState& st, const BlockKey& key, uint64_t block_bytes, std::span<const uint64_t> sequences,
                std::span<std::byte> data, std::vector<uint64_t>& sums);
  bool kept_chunk_is_gone(const Append& head) const;
  static void head_appended(Append& a);
  static void commit_done(OpState& st);
  void close_upload(UploadState& u);
  // --- merge.cc
  void queue_merge(OpState& st);
  void start_merge();
  void end_merge(Status status);
  static void write_locked(OpState& st);
  void merge_next();
  void merge_chunk();
  RecordRef old_chunk(Digest digest, uint32_t chunk);
  RecordRef* find_part(uint32_t chunk);
  void load(const RecordRef& ref, std::byte* data, void (*step)(OpState&));
  Status loaded(OpState& st, std::byte* data, uint32_t chunk, std::vector<format::PresentRange>& ranges);
  void old_is_bad(Status status);
  void lay_source();
  static void old_loaded(OpState& st);
  static void new_loaded(OpState& st);
  static void grown_loaded(OpState& st);
  void append_merged(format::RecordKind kind, uint32_t chunk, uint32_t length, std::byte* data, void (*done)(Append&));
  static void merged_appended(Append& a);
  static void grown_appended(Append& a);
  void merge_head();
  // --- reclaim.cc
  std::byte* take_extent_buffer() override;
  void give_extent_buffer(std::byte* b) override;
  void on_segment_needed(uint8_t drive) override;
  void on_oldest_unpinned(uint8_t drive) override;
  bool renew_reclaim();
  void leave_reclaim();
  bool is_left(const Reclaim& r);
  void reclaim_start();
  bool reclaim_takes(uint8_t drive);
  void reclaim_begin(Log& log);
  void reclaim_footer();
  void reclaim_by_footer();
  void read_footer_part(uint64_t bytes, io::IoOp::Fn on_done);
  bool evict_by_footer();
  void walk_segment();
  uint64_t small_window() const;
  void reclaim_window();
  static void on_reclaim_read(io::IoOp& op, int32_t result);
  void reclaim_blindly();
  void reclaim_extents();
  uint64_t reclaim_pack(const format::RecordHeader& h) const;
  bool wants_any(base::Bytes extent);
  void reclaim_records(base::Bytes extent);
  void move_record(const format::RecordView& record, std::byte* payload);
  void evict_record(const format::RecordHeader& h);
  void evict_block(Digest digest, Log& log);
  template <typename Fn>
  void each_staged(const format::RecordHeader& h, Fn&& fn);
  bool wants_move(const format::RecordHeader& h, uint64_t unit);
  static void on_moved(Append& a);
  void bury(Append& copy);
  void reclaim_end();
  void drop_all_in(Log& log, uint64_t epoch);
  void lose_staged_in(const Log& log, uint64_t epoch);

  io::Reactor& reactor_;
  StoreOptions options_;
  StoreCounters counters_{};
  uint64_t usable_ = 0;
  Index index_;
  std::vector<std::unique_ptr<Log>> logs_;
  std::vector<uint64_t> namespaces_;
  std::vector<uint64_t> flushed_;          // by namespace: sequence of its last flush in this life
  std::vector<uint64_t> flushed_durably_;  // and of the last one that is in all logs
  std::vector<OpState> states_;
  OpState* free_states_ = nullptr;
  uint32_t suspects_ = 0;  // being looked over
  size_t states_used_ = 0;
  std::vector<OpState*> lock_buckets_;
  StoreOp* done_head_ = nullptr;
  StoreOp* done_tail_ = nullptr;
  io::IoOp post_io_;
  bool posted_ = false;
  io::Timer tick_;
  uint64_t sequence_ = 1, sequence_end_ = 0;
  uint64_t sequence_wanted_ = 0;  // what anchors are to say; usable when both copies of one do
  std::vector<std::byte*> extent_buffers_;
  io::HugeMemory buffer_memory_;
  std::vector<BigBuffer> merge_buffers_;                          // two
  std::unordered_map<const Move*, std::unique_ptr<Move>> moves_;  // in flight
  std::deque<OpState*> merge_queue_;
  Merge merge_;
  std::unordered_map<uint64_t, std::unique_ptr<UploadState>> uploads_;
  uint64_t next_upload_ = 1;
  struct RoomOut {
    uint8_t drive;
    uint64_t epoch, sector;
    std::byte* data;
  };
  std::unordered_map<uint64_t, RoomOut> reservations_;
  std::unordered_map<const std::byte*, uint64_t> reserved_at_;
  uint64_t next_reservation_ = 1;
  std::unique_ptr<Reclaim> reclaim_;
  std::vector<std::unique_ptr<Reclaim>> left_reclaims_;  // what a drive that is out has not given back
  std::vector<uint8_t> reclaim_wanted_;
  size_t reclaim_next_ = 0;  // drive whose turn it is
  bool closing_ = false;
  uint64_t leaving_ = 0;     // drives that failed here and are not yet out durably, a bit each
  uint64_t taken_out_ = 0;   // drives that are out durably
  uint64_t lagging_ = 0;     // drives that are later than the others, as of the last tick
  uint64_t watched_ns_ = 0;  // the last tick
  struct Wait {
    uint64_t oldest_since_ns = 0;  // of the op that it is about
    uint64_t ns = 0;               // less what this process stood still
  };
  std::array<Wait, format::kDrivesMax> waits_{};           // by drive: how long its oldest op has been in flight
  std::array<uint64_t, format::kDrivesMax> crawled_ns_{};  // by drive: how much longer it crawled than not
  std::vector<OpState*> held_;                             // changes that are done, but for that
  std::vector<AnchorWrite> anchors_;                       // by drive
  uint64_t index_hand_ = 0;                                // the slot whose turn it is to give way
  std::array<IndexEviction, 16> index_evictions_;
  StoreOp* close_op_ = nullptr;
  enum class Closing : uint8_t { kOps, kMarks, kAnchors } close_phase_ = Closing::kOps;
  std::vector<Log*> closing_logs_;  // those whose end is still to be told
  mutable StoreCounters snapshot_{};
};

}  // namespace memkv::engine
