#pragma once
/// Flush of a namespace.

#include "engine/ops/change.h"
#include "engine/ops/range_writer.h"

namespace memkv::engine {

/// A namespace's tombstone in each log. It is given out between two merges: one under way would carry bytes from before
/// the flush to behind it.
///
/// Thread: worker.
class Flush final : public Change, private RangeWriter::Job {
 public:
  static void start(Parts& parts, RangeWriter& writer, FlushOp& op);
  Flush(Parts& parts, RangeWriter& writer, FlushOp& op) : Change(parts, op), writer_(writer), flush_(op) {}

 private:
  enum class Step : uint8_t { kQueued, kAppending };

  void on_turn() override;
  void append_to_logs();
  static void on_tombstone(Append& tombstone);
  void log_answered();

  RangeWriter& writer_;
  FlushOp& flush_;
  size_t unanswered_ = 0;  // logs, and one more while they are being asked
  Step step_ = Step::kQueued;
};

}  // namespace memkv::engine
