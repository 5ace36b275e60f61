#include "engine/ops/remove.h"

namespace memkv::engine {

void Remove::start(Parts& parts, RemoveOp& op, Generation if_generation) {
  Remove* remove = parts.pool.make<Remove>(op, parts, op, if_generation);
  if (remove == nullptr) return;
  parts.tick.start();
  remove->lock(op.key.digest);
}

void Remove::on_locked() {
  MEMKV_ASSERT(step_ == Step::kWaiting);
  if (const Status no = refusal(); no != Status::kOk) return finish(no);
  const Entry* e = parts_.blocks.find_usable(remove_.key.digest);
  if (e == nullptr && if_generation_ == 0) return remove_missing();
  if (e == nullptr || (if_generation_ != 0 && e->sequence() != if_generation_)) return finish(Status::kMiss);
  if (parts_.drives.lags(e->place().drive)) return finish(Status::kBusy);
  sequence_ = parts_.sequences.next();
  remove_.generation = sequence_;
  step_ = Step::kKillingRecord;
  burial_.append_tombstone_for(remove_.key.digest, e->place(), sequence_, Then::of<&Remove::killed>(*this));
}

/// What was evicted or flushed a moment ago may be found again after a restart; what was removed may not.
void Remove::remove_missing() {
  if (!parts_.blocks.may_return(remove_.key.digest, remove_.key.namespace_id)) return finish(Status::kMiss);
  step_ = Step::kKillingLeftovers;
  burial_.append_everywhere_but(parts_.drives.count(), remove_.key.digest, parts_.sequences.next(),
                                Then::of<&Remove::swept>(*this));
}

void Remove::swept() {
  MEMKV_ASSERT(step_ == Step::kKillingLeftovers);
  finish(burial_.status() == Status::kOk ? Status::kMiss : burial_.status());
}

/// Reclaim may have moved the record behind its tombstone: then it gets another one.
void Remove::killed() {
  MEMKV_ASSERT(step_ == Step::kKillingRecord && holds_lock());
  const Digest digest = remove_.key.digest;
  const Entry* e = parts_.blocks.find(digest);
  const Append* tombstone = burial_.landed();
  if (e != nullptr && burial_.status() == Status::kOk && tombstone != nullptr &&
      parts_.drives.needs_own_tombstone(e->place(), tombstone->place)) {
    return burial_.append_tombstone_for(digest, e->place(), sequence_, Then::of<&Remove::killed>(*this));
  }
  if (burial_.status() == Status::kOk) parts_.blocks.drop(digest, nullptr);
  finish(burial_.status());
}

void Remove::drop_durably(Parts& parts, Digest digest, uint64_t namespace_id, Generation generation,
                          Blocks::Counter counter) {
  const Entry* e = parts.blocks.find(digest);
  if (e == nullptr || e->sequence() != generation) return;
  ++(parts.counters.*counter);
  auto* op = new RemoveOp;  // rare: a record was found damaged
  op->key.digest = digest;
  op->key.namespace_id = namespace_id;
  op->on_done = [](StoreOp& done) { delete static_cast<RemoveOp*>(&done); };
  start(parts, *op, generation);
}

}  // namespace memkv::engine
