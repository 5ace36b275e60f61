#pragma once
/// One change of a key at a time.

#include <cstddef>
#include <vector>

#include "base/siphash.h"
#include "engine/index.h"

namespace memkv::engine {

/// Changes of one key take turns, in the order in which they came. Changes of different keys know nothing of one
/// another.
///
/// Owns the table of those whose turn it is; borrows them, and those that wait, until unlock(). Thread: worker.
class KeyLocks {
 public:
  /// A change of a key. Lives until it has given its turn back.
  class Holder {
   public:
    bool holds_lock() const { return holds_lock_; }

   protected:
    ~Holder() = default;
    /// The key is ours until unlock().
    virtual void on_locked() = 0;

   private:
    friend class KeyLocks;
    Digest digest_{};
    bool holds_lock_ = false;
    Holder* next_waiter_ = nullptr;     ///< for the same key
    Holder* next_in_bucket_ = nullptr;  ///< another key's holder
  };

  KeyLocks();
  /// Calls on_locked(): inside the call when nobody changes the key now, else when its turn comes.
  void lock(Holder& holder, Digest digest);
  /// The next one's on_locked() runs inside.
  void unlock(Holder& holder);

 private:
  Holder*& bucket_of(Digest digest);

  std::vector<Holder*> buckets_;
};

}  // namespace memkv::engine
