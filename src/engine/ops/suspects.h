#pragma once
/// Records that somebody saw damaged.

#include "engine/parts.h"

namespace memkv::engine {

/// Looks such records over: a read of the store's own, whole and verified. One that is really bad is dropped by it.
///
/// Knows Read. Thread: worker.
class Suspects {
 public:
  explicit Suspects(Parts& parts) : parts_(parts) {}
  /// The chunk at `offset`. kOk = it was fine, kCorrupt = dropped.
  void look_over(RemoveOp& op, uint64_t offset);

 private:
  struct OwnRead;
  static void on_read(StoreOp& op);

  Parts& parts_;
  uint32_t under_way_ = 0;
};

}  // namespace memkv::engine
