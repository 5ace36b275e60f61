#include "engine/ops/burial.h"

#include "engine/test_rules.h"

namespace memkv::engine {

void Burial::bury(Digest digest, const Blocks::Leftover& old, const Append& fresh, bool installed, Then then) {
  status_ = Status::kOk;
  const uint64_t sequence = fresh.header.sequence;
  if (!installed && rules().dropped_for_good)
    return append_everywhere_but(parts_.drives.count(), digest, sequence + 1, then);
  if (old.elsewhere) return append_tombstone_for(digest, old.place, sequence, then);
  if (old.gone) return append_everywhere_but(fresh.place.drive, digest, sequence, then);
  then();
}

void Burial::append_tombstone_for(Digest digest, Place old, uint64_t sequence, Then then) {
  MEMKV_ASSERT(sequence > 0);
  tombstone_.on_done = nullptr;  // none is on its way
  Log* log = parts_.drives.usable_log(old.drive);
  if (log == nullptr || !rules().dies_where_it_lies) return then();
  then_ = then;
  drive_ = old.drive;
  tombstone_ = {};
  tombstone_.header.digest[0] = digest.lo;
  tombstone_.header.digest[1] = digest.hi;
  tombstone_.header.kind = format::RecordKind::kTombstone;
  tombstone_.header.sequence = sequence;
  tombstone_.on_done = on_tombstone;
  tombstone_.context = this;
  log->append(tombstone_);
}

void Burial::on_tombstone(Append& tombstone) {
  Burial& b = *static_cast<Burial*>(tombstone.context);
  // A log that went out meanwhile needs no tombstone: the membership's new epoch is what kills its records (rule 7).
  const bool left = tombstone.status == Status::kIo && b.parts_.drives.usable_log(b.drive_) == nullptr;
  if (tombstone.status != Status::kOk && !left) b.status_ = tombstone.status;
  b.then_();
}

void Burial::append_everywhere_but(size_t except, Digest digest, uint64_t sequence, Then then) {
  digest_ = digest;
  sequence_ = sequence;
  except_ = except;
  next_drive_ = 0;
  after_all_ = then;
  append_next();
}

void Burial::append_next() {
  const size_t count = parts_.drives.count();
  while (next_drive_ < count &&
         (next_drive_ == except_ || parts_.drives.usable_log(static_cast<uint8_t>(next_drive_)) == nullptr)) {
    ++next_drive_;
  }
  if (next_drive_ == count) return after_all_();
  const auto drive = static_cast<uint8_t>(next_drive_++);
  append_tombstone_for(digest_, {drive, 0}, sequence_, Then::of<&Burial::append_next>(*this));
}

const Append* Burial::landed() const {
  return tombstone_.on_done != nullptr && tombstone_.status == Status::kOk ? &tombstone_ : nullptr;
}

}  // namespace memkv::engine
