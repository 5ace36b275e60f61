#pragma once
/// Commit of an upload.

#include <vector>

#include "engine/ops/burial.h"
#include "engine/ops/change.h"
#include "engine/ops/range_writer.h"

namespace memkv::engine {

/// Makes the chunks of an upload the block, by a head record that names them. A put keeps nothing of the old block, so
/// its commit merges nothing and goes apart from the merges, one of which may hang on a drive that this block has
/// nothing to do with. A range write, or a head that is very long, needs the merge buffers.
///
/// Thread: worker.
class Commit final : public Change, private RangeWriter::Job {
 public:
  static constexpr uint8_t kNewEntriesMax = 1;  // the head; its chunks have asked for room with the begin
  static void start(Parts& parts, RangeWriter& writer, CommitOp& op);
  Commit(Parts& parts, RangeWriter& writer, CommitOp& op)
      : Change(parts, op), writer_(writer), commit_(op), burial_(parts) {}

 private:
  /// A put of usual size goes kWaiting, kAppendingHead, kBurying. All others go kWaiting, kQueued, kMerging.
  enum class Step : uint8_t {
    kWaiting,        ///< for its turn on the key
    kQueued,         ///< for its turn with the merge buffers
    kMerging,        ///< the range writer makes the chunks and the head
    kAppendingHead,  ///< the head is on its way into a log; until it is durable the old block is the block
    kBurying,        ///< head and chunks are in the index; the old record gets its tombstone if it lies in another log
  };

  void on_locked() override;
  void refuse(OpenUpload* upload, Status status);
  void queue_merge();
  MergeNeeds needs() const override;
  Status refusal_now() const override { return refusal(); }
  void on_turn(Merge& merge) override;
  void on_range_written(Status status) override;
  void append_head(OpenUpload& upload);
  static void on_head(Append& head);
  void head_appended();
  void buried();
  void end();

  RangeWriter& writer_;
  CommitOp& commit_;
  Step step_ = Step::kWaiting;
  // Where nothing is merged.
  OpenUpload* upload_ = nullptr;  // stays until the end
  Append head_;
  std::vector<std::byte> head_payload_;
  std::vector<uint64_t> head_sums_;
  Burial burial_;
};

}  // namespace memkv::engine
