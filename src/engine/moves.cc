#include "engine/moves.h"

#include <algorithm>

namespace memkv::engine {

void Moves::start(Log& log, Place from, const format::RecordView& record, std::byte* payload, Then then) {
  auto owned = std::make_unique<Move>();  // reclaim is off the ops' path
  Move* m = owned.get();
  moves_[m] = std::move(owned);
  m->moves = this;
  m->log = &log;
  m->from = from;
  m->then = then;
  m->header = record.header;
  m->header.flags |= format::kRecordMoved;
  m->key_bytes.assign(record.key);
  for (size_t i = 0; i < record.header.grain_count; ++i) m->sum_list.push_back(record.grain_sum(i));
  for (size_t i = 0; i < record.header.range_count; ++i) m->range_list.push_back(record.range(i));
  m->key = m->key_bytes;
  m->sums = m->sum_list;
  m->ranges = m->range_list;
  m->payload = payload;
  m->move = true;
  m->on_done = on_moved;
  m->context = m;
  log.enqueue(*m);
}

void Moves::on_moved(Append& append) {
  Move& move = *static_cast<Move*>(append.context);
  move.moves->moved(move);
}

/// Whoever points at the old place points at the copy now: the index, or an upload. A copy that nobody points at gets a
/// tombstone.
void Moves::moved(Move& move) {
  const Then then = move.then;
  const format::RecordHeader& h = move.header;
  const Digest digest{h.digest[0], h.digest[1]};
  const bool ok = move.status == Status::kOk;
  const bool chunk = h.kind == format::RecordKind::kChunk;
  Entry* e = parts_.blocks.find_record(h, move.from);
  if (e != nullptr && ok) {
    e->set_place(move.place);
    e->set(kHit, false);
    parts_.counters.bytes_moved += h.payload_bytes;
  } else if (e != nullptr) {
    parts_.blocks.evict(digest, *move.log);
  } else if (chunk) {
    parts_.uploads.for_each_uncommitted_chunk(h, [&](RecordRef& ref, bool& lost) {
      if (ref.place != move.from) return;
      if (ok)
        ref.place = move.place;
      else
        lost = true;
    });
  }
  const bool dead = !chunk && ok && e == nullptr;
  dead ? append_tombstone_for(move) : static_cast<void>(moves_.erase(&move));
  then();
}

/// The record was replaced or removed while it was moved. Its copy lies behind what killed it, and would outlive that
/// in the log: it gets a tombstone of its own behind it.
void Moves::append_tombstone_for(Move& copy) {
  MEMKV_ASSERT(copy.header.kind != format::RecordKind::kChunk, "chunks live and die with their head");
  const format::RecordHeader record = copy.header;
  copy.header = {};
  std::copy_n(record.digest, 2, copy.header.digest);
  copy.header.namespace_id = record.namespace_id;
  copy.header.kind = format::RecordKind::kTombstone;
  copy.header.sequence = record.sequence + 1;
  copy.key = {};
  copy.sums = {};
  copy.ranges = {};
  copy.payload = nullptr;
  copy.lone = false;
  copy.on_done = [](Append& done) {
    auto& buried = *static_cast<Move*>(done.context);
    buried.moves->moves_.erase(&buried);
  };
  copy.log->append(copy);
}

}  // namespace memkv::engine
