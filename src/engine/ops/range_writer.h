#pragma once
/// Changes that need the merge buffers: range writes with their read-modify-write, and commits with a very long head.

#include <span>
#include <string>
#include <vector>

#include "engine/ops/burial.h"
#include "engine/parts.h"
#include "engine/record_load.h"

namespace memkv::engine {

/// One job at a time has the two merge buffers; the others wait here, in order. A job's key is locked meanwhile.
///
/// A range write loads the old chunk into buffer 0, lays the new bytes over it, and appends the result. Where the block
/// has more than one chunk, a head follows that names them all; where the block was one record before, that record
/// becomes chunk 0 first.
///
/// Owns the queue and the state of the merge under way. Knows the ops' lower parts, and Remove. Thread: worker.
class RangeWriter {
 public:
  /// An op that takes its turn.
  class Job {
   public:
    /// Its turn has come: it calls stage(), commit(), write() or leave_turn(), once.
    virtual void on_turn() = 0;
    /// After the first three: its turn is over, and this is what came of it.
    virtual void on_range_written(Status) {}

   protected:
    ~Job() = default;

   private:
    friend class RangeWriter;
    Job* next_job_ = nullptr;
  };

  explicit RangeWriter(Parts& parts) : parts_(parts), burial_(parts) {}
  void queue(Job& job);

  /// A chunk of an upload that begins behind the chunk's start: a record whose beginning is a hole.
  void stage(ChunkOp& op, OpenUpload& upload);
  /// All chunks of an upload; null: it was closed while the commit waited.
  void commit(CommitOp& op, OpenUpload* upload);
  void write(WriteOp& op);
  /// The job needs nothing but to know that no merge is under way now.
  void leave_turn();

 private:
  enum class Kind : uint8_t { kStage, kCommit, kWrite };
  enum class Step : uint8_t {
    kIdle,
    kStarting,
    kLoadingOld,       // the old chunk, into buffer 0
    kLoadingNew,       // the staged chunk, into buffer 1
    kLoadingWhole,     // the block that was one record, into buffer 0
    kAppendingMerged,  // what was merged
    kAppendingWhole,   // the block that was one record, as chunk 0
    kAppendingHead,
    kBurying
  };
  /// The merge under way.
  struct Merge {
    Kind kind = Kind::kWrite;
    StoreOp* op = nullptr;
    OpenUpload* upload = nullptr;  // of a chunk or a commit
    MergeChunks made;              // chunks of this change; reclaim keeps their places up to date
    uint64_t namespace_id = 0;
    std::string key;
    uint64_t block_bytes = 0;
    bool whole_result = false;                 // the block stays one record
    std::vector<uint32_t> todo;                // staged chunks still to look at
    uint32_t chunk = 0;                        // being merged
    uint64_t in_chunk = 0;                     // where the op's own bytes go
    std::span<const std::byte> source;         // the op's own bytes; none: a staged chunk is merged
    RecordRef old;                             // what stands in buffer 0; length 0: nothing
    std::vector<format::PresentRange> ranges;  // of buffer 0
    std::vector<uint64_t> sums;                // grain sums of what is appended
  };

  void start_next();
  void begin(Kind kind, StoreOp& op, const BlockKey& key);
  void end(Status status);
  Digest digest() const { return merge_.made.digest; }
  bool keeps_old() const { return merge_.kind == Kind::kWrite || merge_.upload->range_write; }
  void merge_next_chunk();
  void merge_chunk();
  RecordRef old_chunk(uint32_t chunk) const;
  RecordRef* made_chunk(uint32_t chunk);
  void load(Step step, const RecordRef& record, size_t buffer, Then then);
  Status check_loaded(size_t buffer, uint32_t chunk, std::vector<format::PresentRange>& ranges);
  void old_is_bad(Status status);
  void old_loaded();
  void overlay_source();
  void new_loaded();
  void grow_from_one_record(const RecordRef& record);
  void whole_loaded();
  void append_chunk(Step step, format::RecordKind kind, uint32_t chunk, uint32_t length);
  void submit(Step step, uint32_t chunk, uint64_t user_bytes);
  static void on_appended(Append& append);
  void merged_appended();
  void whole_appended();
  void append_head();
  std::vector<uint64_t> head_sequences();
  bool kept_chunk_is_gone() const;
  bool made_chunk_is_lost() const;
  void install_whole(const RecordRef& ref);
  void head_appended();
  void buried();

  Parts& parts_;
  Job* first_ = nullptr;  // waiting
  Job* last_ = nullptr;
  Job* job_ = nullptr;  // whose turn it is
  Step step_ = Step::kIdle;
  Merge merge_;
  RecordLoad load_;
  Append append_;
  Burial burial_;
  Status status_ = Status::kOk;
};

}  // namespace memkv::engine
