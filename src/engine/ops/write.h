#pragma once
/// Write of a range inside one chunk.

#include "engine/ops/change.h"
#include "engine/ops/index_room.h"
#include "engine/ops/range_writer.h"

namespace memkv::engine {

/// Changes a range of a block that may or may not exist: its turn on the key, then its turn with the merge buffers.
///
/// Thread: worker.
class Write final : public Change, private RangeWriter::Job {
 public:
  static constexpr uint8_t kNewEntriesMax = 4;  // head, old chunk, new one, and one to spare
  static void start(Parts& parts, IndexRoom& room, RangeWriter& writer, WriteOp& op);
  Write(Parts& parts, RangeWriter& writer, WriteOp& op) : Change(parts, op), writer_(writer), write_(op) {}

 private:
  enum class Step : uint8_t {
    kWaiting,  ///< for its turn on the key
    kQueued,   ///< for its turn with the merge buffers
    kMerging,  ///< the range writer joins old and new bytes, and appends them
  };

  void on_locked() override;
  MergeNeeds needs() const override { return needs_of_write(parts_, write_); }
  Status refusal_now() const override { return refusal(); }
  void on_turn(Merge& merge) override;
  void on_range_written(Status status) override;

  RangeWriter& writer_;
  WriteOp& write_;
  Step step_ = Step::kWaiting;
};

}  // namespace memkv::engine
