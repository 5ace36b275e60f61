#pragma once
/// A merge: the read-modify-write of a change that keeps a part of what is there.

#include <array>
#include <span>
#include <string>
#include <vector>

#include "engine/ops/burial.h"
#include "engine/parts.h"
#include "engine/record_load.h"

namespace memkv::engine {

/// What a merge will need.
struct MergeNeeds {
  uint64_t drives = 0;  ///< where it reads, and where it appends as things stand; a bit each
  uint32_t buffers = 1;
};
MergeNeeds needs_of_stage(const Parts& parts, const ChunkOp& op, const OpenUpload& upload);
/// `upload`: null: it was closed.
MergeNeeds needs_of_commit(const Parts& parts, const OpenUpload* upload);
MergeNeeds needs_of_write(const Parts& parts, const WriteOp& op);

/// One merge under way. A range write loads the old chunk into buffer 0, lays the new bytes over it, and appends the
/// result. Where the block has more than one chunk, a head follows that names them all; where the block was one record
/// before, that record becomes chunk 0 first.
///
/// A drive may hang while it has a buffer. If it is to be read from, nothing of the change is done yet, so the change
/// may end at its deadline; the merge then stays, with its buffers, until the drive has answered.
///
/// Owns the state of the merge; borrows the op until Owner::on_merged(). Thread: worker.
class Merge {
 public:
  class Owner {
   public:
    /// Asked before the merge begins again: not kOk, and the change ends so.
    virtual Status refusal_of(const Merge& merge) = 0;
    /// What came of the change. Once for each merge.
    virtual void on_merged(Merge& merge, Status status) = 0;
    /// After that: no drive has anything of its memory. The buffers come back.
    virtual void on_merge_over(Merge& merge) = 0;

   protected:
    ~Owner() = default;
  };

  Merge(Parts& parts, Owner& owner) : parts_(parts), owner_(owner), burial_(parts) {}

  bool free() const { return step_ == Step::kIdle; }
  /// Takes the buffers; stage(), commit() or write() follows, once.
  void prepare(const MergeNeeds& needs);

  /// A chunk of an upload that begins behind the chunk's start: a record whose beginning is a hole.
  void stage(ChunkOp& op, OpenUpload& upload);
  /// All chunks of an upload; null: it was closed while the commit waited.
  void commit(CommitOp& op, OpenUpload* upload);
  void write(WriteOp& op);

  /// The namespace was flushed: the merge begins again, without the old bytes, unless its last record had its place in
  /// the order of changes before. Its client may have given it up before it asked for the flush: then it is refused.
  void flushed(uint64_t namespace_id);
  /// Ends the change if it is past its deadline, and nothing of it can be seen yet.
  void end_if_late(uint64_t now_ns);
  /// The drives that others had better not wait for behind it, a bit each: all that it needs, or, when it has been under
  /// way for long, the one that it waits for.
  uint64_t busy_drives(uint64_t now_ns) const { return is_late(now_ns) ? waits_for_ : needs_.drives; }
  bool is_late(uint64_t now_ns) const;

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
  /// What is being made.
  struct Work {
    Kind kind = Kind::kWrite;
    StoreOp* op = nullptr;         // null: it has ended at its deadline
    OpenUpload* upload = nullptr;  // of a chunk or a commit
    MergeChunks made;              // chunks of this change; reclaim keeps their places up to date
    uint64_t namespace_id = 0;
    std::string key;
    uint64_t block_bytes = 0;
    bool whole_result = false;                 // the block stays one record
    bool flushed = false;                      // what was loaded, or is being loaded, is gone
    std::vector<uint32_t> todo;                // staged chunks still to look at
    uint32_t chunk = 0;                        // being merged
    uint64_t in_chunk = 0;                     // where the op's own bytes go
    std::span<const std::byte> source;         // the op's own bytes; none: a staged chunk is merged
    RecordRef old;                             // what stands in buffer 0; length 0: nothing
    std::vector<format::PresentRange> ranges;  // of buffer 0
    std::vector<uint64_t> sums;                // grain sums of what is appended
  };

  void begin(Kind kind, StoreOp& op, const BlockKey& key);
  void begin_again();
  void end(Status status);
  void tell(Status status);
  void leave();
  Digest digest() const { return work_.made.digest; }
  bool keeps_old() const { return work_.kind == Kind::kWrite || work_.upload->range_write; }
  void merge_next_chunk();
  void merge_chunk();
  RecordRef old_chunk(uint32_t chunk) const;
  RecordRef* made_chunk(uint32_t chunk);
  void load(Step step, const RecordRef& record, size_t buffer);
  void loaded();
  Status check_loaded(size_t buffer, uint32_t chunk, std::vector<format::PresentRange>& ranges);
  void old_is_bad(Status status);
  void old_loaded();
  void overlay_source();
  void new_loaded();
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
  void head_appended();
  void buried();

  Parts& parts_;
  Owner& owner_;
  Step step_ = Step::kIdle;
  MergeNeeds needs_;
  std::array<std::byte*, 2> buffers_{};  // the second: where it needs two
  uint64_t begun_ns_ = 0;
  uint64_t waits_for_ = 0;  // the drive of its I/O, as a bit
  Work work_;
  RecordLoad load_;
  Append append_;
  Burial burial_;
  Status status_ = Status::kOk;
};

}  // namespace memkv::engine
