#pragma once
/// Remove: a tombstone where the record lies.

#include "engine/ops/burial.h"
#include "engine/ops/change.h"

namespace memkv::engine {

/// Removes a block from its log, then from the index. The store removes blocks itself, too: damaged ones, and those
/// that give way in a full index.
///
/// Thread: worker.
class Remove final : public Change {
 public:
  /// `if_generation`: only while it is still this version of the block; 0 = any.
  static void start(Parts& parts, RemoveOp& op, Generation if_generation);
  /// Drops a block with a tombstone, for good, if it is still this version.
  static void drop_durably(Parts& parts, Digest digest, uint64_t namespace_id, Generation generation,
                           Blocks::Counter counter);
  Remove(Parts& parts, RemoveOp& op, Generation if_generation)
      : Change(parts, op), remove_(op), if_generation_(if_generation), burial_(parts) {}

 private:
  enum class Step : uint8_t {
    kWaiting,           ///< for its turn on the key
    kKillingRecord,     ///< a tombstone goes into the record's log; the block leaves the index when it is durable
    kKillingLeftovers,  ///< a miss, but an evicted record could come back at a restart: all logs get a tombstone
  };

  void on_locked() override;
  void remove_missing();
  void killed();
  void swept();

  RemoveOp& remove_;
  const Generation if_generation_;
  uint64_t sequence_ = 0;
  Burial burial_;
  Step step_ = Step::kWaiting;
};

}  // namespace memkv::engine
