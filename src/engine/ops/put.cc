#include "engine/ops/put.h"

namespace memkv::engine {

void Put::start(Parts& parts, IndexRoom& room, PutOp& op) {
  ++parts.counters.puts;
  if (op.key.key.empty() || op.key.key.size() > kKeyBytesMax || op.payload.size > base::kChunkBytes)
    return parts.completions.add(op, Status::kInvalid);
  if (!room.has_room(op.key.namespace_id, kNewEntriesMax)) return parts.completions.add(op, Status::kBusy);
  Put* put = parts.pool.make<Put>(op, parts, op);
  if (put == nullptr) return;
  parts.tick.start();
  put->lock(op.key.digest);
}

void Put::on_locked() {
  MEMKV_ASSERT(step_ == Step::kWaiting);
  if (const Status no = refusal(); no != Status::kOk) return finish(no);
  const Entry* old = parts_.blocks.find_usable(put_.key.digest);
  if (put_.if_absent && old != nullptr) {
    put_.generation = old->sequence();
    return finish(Status::kExists);
  }
  if (old != nullptr && parts_.drives.lags(old->place().drive))
    return finish(Status::kBusy);  // its tombstone would wait
  record_.describe(put_.key, format::RecordKind::kWhole, 0, put_.payload, put_.deadline_ns);
  format::RecordHeader& header = record_.append().header;
  header.expiry_s = put_.expiry_s;
  header.priority = put_.priority;
  record_.call_when_done(on_appended, this);
  step_ = Step::kAppending;
  record_.submit();
}

void Put::on_appended(Append& append) { static_cast<Put*>(append.context)->appended(); }

void Put::appended() {
  MEMKV_ASSERT(step_ == Step::kAppending && holds_lock());
  const Status status = record_.status();
  if (record_.try_elsewhere(status)) return;
  if (status != Status::kOk) {
    step_ = Step::kDone;
    return finish(status);
  }
  step_ = Step::kBurying;
  const Append& a = record_.append();
  put_.generation = a.header.sequence;
  const Digest digest = put_.key.digest;
  const Blocks::Leftover old = parts_.blocks.leftover_of(digest, a.place, put_.key.namespace_id);
  const RecordRef ref = record_.ref();
  const bool installed =
      parts_.blocks.install_block(digest, ref, false, put_.key.namespace_id, put_.expiry_s, ref.length, {});
  if (!installed) status_ = Status::kNoSpace;
  burial_.bury(digest, old, a, installed, Then::of<&Put::buried>(*this));
}

void Put::buried() {
  MEMKV_ASSERT(step_ == Step::kBurying);
  if (burial_.status() != Status::kOk) status_ = burial_.status();
  step_ = Step::kDone;
  end();
}

/// The drive that the record landed on may have gone since: while the old record died elsewhere, or while the
/// acknowledgement was held.
void Put::end() {
  MEMKV_ASSERT(step_ == Step::kDone);
  const bool gone = status_ == Status::kOk && record_.status() == Status::kIo;
  if (!gone) return finish(status_);
  step_ = Step::kAppending;
  if (record_.try_elsewhere(Status::kIo)) return;
  step_ = Step::kDone;
  finish(Status::kIo);
}

void Put::on_drives_left() { step_ == Step::kDone ? end() : finish(status_); }

}  // namespace memkv::engine
