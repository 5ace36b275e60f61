#pragma once
/// A bug that is planted on purpose (base/test_rules.h).

#include <utility>

#include "base/test_rules.h"
#include "shard/connection.h"
#include "shard/op.h"
#include "shard/worker.h"

namespace memkv::shard {

/// Wrong, for drives still have the slots: for the simulator, which shows that it notices (base/test_rules.h).
inline void free_slots_of_late_ops(Worker& worker) {
  if (base::rules().slot_by_completion) return;
  for (Op& op : worker.pools().ops) {
    const bool late = op.phase == Phase::kRunning && op.slot && expired(op);
    if (late) worker.slots().give(op.connection->holder(), std::exchange(op.slot, {}));
  }
}

}  // namespace memkv::shard
