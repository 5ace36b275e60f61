#pragma once
/// Put of a block that is one record.

#include "engine/ops/burial.h"
#include "engine/ops/change.h"
#include "engine/ops/index_room.h"
#include "engine/ops/record_append.h"

namespace memkv::engine {

/// One record, then a tombstone where the one before it lies.
///
/// Thread: worker.
class Put final : public Change {
 public:
  static constexpr uint8_t kNewEntriesMax = 1;
  static void start(Parts& parts, IndexRoom& room, PutOp& op);
  Put(Parts& parts, PutOp& op) : Change(parts, op), put_(op), record_(parts), burial_(parts) {}

 private:
  enum class Step : uint8_t {
    kWaiting,    ///< for its turn on the key
    kAppending,  ///< the record is on its way into a log; the old version is still the block
    kBurying,    ///< the new record is the block; the old one gets its tombstone if it lies in another log
    kDone,       ///< the outcome is known; the acknowledgement may be held until drives that failed are out
  };

  void on_locked() override;
  void on_drives_left() override;
  static void on_appended(Append& append);
  void appended();
  void buried();
  void end();

  PutOp& put_;
  RecordAppend record_;
  Burial burial_;
  Step step_ = Step::kWaiting;
};

}  // namespace memkv::engine
