#include "engine/key_locks.h"

#include "base/assert.h"

namespace memkv::engine {
namespace {

constexpr size_t kBuckets = 4096;

}  // namespace

KeyLocks::KeyLocks() : buckets_(kBuckets) {}

KeyLocks::Holder*& KeyLocks::bucket_of(Digest digest) { return buckets_[digest.lo % kBuckets]; }

void KeyLocks::lock(Holder& holder, Digest digest) {
  MEMKV_ASSERT(!holder.holds_lock_);
  holder.digest_ = digest;
  holder.next_waiter_ = nullptr;
  Holder*& bucket = bucket_of(digest);
  for (Holder* other = bucket; other != nullptr; other = other->next_in_bucket_) {
    if (other->digest_ != digest) continue;
    while (other->next_waiter_ != nullptr) other = other->next_waiter_;
    MEMKV_ASSERT(other != &holder, "it waits already");
    other->next_waiter_ = &holder;
    return;
  }
  holder.next_in_bucket_ = bucket;
  bucket = &holder;
  holder.holds_lock_ = true;
  holder.on_locked();
}

void KeyLocks::unlock(Holder& holder) {
  MEMKV_ASSERT(holder.holds_lock_);
  Holder** at = &bucket_of(holder.digest_);
  while (*at != &holder) at = &(*at)->next_in_bucket_;
  Holder* waiter = holder.next_waiter_;
  holder.holds_lock_ = false;
  if (waiter == nullptr) {
    *at = holder.next_in_bucket_;
    return;
  }
  waiter->next_in_bucket_ = holder.next_in_bucket_;
  *at = waiter;
  waiter->holds_lock_ = true;
  waiter->on_locked();
}

}  // namespace memkv::engine
