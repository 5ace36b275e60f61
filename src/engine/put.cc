/// Put: one record, then a tombstone where the one before it lies.

#include "base/chunk_seed.h"
#include "engine/store_impl.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

void set_record(RecordHeader& h, const BlockKey& key, RecordKind kind, uint64_t sequence, uint32_t chunk) {
  h.digest[0] = key.digest.lo;
  h.digest[1] = key.digest.hi;
  h.namespace_id = key.namespace_id;
  h.kind = kind;
  h.sequence = sequence;
  h.chunk_number = chunk;
}

}  // namespace

void StoreImpl::put(PutOp& op) {
  ++counters_.puts;
  if (op.key.key.empty() || op.key.key.size() > kKeyBytesMax || op.payload.size > base::kChunkBytes)
    return complete(op, Status::kInvalid);
  if (!index_has_room(op.key.namespace_id, 1)) return complete(op, Status::kBusy);
  OpState* st = take_state(op);
  if (st == nullptr) return;
  start_tick();
  lock(*st, op.key.digest, put_locked);
}

void StoreImpl::put_locked(OpState& st) {
  StoreImpl& s = *st.store;
  PutOp& op = static_cast<PutOp&>(*st.op);
  if (const Status no = s.refusal_of(op); no != Status::kOk) return s.finish(st, no);
  const Entry* old = s.live(st.digest);
  if (op.if_absent && old != nullptr) {
    op.generation = old->sequence();
    return s.finish(st, Status::kExists);
  }
  if (old != nullptr && s.lags(old->place().drive)) return s.finish(st, Status::kBusy);  // its tombstone would wait
  Append& a = st.append;
  set_record(a.header, op.key, RecordKind::kWhole, s.next_sequence(), 0);
  a.header.payload_bytes = op.payload.size;
  const size_t grains = base::grain_count(op.payload.size);
  a.header.checksum = base::chunk_checksum(op.payload.grain_sums, grains, op.payload.size,
                                           base::chunk_seed(op.key.namespace_id, op.key.key, 0));
  a.header.expiry_s = op.expiry_s;
  a.header.priority = op.priority;
  a.key = op.key.key;
  a.payload = op.payload.data;
  a.sums = {op.payload.grain_sums, grains};
  a.deadline_ns = op.deadline_ns;
  a.on_done = put_appended;
  a.context = &st;
  s.put_append(st);
}

void StoreImpl::put_append(OpState& st) {
  const auto reserved = reserved_at_.find(st.append.payload);
  if (st.append.payload != nullptr && reserved != reserved_at_.end()) {
    const RoomOut room = reservations_.at(reserved->second);
    st.append.reserved_block = room.block;
    st.append.reserved_epoch = room.epoch;
    reservations_.erase(reserved->second);
    reserved_at_.erase(reserved);
    st.log = log_of(room.drive);
  } else {
    st.append.reserved_block = 0;  // the log of its room is out
    st.log = choose_log(st.digest, st.append.header.chunk_number, st.attempts);
    if (st.append.header.kind == RecordKind::kWhole) st.log = less_busy(st.log);
  }
  if (st.log == nullptr) {  // no drive is left
    st.attempts = static_cast<uint32_t>(logs_.size());
    st.append.status = Status::kIo;
    return st.append.on_done(st.append);
  }
  counters_.user_bytes_written += st.attempts == 0 ? st.append.header.payload_bytes : 0;
  st.log->append(st.append);
}

void StoreImpl::put_appended(Append& a) {
  OpState& st = *static_cast<OpState*>(a.context);
  StoreImpl& s = *st.store;
  const Status status = s.landed(a);
  if (status == Status::kIo && st.attempts++ < s.logs_.size()) return s.put_append(st);
  if (status != Status::kOk) return s.finish(st, status);
  PutOp& op = static_cast<PutOp&>(*st.op);
  op.generation = a.header.sequence;
  const Entry* old = s.live(st.digest);
  const bool elsewhere = s.outlives(old, a.place);
  const Place old_place = elsewhere ? old->place() : Place{};
  const RecordRef ref{a.place, a.header.sequence, a.header.checksum, a.header.payload_bytes, !a.ranges.empty()};
  s.install_block(st, ref, false, op.key.namespace_id, a.header.expiry_s, ref.length, {});
  if (elsewhere) return s.tombstone_then(st, old_place, a.header.sequence, put_done);
  put_done(st);
}

/// The old record would still be in its log when what replaces or kills it, at `fresh`, has left: it lies in another
/// log, or behind (reclaim moved it meanwhile). It needs a tombstone of its own.
bool StoreImpl::outlives(const Entry* old, Place fresh) const {
  if (old == nullptr) return false;
  const Place place = old->place();
  if (place.drive != fresh.drive) return true;
  const Log& log = *log_of(fresh.drive);
  const uint64_t old_epoch = log.epoch_at(place.unit * kPackBytes);
  const uint64_t new_epoch = log.epoch_at(fresh.unit * kPackBytes);
  return old_epoch > new_epoch || (old_epoch == new_epoch && place.unit > fresh.unit);
}

/// The drive that it landed on may have gone since, while the old record died elsewhere or while it was held.
void StoreImpl::put_done(OpState& st) {
  StoreImpl& s = *st.store;
  const bool gone = st.status == Status::kOk && s.landed(st.append) == Status::kIo;
  if (gone && st.attempts++ < s.logs_.size()) return s.put_append(st);
  s.finish(st, gone ? Status::kIo : st.status);
}

/// Rule 4: the old record dies where it lies, before the change is acknowledged.
void StoreImpl::tombstone_then(OpState& st, Place old_place, uint64_t sequence, void (*step)(OpState&)) {
  Log* log = usable_log(old_place.drive);
  st.step = step;
  if (log == nullptr || !rules().dies_where_it_lies) return step(st);
  Append& t = st.tombstone;
  t = {};
  t.header.digest[0] = st.digest.lo;
  t.header.digest[1] = st.digest.hi;
  t.header.kind = RecordKind::kTombstone;
  t.header.sequence = sequence;
  t.on_done = tombstone_done;
  t.context = &st;
  log->append(t);
}

void StoreImpl::tombstone_done(Append& a) {
  OpState& st = *static_cast<OpState*>(a.context);
  // A log that went out meanwhile needs no tombstone: the membership's new epoch is what kills its records (rule 7).
  if (a.status != Status::kOk && a.status != Status::kIo) st.status = a.status;
  st.step(st);
}

}  // namespace memkv::engine
