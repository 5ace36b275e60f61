/// Put: one record, then a tombstone where the one before it lies.

#include <algorithm>

#include "base/chunk_seed.h"
#include "engine/store_impl.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

void set_record(format::RecordHeader& h, const BlockKey& key, format::RecordKind kind, uint64_t sequence,
                uint32_t chunk) {
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
  set_record(a.header, op.key, format::RecordKind::kWhole, s.next_sequence(), 0);
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
    st.append.reserved_sector = room.sector;
    st.append.reserved_epoch = room.epoch;
    reservations_.erase(reserved->second);
    reserved_at_.erase(reserved);
    st.log = log_of(room.drive);
  } else {
    st.append.reserved_sector = 0;  // the log of its room is out
    st.log = choose_log(st.digest, st.append.header.chunk_number, st.attempts);
    if (st.append.header.kind == format::RecordKind::kWhole) st.log = less_busy(st.log);
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
  const Leftover old = s.leftover_of(st.digest, a);
  const RecordRef ref{a.place, a.header.sequence, a.header.checksum, a.header.payload_bytes, !a.ranges.empty()};
  const bool installed = s.install_block(st, ref, false, op.key.namespace_id, a.header.expiry_s, ref.length, {});
  if (!installed) st.status = Status::kNoSpace;
  s.bury_then(st, old, a, installed, put_done);
}

StoreImpl::Leftover StoreImpl::leftover_of(Digest digest, const Append& a) {
  const Entry* old = live(digest);
  Leftover left;
  left.elsewhere = outlives(old, a.place);
  if (left.elsewhere) left.place = old->place();
  left.gone = old == nullptr && may_return(digest, a.header.namespace_id);
  return left;
}

/// Rule 4, after the append `a`: what it leaves behind dies, and so does the record itself where it did not get into
/// the index.
void StoreImpl::bury_then(OpState& st, const Leftover& old, const Append& a, bool installed, void (*step)(OpState&)) {
  if (!installed && rules().dropped_for_good) return sweep_then(st, logs_.size(), a.header.sequence + 1, step);
  if (old.elsewhere) return tombstone_then(st, old.place, a.header.sequence, step);
  if (old.gone) return sweep_then(st, a.place.drive, a.header.sequence, step);
  step(st);
}

/// A record of the block that is in no index may be found after a restart.
bool StoreImpl::may_return(Digest digest, uint64_t ns) const {
  if (options_.memory_mode) return false;
  return flush_is_open(ns) ||
         std::any_of(logs_.begin(), logs_.end(), [&](const auto& log) { return log && log->may_return(digest); });
}

/// A tombstone in every log but one, one after another, then `step`.
void StoreImpl::sweep_then(OpState& st, size_t except, uint64_t sequence, void (*step)(OpState&)) {
  st.sweep = 0;
  st.sweep_except = except;
  st.sweep_sequence = sequence;
  st.swept = step;
  sweep_next(st);
}

void StoreImpl::sweep_next(OpState& st) {
  StoreImpl& s = *st.store;
  while (st.sweep < s.logs_.size() &&
         (st.sweep == st.sweep_except || s.usable_log(static_cast<uint8_t>(st.sweep)) == nullptr)) {
    ++st.sweep;
  }
  if (st.sweep == s.logs_.size()) return st.swept(st);
  s.tombstone_then(st, {static_cast<uint8_t>(st.sweep++), 0}, st.sweep_sequence, sweep_next);
}

/// The old record would still be in its log when what replaces or kills it, at `fresh`, has left: it lies in another
/// log, or behind (reclaim moved it meanwhile). It needs a tombstone of its own.
bool StoreImpl::outlives(const Entry* old, Place fresh) const {
  if (old == nullptr) return false;
  const Place place = old->place();
  if (place.drive != fresh.drive) return true;
  const Log& log = *log_of(fresh.drive);
  const uint64_t old_epoch = log.epoch_at(place.pack * format::kPackBytes);
  const uint64_t new_epoch = log.epoch_at(fresh.pack * format::kPackBytes);
  return old_epoch > new_epoch || (old_epoch == new_epoch && place.pack > fresh.pack);
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
  t.header.kind = format::RecordKind::kTombstone;
  t.header.sequence = sequence;
  t.on_done = tombstone_done;
  t.context = &st;
  st.tombstone_drive = old_place.drive;
  log->append(t);
}

void StoreImpl::tombstone_done(Append& a) {
  OpState& st = *static_cast<OpState*>(a.context);
  // A log that went out meanwhile needs no tombstone: the membership's new epoch is what kills its records (rule 7).
  const bool left = a.status == Status::kIo && st.store->usable_log(st.tombstone_drive) == nullptr;
  if (a.status != Status::kOk && !left) st.status = a.status;
  st.step(st);
}

}  // namespace memkv::engine
