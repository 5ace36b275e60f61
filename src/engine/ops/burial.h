#pragma once
/// Rule 4: what a change replaces or kills dies where it lies, before the change is acknowledged.

#include "engine/parts.h"
#include "engine/then.h"

namespace memkv::engine {

/// The tombstones of one change, one after another: for the old record in the log where it lies, or in all logs where
/// nobody knows which of them may still hold one.
///
/// Owns the tombstone on its way. Part of an op. Thread: worker.
class Burial {
 public:
  explicit Burial(Parts& parts) : parts_(parts) {}

  /// After the append of `fresh`: what it leaves behind dies, and so does the record itself where it did not get into
  /// the index. `then` follows, inside the call where there is nothing to bury.
  void bury(Digest digest, const Blocks::Leftover& old, const Append& fresh, bool installed, Then then);
  /// In the log where the old record lies. None is needed where that log is out.
  void append_tombstone_for(Digest digest, Place old, uint64_t sequence, Then then);
  /// In all logs but that of the drive `except`.
  void append_everywhere_but(size_t except, Digest digest, uint64_t sequence, Then then);

  /// kOk, or what became of the last tombstone that failed.
  Status status() const { return status_; }
  /// The last tombstone that landed; null: there is none.
  const Append* landed() const;

 private:
  static void on_tombstone(Append& tombstone);
  void append_next();

  Parts& parts_;
  Append tombstone_;
  Then then_;  // after the tombstone
  uint8_t drive_ = 0;
  Status status_ = Status::kOk;
  // While all logs get one.
  Then after_all_;
  Digest digest_{};
  uint64_t sequence_ = 0;
  size_t next_drive_ = 0, except_ = 0;
};

}  // namespace memkv::engine
