#pragma once
/// What a store does by itself: every tick, and when it is closed.

#include <vector>

#include "engine/ops/range_writer.h"
#include "engine/parts.h"
#include "engine/reclaimer.h"

namespace memkv::engine {

/// Every tick it looks after the drives, the sequence reservation, the logs, reclaim and range writes; it goes on while something is
/// under way. Closing waits for all that is in flight, however long: memory that a drive has comes back by the drive's
/// own completion only. Then each log gets its closing mark, and each anchor how far its log goes.
///
/// Owns what is left to be told when the store is closed. Knows all lower parts, the reclaimer and the range writer. Thread: worker.
class Upkeep {
 public:
  Upkeep(Parts& parts, Reclaimer& reclaimer, RangeWriter& range_writer);
  void close(StoreOp& op);

 private:
  enum class Step : uint8_t { kOpen, kWaiting, kMarking, kAnchoring, kClosed };

  void on_tick();
  bool look_after_logs();
  void close_step();
  bool at_rest() const;
  void write_marks();
  void write_anchors();

  Parts& parts_;
  Reclaimer& reclaimer_;
  RangeWriter& range_writer_;
  Step step_ = Step::kOpen;
  StoreOp* closing_ = nullptr;
  std::vector<Log*> to_be_told_;  // logs whose end is still to be told
};

}  // namespace memkv::engine
