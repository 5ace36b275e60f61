#pragma once
/// Flush of a namespace.

#include "engine/ops/change.h"
#include "engine/ops/range_writer.h"

namespace memkv::engine {

/// A namespace's tombstone in each log. Merges under way begin again: they would carry bytes from before the flush to
/// behind it.
///
/// Thread: worker.
class Flush final : public Change {
 public:
  static void start(Parts& parts, RangeWriter& writer, FlushOp& op);
  Flush(Parts& parts, RangeWriter& writer, FlushOp& op) : Change(parts, op), writer_(writer), flush_(op) {}

 private:
  enum class Step : uint8_t { kStarted, kAppending };

  void append_to_logs();
  static void on_tombstone(Append& tombstone);
  void log_answered();

  RangeWriter& writer_;
  FlushOp& flush_;
  size_t unanswered_ = 0;  // logs, and one more while they are being asked
  Step step_ = Step::kStarted;
};

}  // namespace memkv::engine
