#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/chunk_seed.h"
#include "base/log.h"
#include "engine/store_impl.h"

namespace memkv::engine {
namespace {

/// Whole grains that cover [from, to) of a record of `length` bytes, as multiples of 4 KiB.
struct Span {
  uint64_t from, to;
};
Span covering(uint64_t from, uint64_t to, uint64_t length) {
  const uint64_t end = std::min(base::align_up(to, base::kGrainBytes), base::align_up(length, base::kSectorBytes));
  return {base::align_down(from, base::kGrainBytes), end};
}

}  // namespace

/// What a range of a block means for the records behind it.
struct Target {
  Status status = Status::kMiss;
  Generation generation = 0;
  uint64_t block_bytes = 0;
  RecordRef record;
  uint32_t chunk = 0;
  uint64_t from = 0, to = 0;  // in the record
  bool empty = false;
};

Target StoreImpl::find_target(const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation) {
  Target t;
  Entry* e = live(key.digest);
  if (e == nullptr) return t;
  t.generation = e->sequence();
  t.block_bytes = block_bytes_of(*e);
  if (if_generation != 0 && if_generation != t.generation) {
    t.status = Status::kChanged;
    return t;
  }
  e->set(kHit);
  t.status = Status::kOk;
  t.empty = length == 0 || offset >= t.block_bytes;
  const uint64_t end = std::min<uint64_t>(t.block_bytes, offset + length);
  if (!e->has(kHead)) {
    t.record = ref_of(*e);
    t.from = std::min(offset, t.block_bytes);
    t.to = std::max(t.from, end);
    if (is_full(t.record.place.drive)) t.status = Status::kMiss;
    return t;
  }
  if (t.empty) return t;
  t.chunk = static_cast<uint32_t>(offset / base::kChunkBytes);
  t.from = offset % base::kChunkBytes;
  t.to = t.from + (end - offset);
  Entry* c = live_chunk(key.digest, t.chunk);
  if (c == nullptr || c->length() < t.to) {
    t.status = Status::kMiss;  // a hole
    return t;
  }
  c->set(kHit);
  t.record = ref_of(*c);
  if (is_full(t.record.place.drive)) t.status = Status::kMiss;
  return t;
}

Lookup StoreImpl::lookup(const BlockKey& key, uint64_t offset, uint32_t length, Generation if_generation) {
  const Target t = find_target(key, offset, length, if_generation);
  Lookup out;
  out.status = t.status;
  out.generation = t.generation;
  out.block_bytes = t.block_bytes;
  if (t.status != Status::kOk) return out;
  out.bytes = t.empty ? 0 : static_cast<uint32_t>(t.to - t.from);
  if (out.bytes == 0 || options_.memory_mode) return out;
  if (t.record.lone()) {
    const Span s = covering(t.from, t.to, t.record.length);
    out.buffer_bytes = static_cast<uint32_t>(s.to - s.from);
  } else {
    const uint64_t at = t.record.place.pack * format::kPackBytes % base::kSectorBytes;
    out.buffer_bytes = static_cast<uint32_t>(base::align_up(at + t.record.length, base::kSectorBytes));
  }
  return out;
}

/// Reads grains of a record into `buffer` (4 KiB of room in front of it for the header). Small records are read whole;
/// their bytes then start at buffer + place % 4096.
bool StoreImpl::start_read(OpState& st, const RecordRef& ref, uint64_t from, uint64_t to, std::byte* buffer,
                           bool with_header, void (*step)(OpState&)) {
  Log* log = usable_log(ref.place.drive);
  const uint64_t offset = ref.place.pack * format::kPackBytes;
  st.epoch = log == nullptr ? 0 : log->epoch_at(offset);
  if (st.epoch == 0) return false;
  st.log = log;
  st.step = step;
  st.io_left = 0;
  st.io_result = 0;
  const auto submit = [&](int i, uint64_t at, std::byte* memory, uint64_t bytes) {
    st.piece[i] = {memory, bytes};
    st.io[i].on_done = on_io;
    st.io[i].context = &st;
    if (!log->device().read(st.io[i], at, {&st.piece[i], 1}).ok()) return false;
    ++st.io_left;
    return true;
  };
  bool ok = true;
  if (!ref.lone()) {
    const uint64_t start = base::align_down(offset, base::kSectorBytes);
    ok = submit(0, start, buffer, base::align_up(offset + ref.length, base::kSectorBytes) - start);
  } else if (with_header && from == 0) {
    ok = submit(0, offset - base::kSectorBytes, buffer - base::kSectorBytes, base::kSectorBytes + to);
  } else {
    ok = submit(0, offset + from, buffer, to - from);
    if (ok && with_header && !submit(1, offset - base::kSectorBytes, buffer - base::kSectorBytes, base::kSectorBytes))
      st.io_result = -EBUSY;
  }
  if (!ok) return false;
  log->pin(st.epoch);
  return true;
}

void StoreImpl::on_io(io::IoOp& op, int32_t result) {
  OpState& st = *static_cast<OpState*>(op.context);
  if (result < 0) st.io_result = result;
  if (--st.io_left == 0) st.step(st);
}

void StoreImpl::read(ReadOp& op) { start_read_op(op, /*over_holes=*/false); }

/// `over_holes`: to verify a record, not to deliver it, the bytes of its holes are fine too.
void StoreImpl::start_read_op(ReadOp& op, bool over_holes) {
  ++counters_.gets;
  op.private_state[5] = 0;  // 1: the block was dropped
  op.private_state[6] = over_holes;
  op.bytes = 0;
  op.data = nullptr;
  op.sum_count = 0;
  op.whole_chunk = false;
  op.private_state[0] = 0;
  const Target t = find_target(op.key, op.offset, op.length, op.if_generation);
  op.generation = t.generation;
  op.block_bytes = t.block_bytes;
  (t.status == Status::kOk ? counters_.hits : counters_.misses) += 1;
  if (t.status != Status::kOk || t.to == t.from) return complete(op, t.status);
  OpState* st = take_state(op);
  if (st == nullptr) return;
  st->record = t.record;
  st->digest = op.key.digest;
  op.private_state[1] = t.chunk;
  op.private_state[2] = t.from;
  op.private_state[3] = t.to;
  const uint64_t offset = t.record.place.pack * format::kPackBytes;
  if (options_.memory_mode) {
    Log* log = log_of(t.record.place.drive);
    st->log = log;
    st->epoch = log->epoch_at(offset);
    if (st->epoch == 0) return read_nowhere(*st);
    log->pin(st->epoch);
    st->io_result = 0;
    return read_done(*st);
  }
  start_tick();
  const Span s = covering(t.from, t.to, t.record.length);
  const uint64_t at = offset % base::kSectorBytes;
  const uint64_t need = t.record.lone() ? s.to - s.from : base::align_up(at + t.record.length, base::kSectorBytes);
  if (op.buffer == nullptr || op.buffer_bytes < need) return finish(*st, Status::kBusy);
  const bool whole = t.from == 0 && t.to == t.record.length && !t.record.has_holes;
  if (!start_read(*st, t.record, s.from, s.to, op.buffer, t.record.lone() && (!whole || op.verify), read_done))
    st->epoch == 0 ? read_nowhere(*st) : finish(*st, Status::kBusy);
}

/// The record's segment is gone, and did not take the entry with it: that would be busy, or another's bytes, for ever.
void StoreImpl::read_nowhere(OpState& st) {
  evict_block(st.digest, *log_of(st.record.place.drive));
  finish(st, Status::kMiss);
}

void StoreImpl::read_done(OpState& st) {
  StoreImpl& s = *st.store;
  ReadOp& op = static_cast<ReadOp&>(*st.op);
  const uint64_t offset = st.record.place.pack * format::kPackBytes;
  const std::byte* first = nullptr;  // the grain that holds op.from, or the record's start
  const std::byte* header = nullptr;
  uint64_t first_at = 0;
  if (s.options_.memory_mode) {
    first = st.log->device().view(offset, st.record.length);
    header = first - base::kSectorBytes;
  } else if (st.record.lone()) {
    first = op.buffer;
    first_at = base::align_down(op.private_state[2], base::kGrainBytes);
    header = op.buffer - base::kSectorBytes;
  } else {
    first = op.buffer + offset % base::kSectorBytes;
  }
  const bool busy = st.io_result == -EBUSY;  // not the drive's word: its queue was full
  const bool failed = st.io_result < 0 && !busy;
  Status status = busy ? Status::kBusy : failed ? Status::kIo : s.deliver(st, op, first, first_at, header);
  const Entry* e = s.index_.find(st.digest);
  const bool replaced = e == nullptr || e->sequence() != op.generation;
  if ((failed || status == Status::kCorrupt) && replaced) {
    status = Status::kBusy;  // meanwhile there is a newer one, or none: that says nothing of it
  } else if (failed || status == Status::kCorrupt) {
    MEMKV_LOG_EVERY(1, kWarn, "drive {}: {}; the block is dropped", st.record.place.drive,
                    failed ? "a read failed" : "a record failed its checksum");
    s.drop_durably(st.digest, op.key.namespace_id, op.generation, s.counters_.dropped_corrupt);
    op.private_state[5] = 1;
    status = Status::kMiss;
  }
  if (status != Status::kOk) {
    op.data = nullptr;
    op.bytes = 0;
  }
  if (status == Status::kOk && s.options_.memory_mode) {
    op.private_state[0] = st.epoch;  // its bytes are used where they lie: the pin stays until release()
    op.private_state[4] = st.record.place.drive;
  } else {
    st.log->unpin(st.epoch);
  }
  s.finish(st, status);
}

/// The record header in the block before a lone record's payload. False: it is not that record's.
bool StoreImpl::header_record(const OpState& st, const std::byte* header, uint32_t chunk, format::RecordHeader& h,
                              std::vector<uint64_t>* sums, std::vector<format::PresentRange>* ranges) {
  const base::Bytes bytes(header, base::kSectorBytes);
  auto extent = format::open_extent(bytes, st.log->seed());
  if (!extent) return false;
  format::RecordReader reader(*extent, bytes);
  format::RecordView view;
  auto next = reader.next(view);
  if (!next || !*next) return false;
  const bool own = view.header.digest[0] == st.digest.lo && view.header.digest[1] == st.digest.hi &&
                   view.header.chunk_number == chunk;
  if (!own) return false;
  h = view.header;
  if (sums != nullptr) {
    sums->clear();
    for (size_t i = 0; i < view.header.grain_count; ++i) sums->push_back(view.grain_sum(i));
  }
  if (ranges != nullptr) {
    ranges->clear();
    for (size_t i = 0; i < view.header.range_count; ++i) ranges->push_back(view.range(i));
  }
  return true;
}

/// Fills in data, bytes and sums; kCorrupt: the bytes are not what was written.
Status StoreImpl::deliver(OpState& st, ReadOp& op, const std::byte* grains, uint64_t first_at,
                          const std::byte* header) {
  const uint64_t from = op.private_state[2], to = op.private_state[3];
  const auto chunk = static_cast<uint32_t>(op.private_state[1]);
  const RecordRef& r = st.record;
  const uint64_t seed = base::chunk_seed(op.key.namespace_id, op.key.key, chunk);
  op.data = grains + (from - first_at);
  op.bytes = static_cast<uint32_t>(to - from);
  const bool whole = from == 0 && to == r.length && !r.has_holes;
  if (whole && !op.verify) {
    op.whole_chunk = true;
    op.sum_count = 1;
    op.sums[0] = r.checksum;
    return Status::kOk;
  }
  uint64_t stored[base::kGrainsPerChunk] = {};
  const size_t count = base::grain_count(r.length);
  if (r.lone() || (options_.memory_mode && r.length > kLoneOver)) {
    format::RecordHeader h;
    std::vector<uint64_t> sums;  // a ranged read: off the fastest path
    std::vector<format::PresentRange> ranges;
    if (!header_record(st, header, chunk, h, &sums, &ranges) || sums.size() != count) return Status::kCorrupt;
    std::copy(sums.begin(), sums.end(), stored);
    if (base::chunk_checksum(stored, count, r.length, seed) != r.checksum) return Status::kCorrupt;
    if (r.has_holes) {
      const bool present = std::any_of(ranges.begin(), ranges.end(),
                                       [&](const format::PresentRange& p) { return p.begin <= from && to <= p.end; });
      if (!present && op.private_state[6] == 0) return Status::kMiss;
    }
  } else {
    stored[0] = base::xxh3({grains, r.length}, seed);
    if (base::chunk_checksum(stored, count, r.length, seed) != r.checksum) return Status::kCorrupt;
  }
  // One sum a piece: the stored one for whole grains, made here over the cut edges once their grain was verified.
  for (uint64_t g = from / base::kGrainBytes; g * base::kGrainBytes < to; ++g) {
    const uint64_t begin = g * base::kGrainBytes;
    const uint64_t end = std::min<uint64_t>(begin + base::kGrainBytes, r.length);
    const uint64_t piece_from = std::max(begin, from), piece_to = std::min(end, to);
    const bool cut = piece_from != begin || piece_to != end;
    if ((cut || op.verify) && base::xxh3({grains + (begin - first_at), end - begin}, seed + g) != stored[g])
      return Status::kCorrupt;
    op.sums[op.sum_count++] =
        cut ? base::xxh3({grains + (piece_from - first_at), piece_to - piece_from}, seed + g) : stored[g];
  }
  return Status::kOk;
}

void StoreImpl::release(ReadOp& op) {
  if (op.private_state[0] == 0) return;
  log_of(static_cast<uint8_t>(op.private_state[4]))->unpin(op.private_state[0]);
  op.private_state[0] = 0;
}

// --- suspect

namespace {
constexpr uint32_t kSuspectsMax = 4;

/// A read that the store makes for itself to look a record over.
struct OwnRead : ReadOp {
  std::vector<std::byte> memory;
  StoreOp* waiting = nullptr;
  StoreImpl* store = nullptr;
};
}  // namespace

void StoreImpl::suspect(RemoveOp& op, uint64_t offset) {
  const auto at = offset - offset % base::kChunkBytes;
  const Lookup found = lookup(op.key, at, base::kChunkBytes, 0);
  if (found.status != Status::kOk) return complete(op, Status::kMiss);
  if (suspects_ == kSuspectsMax) return complete(op, Status::kBusy);  // each takes a chunk's memory
  ++suspects_;
  auto* own = new OwnRead;  // rare: somebody saw damage
  own->memory.resize(base::kChunkBytes + 3 * base::kSectorBytes);
  void* start = own->memory.data();
  own->buffer = reinterpret_cast<std::byte*>(base::align_up(reinterpret_cast<uintptr_t>(start), base::kSectorBytes) +
                                             base::kSectorBytes);
  own->buffer_bytes = base::kChunkBytes + base::kSectorBytes;
  own->key = op.key;
  own->offset = at;
  own->length = base::kChunkBytes;
  own->verify = true;
  own->waiting = &op;
  own->store = this;
  own->on_done = [](StoreOp& done) {
    auto* r = static_cast<OwnRead*>(&done);
    const bool dropped = r->private_state[5] != 0;
    const Status status = dropped ? Status::kCorrupt : done.status;
    r->store->release(*r);
    --r->store->suspects_;
    r->store->complete(*r->waiting, status);
    delete r;
  };
  start_read_op(*own, /*over_holes=*/true);
}

}  // namespace memkv::engine
