#pragma once
/// What all changes of a block have in common.

#include "engine/parts.h"

namespace memkv::engine {

/// A change under way: it waits for its turn on the key, is refused there or done, and is acknowledged when no drive is
/// leaving.
///
/// Lives in the pool until it completes. Thread: worker.
class Change : public PooledOp, protected KeyLocks::Holder, protected Drives::Held {
 protected:
  Change(Parts& parts, StoreOp& op) : parts_(parts), op_(op) {}

  /// on_locked() comes when the key is ours.
  void lock(Digest digest) { parts_.locks.lock(*this, digest); }
  /// Asked when the change's turn on its block has come: not kOk, and nothing of it may be done. This is the point of
  /// no return, since a change that came later to the same block waits for this one's end.
  Status refusal() const;
  /// The change is done: gives everything back and completes, at once or when no drive is leaving any more.
  void finish(Status status);

  void on_locked() override {}
  void on_drives_left() override { finish(status_); }
  void make_unknown() override { status_ = Status::kUnknown; }

  Parts& parts_;
  StoreOp& op_;
  Status status_ = Status::kOk;  ///< so far
};

}  // namespace memkv::engine
