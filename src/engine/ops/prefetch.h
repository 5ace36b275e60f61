#pragma once
/// Prefetches: a chunk comes into the RAM tier before a get asks for it.

#include "engine/parts.h"
#include "engine/record_load.h"

namespace memkv::engine {

/// One device read into the tier, for nobody yet. Gets that come meanwhile wait for it as for the read of another get.
/// If it fails, they look again, and the first of them decides what that means for the block.
///
/// Thread: worker.
class Prefetch final : public PooledOp {
 public:
  static void start(Parts& parts, PrefetchOp& op);

 private:
  friend class OpPool;
  Prefetch(Parts& parts, PrefetchOp& op, TierEntry& entry) : parts_(parts), op_(op), entry_(entry) {}
  void read();
  void loaded();
  void end(Status status);

  Parts& parts_;
  PrefetchOp& op_;
  TierEntry& entry_;  // held, as long as the drive has its memory
  RecordLoad load_;
};

}  // namespace memkv::engine
