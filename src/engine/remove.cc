/// Remove: a tombstone where the record lies.

#include "engine/store_impl.h"

namespace memkv::engine {

void StoreImpl::remove(RemoveOp& op) {
  ++counters_.removes;
  start_remove(op, 0);
}

void StoreImpl::start_remove(RemoveOp& op, Generation if_generation) {
  op.private_state[0] = if_generation;
  OpState* st = take_state(op);
  if (st == nullptr) return;
  start_tick();
  lock(*st, op.key.digest, remove_locked);
}

void StoreImpl::remove_locked(OpState& st) {
  StoreImpl& s = *st.store;
  if (const Status no = s.refusal_of(*st.op); no != Status::kOk) return s.finish(st, no);
  const Entry* e = s.live(st.digest);
  const uint64_t if_generation = st.op->private_state[0];
  if (e == nullptr && if_generation == 0) return s.remove_missing(st);
  if (e == nullptr || (if_generation != 0 && e->sequence() != if_generation)) return s.finish(st, Status::kMiss);
  if (s.lags(e->place().drive)) return s.finish(st, Status::kBusy);
  const uint64_t sequence = s.next_sequence();
  st.op->generation = sequence;
  s.tombstone_then(st, e->place(), sequence, removed);
}

/// What was evicted or flushed a moment ago may be found again after a restart; what was removed may not.
void StoreImpl::remove_missing(OpState& st) {
  if (!may_return(st.digest, static_cast<RemoveOp&>(*st.op).key.namespace_id)) return finish(st, Status::kMiss);
  sweep_then(st, logs_.size(), next_sequence(),
             [](OpState& done) { done.store->finish(done, done.status == Status::kOk ? Status::kMiss : done.status); });
}

void StoreImpl::removed(OpState& st) {
  uint64_t not_counted = 0;
  StoreImpl& s = *st.store;
  const Entry* e = s.index_.find(st.digest);
  const Append& t = st.tombstone;
  if (e != nullptr && st.status == Status::kOk && t.status == Status::kOk && t.on_done != nullptr &&
      s.outlives(e, t.place)) {
    return s.tombstone_then(st, e->place(), t.header.sequence, removed);
  }
  if (st.status == Status::kOk) st.store->drop_block(st.digest, not_counted);
  st.store->finish(st, st.status);
}

namespace {
/// A remove that the store starts itself.
struct OwnRemove : RemoveOp {};
}  // namespace

void StoreImpl::drop_durably(Digest digest, uint64_t ns, Generation generation, uint64_t& counter) {
  const Entry* e = index_.find(digest);
  if (e == nullptr || e->sequence() != generation) return;
  ++counter;
  auto* op = new OwnRemove;  // rare: a record was found damaged
  op->key.digest = digest;
  op->key.namespace_id = ns;
  op->on_done = [](StoreOp& done) { delete static_cast<OwnRemove*>(&done); };
  start_remove(*op, generation);
}

}  // namespace memkv::engine
