#pragma once
/// A chunk of an upload.

#include "engine/ops/range_writer.h"
#include "engine/ops/record_append.h"

namespace memkv::engine {

/// Appends a chunk, which stands outside the index until the upload's commit. One that begins behind the chunk's start
/// goes through the merge buffers: it is staged as a chunk whose beginning is a hole.
///
/// Keeps the upload while it is in flight. Thread: worker.
class Chunk final : public PooledOp, private RangeWriter::Job {
 public:
  static constexpr uint8_t kNewEntriesMax = 1;  // with the commit
  static void start(Parts& parts, RangeWriter& writer, ChunkOp& op);
  Chunk(Parts& parts, RangeWriter& writer, OpenUpload& upload, ChunkOp& op)
      : parts_(parts), writer_(writer), upload_(upload), chunk_(op), record_(parts) {}

 private:
  enum class Step : uint8_t {
    kStarted,
    kAppending,  ///< begins at the chunk's start: its record is on its way into a log
    kQueued,     ///< begins behind it: waits for its turn with the merge buffers
    kStaging,    ///< the range writer appends it as a chunk whose beginning is a hole
  };

  static bool is_valid(const OpenUpload& upload, const ChunkOp& op);
  void append();
  static void on_appended(Append& append);
  void appended();
  MergeNeeds needs() const override { return needs_of_stage(parts_, chunk_, upload_); }
  Status refusal_now() const override { return Status::kOk; }  // its commit is refused
  void on_turn(Merge& merge) override;
  void on_range_written(Status status) override;
  void end(Status status);

  Parts& parts_;
  RangeWriter& writer_;
  OpenUpload& upload_;
  ChunkOp& chunk_;
  RecordAppend record_;
  Step step_ = Step::kStarted;
};

}  // namespace memkv::engine
