#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "base/chunk_seed.h"
#include "base/log.h"
#include "base/random.h"
#include "engine/layout.h"
#include "engine/recovery.h"
#include "engine/store_impl.h"
#include "engine/test_rules.h"

namespace memkv::engine {
namespace {

constexpr uint64_t kTickNs = 20'000'000;
constexpr size_t kLockBuckets = 4096;

constexpr size_t kExtentBuffersMin = 16, kExtentBuffersMax = 32;  // small records under way; 8 a drive

uint64_t usable_of(const StoreOptions& o) {
  uint64_t bytes = 0;
  for (const DriveSlice& s : o.slices) {
    if (s.segment_bytes != 0)
      bytes += segment_count(s.size_bytes, s.segment_bytes) * (s.segment_bytes - 2 * kBlockBytes);
  }
  return bytes;
}

}  // namespace

std::unique_ptr<Store> Store::make(io::Reactor& reactor, StoreOptions options) {
  return std::make_unique<StoreImpl>(reactor, std::move(options));
}

StoreImpl::StoreImpl(io::Reactor& reactor, StoreOptions options)
    : reactor_(reactor),
      options_(std::move(options)),
      seed_(store_seed(options_.store_id)),
      usable_(usable_of(options_)),
      index_(std::max<uint64_t>(options_.index_entries_max, 64)),
      states_(kOpStates),
      lock_buckets_(kLockBuckets) {
  for (OpState& st : states_) {
    st.store = this;
    st.next = free_states_;
    free_states_ = &st;
  }
  take_buffers();
  logs_.resize(options_.slices.size());
  for (size_t d = 0; d < logs_.size(); ++d) {
    const DriveSlice& slice = options_.slices[d];
    if (slice.device == nullptr) continue;
    Log::Config c;
    c.slice = slice;
    c.slice.drive_index = static_cast<uint8_t>(d);
    c.shard = options_.shard;
    std::memcpy(c.store_id, options_.store_id, sizeof c.store_id);
    c.writes_max = std::max(1u, options_.writes_in_flight_max);
    c.memory_mode = options_.memory_mode;
    logs_[d] = std::make_unique<Log>(reactor_, c, *this, counters_);
  }
  reclaim_wanted_.resize(logs_.size());
  tick_.on_done = on_tick;
  tick_.context = this;
}

StoreImpl::~StoreImpl() { reactor_.stop(tick_); }

/// On large pages: a drive takes them in fewer, larger pieces.
void StoreImpl::take_buffers() {
  const size_t extents = std::clamp<size_t>(8 * options_.slices.size(), kExtentBuffersMin, kExtentBuffersMax);
  constexpr size_t kBig = base::kChunkBytes + 2 * kBlockBytes;
  auto memory = io::HugeMemory::make(extents * kExtentBufferBytes + 3 * kBig, /*prefault=*/true);
  if (!memory) throw std::bad_alloc();
  buffer_memory_ = std::move(*memory);
  std::byte* at = buffer_memory_.data();
  const auto take = [&](size_t bytes) { return std::exchange(at, at + bytes); };
  for (size_t i = 0; i < extents; ++i) extent_buffers_.push_back(take(kExtentBufferBytes));
  for (int i = 0; i < 2; ++i) merge_buffers_.push_back({take(kBig)});
  move_buffer_ = {take(kBig)};
}

// --- pools, completion
// ------------------------------------------------------------------------------------------------

OpState* StoreImpl::take_state(StoreOp& op) {
  OpState* st = free_states_;
  if (st == nullptr || closing_) {
    complete(op, closing_ ? Status::kCanceled : Status::kBusy);
    return nullptr;
  }
  free_states_ = st->next;
  ++states_used_;
  MEMKV_ASSERT(st->free);
  st->free = false;
  st->op = &op;
  st->append = {};
  st->tombstone = {};
  st->holds_lock = false;
  st->attempts = 0;
  st->log = nullptr;
  st->left = 0;
  st->epoch = 0;
  st->io_result = 0;
  st->record = {};
  st->status = Status::kOk;
  st->change = false;
  return st;
}

void StoreImpl::free_state(OpState& st) {
  MEMKV_ASSERT(!st.free && !st.io[0].pending() && !st.io[1].pending());
  st.free = true;
  st.op = nullptr;
  st.next = free_states_;
  free_states_ = &st;
  --states_used_;
}

void StoreImpl::complete(StoreOp& op, Status status) {
  op.status = status;
  op.next = nullptr;
  (done_head_ == nullptr ? done_head_ : done_tail_->next) = &op;
  done_tail_ = &op;
  if (posted_) return;
  posted_ = true;
  post_io_.on_done = on_post;
  post_io_.context = this;
  MEMKV_ASSERT(reactor_.post(post_io_, 0).ok());
}

void StoreImpl::on_post(io::IoOp& op, int32_t) {
  StoreImpl& s = *static_cast<StoreImpl*>(op.context);
  s.posted_ = false;
  StoreOp* next = s.done_head_;
  s.done_head_ = s.done_tail_ = nullptr;
  while (next != nullptr) {
    StoreOp* done = next;
    next = done->next;
    done->on_done(*done);
  }
}

/// Rule 7: what is acknowledged now must hold although the drive that failed may come back. So it waits until the
/// others know durably that the drive is out.
void StoreImpl::finish(OpState& st, Status status) {
  if (leaving_ != 0 && st.change) {
    st.change = false;
    st.status = status;
    held_.push_back(&st);
    return;
  }
  if (st.holds_lock) unlock(st);
  StoreOp& op = *st.op;
  free_state(st);
  complete(op, status);
}

void StoreImpl::release_held() {
  for (OpState* st : std::exchange(held_, {})) finish(*st, st->status);
}

/// One change of a key at a time: the others wait here, in order.
void StoreImpl::lock(OpState& st, Digest digest, void (*locked)(OpState&)) {
  st.digest = digest;
  st.change = true;
  st.locked = locked;
  st.lock_next = nullptr;
  OpState*& bucket = lock_buckets_[digest.lo % kLockBuckets];
  for (OpState* other = bucket; other != nullptr; other = other->bucket_next) {
    if (other->digest != digest) continue;
    while (other->lock_next != nullptr) other = other->lock_next;
    other->lock_next = &st;
    return;
  }
  st.bucket_next = bucket;
  bucket = &st;
  st.holds_lock = true;
  locked(st);
}

void StoreImpl::unlock(OpState& st) {
  OpState** at = &lock_buckets_[st.digest.lo % kLockBuckets];
  while (*at != &st) at = &(*at)->bucket_next;
  OpState* waiter = st.lock_next;
  st.holds_lock = false;
  if (waiter == nullptr) {
    *at = st.bucket_next;
    return;
  }
  waiter->bucket_next = st.bucket_next;
  *at = waiter;
  waiter->holds_lock = true;
  waiter->locked(*waiter);
}

void StoreImpl::start_tick() {
  if (!tick_.armed() && !closing_) reactor_.start(tick_, reactor_.now_ns() + kTickNs);
}

void StoreImpl::on_tick(io::Timer& timer) {
  StoreImpl& s = *static_cast<StoreImpl*>(timer.context);
  bool waiting = false;
  for (auto& log : s.logs_) {
    if (!log || log->out()) continue;
    log->expire(s.reactor_.now_ns());
    log->pump();
    waiting |= log->queued_bytes() > 0 || !log->idle();
  }
  s.reclaim_start();
  if (waiting || s.reclaim_.active || s.states_used_ > 0) s.start_tick();
}

// --- sequences
// --------------------------------------------------------------------------------------------------------

uint64_t StoreImpl::next_sequence() {
  MEMKV_ASSERT(sequence_ < kSequenceMax && sequence_ < sequence_end_, "the sequence reservation ran out");
  if (!options_.memory_mode && sequence_end_ - sequence_ == kSequenceReservation / 2) extend_reservation();
  return sequence_++;
}

namespace {

/// The anchors of one new reservation on their way to the drives. Rare: once in 2^23 changes.
struct AnchorWrite {
  uint64_t sequence_end = 0;
  size_t left = 0;
  bool any = false;
  uint64_t* reserved = nullptr;
  size_t* in_flight = nullptr;
  struct One {
    io::IoOp io;
    iovec piece{};
    std::byte* block = nullptr;
    AnchorWrite* all = nullptr;
  };
  std::deque<One> writes;

  static void on_done(io::IoOp& op, int32_t result) {
    One& one = *static_cast<One*>(op.context);
    AnchorWrite* all = one.all;
    std::free(one.block);
    all->any |= result >= 0;
    if (--all->left > 0) return;
    if (all->any) *all->reserved = all->sequence_end;
    --*all->in_flight;
    delete all;
  }
};

}  // namespace

/// Rule 6, long before the range runs out: the next range is durable before its first number is used.
void StoreImpl::extend_reservation() {
  auto* all = new AnchorWrite;
  all->sequence_end = sequence_end_ + kSequenceReservation;
  all->reserved = &sequence_end_;
  all->in_flight = &anchors_in_flight_;
  ++anchors_in_flight_;
  all->left = 1;
  for (auto& log : logs_) {
    if (!log || log->out()) continue;
    auto& one = all->writes.emplace_back();
    one.all = all;
    one.block = static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, kBlockBytes));
    const Anchor a = Recovery(*this).make_anchor(*log, all->sequence_end);
    std::memcpy(one.block, &a, sizeof a);
    one.piece = {one.block, kBlockBytes};
    one.io.context = &one;
    one.io.on_done = AnchorWrite::on_done;
    ++all->left;
    const uint64_t offset = Recovery::anchor_offset(*log, all->sequence_end);
    if (!log->device().write(one.io, offset, {&one.piece, 1}, log->config().slice.dsync)) {
      std::free(one.block);
      --all->left;
      all->writes.pop_back();
    }
  }
  if (--all->left == 0) {
    MEMKV_LOG(kError, "shard {}: no drive takes the sequence reservation", options_.shard);
    --anchors_in_flight_;
    delete all;
  }
}

// --- index
// ------------------------------------------------------------------------------------------------------------

uint16_t StoreImpl::namespace_index(uint64_t id) {
  for (size_t i = 0; i < namespaces_.size(); ++i) {
    if (namespaces_[i] == id) return static_cast<uint16_t>(i);
  }
  namespaces_.push_back(id);
  flushed_.push_back(0);
  return static_cast<uint16_t>(namespaces_.size() - 1);
}

RecordRef StoreImpl::ref_of(const Entry& e) const {
  return {e.place(), e.sequence(), e.checksum(), e.length(), e.has(kHasHoles)};
}

Entry* StoreImpl::live(Digest digest) {
  Entry* e = index_.find(digest);
  if (e == nullptr) return nullptr;
  if (usable_log(e->place().drive) != nullptr) return e;
  drop_block(digest, counters_.dropped_drive_out);
  return nullptr;
}

Entry* StoreImpl::live_chunk(Digest digest, uint32_t chunk) {
  Entry* c = index_.find(chunk_digest(digest, chunk));
  if (c == nullptr || usable_log(c->place().drive) != nullptr) return c;
  drop_block(digest, counters_.dropped_drive_out);
  return nullptr;
}

void StoreImpl::erase_chunks(Digest digest, uint64_t block_bytes) {
  for (uint32_t n = 0, count = chunk_count(block_bytes); n < count; ++n) {
    if (Entry* c = index_.find(chunk_digest(digest, n))) {
      counters_.bytes_used -= c->length();
      index_.erase(c);
    }
  }
}

void StoreImpl::drop_block(Digest digest, uint64_t& counter) {
  Entry* e = index_.find(digest);
  if (e == nullptr) return;
  if (e->has(kHead)) {
    erase_chunks(digest, e->checksum());
    e = index_.find(digest);
  }
  counters_.bytes_used -= e->length();
  --counters_.blocks;
  ++counter;
  index_.erase(e);
}

Entry* StoreImpl::install(Digest digest, uint64_t ns, const RecordRef& ref, uint16_t flags, uint32_t expiry_s) {
  Entry* e = index_.find(digest);
  if (e != nullptr) {
    counters_.bytes_used -= e->length();
  } else {
    auto made = index_.insert(digest);
    if (!made) return nullptr;
    e = *made;
  }
  e->set_place(ref.place);
  e->set_sequence(ref.sequence);
  e->set_checksum(ref.checksum);
  e->set_length(ref.length);
  e->set_expiry_s(expiry_s);
  e->set_namespace_index(namespace_index(ns));
  e->set(kHead, (flags & kHead) != 0);
  e->set(kChunk, (flags & kChunk) != 0);
  e->set(kHasHoles, ref.has_holes);
  e->set(kHit, false);
  counters_.bytes_used += ref.length;
  return e;
}

/// The one step in which a new version becomes the block: its head (or whole record) and all its chunks.
void StoreImpl::install_block(OpState& st, const RecordRef& ref, bool head, uint64_t ns, uint32_t expiry_s,
                              uint64_t block_bytes, std::span<const std::pair<uint32_t, RecordRef>> chunks) {
  if (ref.sequence < flushed_[namespace_index(ns)]) return;  // flushed on its way
  const Entry* old = index_.find(st.digest);
  if (old == nullptr) ++counters_.blocks;
  if (old != nullptr && old->has(kHead)) {
    const uint32_t before = chunk_count(old->checksum());
    const uint32_t now = head ? chunk_count(block_bytes) : 0;
    for (uint32_t n = now; n < before; ++n) {
      if (Entry* c = index_.find(chunk_digest(st.digest, n))) {
        counters_.bytes_used -= c->length();
        index_.erase(c);
      }
    }
  }
  bool ok = true;
  for (const auto& [n, c] : chunks) ok = ok && install(chunk_digest(st.digest, n), ns, c, kChunk, expiry_s) != nullptr;
  RecordRef entry = ref;
  if (head) entry.checksum = block_bytes;
  ok = ok && install(st.digest, ns, entry, head ? kHead : 0, expiry_s) != nullptr;
  if (ok) return;
  ++counters_.dropped_index_full;
  for (const auto& [n, c] : chunks) {
    if (Entry* e = index_.find(chunk_digest(st.digest, n))) {
      counters_.bytes_used -= e->length();
      index_.erase(e);
    }
  }
  if (index_.find(st.digest) == nullptr)
    --counters_.blocks;
  else
    drop_block(st.digest, counters_.dropped_index_full);
}

/// A full index reclaims early: the op is told kBusy and comes again.
bool StoreImpl::index_has_room(uint64_t entries) {
  const uint64_t reserve = states_used_ + entries + 16;
  if (index_.size() + reserve <= index_.entries_max()) return true;
  for (auto& log : logs_) {
    if (log && !log->out()) on_segment_needed(log->config().slice.drive_index);
  }
  return index_.size() + states_used_ + entries <= index_.entries_max();
}

/// By digest, weighted by capacity; chunks of a block start there and go on over stripe_width drives.
Log* StoreImpl::choose_log(Digest digest, uint32_t chunk, uint32_t attempt) const {
  uint64_t total = 0;
  for (const DriveSlice& s : options_.slices) total += s.size_bytes >> 12;
  if (total == 0) return nullptr;
  uint64_t at = base::mix64(digest.hi) % total;
  size_t first = 0;
  while (at >= options_.slices[first].size_bytes >> 12) at -= options_.slices[first++].size_bytes >> 12;
  const size_t n = logs_.size();
  const size_t width = std::max<size_t>(1, std::min<size_t>(options_.stripe_width, n));
  for (size_t i = 0; i < n; ++i) {
    Log* log = usable_log(static_cast<uint8_t>((first + chunk % width + attempt + i) % n));
    if (log != nullptr) return log;
  }
  return nullptr;
}

// --- put, remove
// ------------------------------------------------------------------------------------------------------

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
  if (!index_has_room(1)) return complete(op, Status::kBusy);
  OpState* st = take_state(op);
  if (st == nullptr) return;
  start_tick();
  lock(*st, op.key.digest, put_locked);
}

void StoreImpl::put_locked(OpState& st) {
  StoreImpl& s = *st.store;
  PutOp& op = static_cast<PutOp&>(*st.op);
  const Entry* old = s.live(st.digest);
  if (op.if_absent && old != nullptr) {
    op.generation = old->sequence();
    const auto reserved = s.reserved_at_.find(op.payload.data);
    if (reserved != s.reserved_at_.end()) s.abandon({op.payload.data, reserved->second});
    return s.finish(st, Status::kExists);
  }
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
    st.log = choose_log(st.digest, st.append.header.chunk_number, st.attempts);
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
  if (a.status == Status::kIo && st.attempts++ < s.logs_.size()) return s.put_append(st);
  if (a.status != Status::kOk) return s.finish(st, a.status);
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

void StoreImpl::put_done(OpState& st) { st.store->finish(st, st.status); }

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
  const Entry* e = s.live(st.digest);
  const uint64_t if_generation = st.op->private_state[0];
  if (e == nullptr && if_generation == 0) return s.remove_missing(st);
  if (e == nullptr || (if_generation != 0 && e->sequence() != if_generation)) return s.finish(st, Status::kMiss);
  const uint64_t sequence = s.next_sequence();
  st.op->generation = sequence;
  s.tombstone_then(st, e->place(), sequence, removed);
}

/// What was evicted a moment ago may be found again after a restart; what was removed may not.
void StoreImpl::remove_missing(OpState& st) {
  const bool may_return =
      counters_.dropped_index_full > 0 ||
      std::any_of(logs_.begin(), logs_.end(), [](const auto& log) { return log && log->evicted_may_return(); });
  Log* log = choose_log(st.digest, 0, 0);
  if (options_.memory_mode || !may_return || log == nullptr) return finish(st, Status::kMiss);
  tombstone_then(st, {log->config().slice.drive_index, 0}, next_sequence(), [](OpState& done) {
    done.store->finish(done, done.status == Status::kOk ? Status::kMiss : done.status);
  });
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

// --- memory only
// ------------------------------------------------------------------------------------------------------

bool StoreImpl::exists(const BlockKey& key) { return live(key.digest) != nullptr; }

bool StoreImpl::stat(const BlockKey& key, BlockStat& out) {
  const Entry* e = live(key.digest);
  if (e == nullptr) return false;
  out = {e->sequence(), block_bytes_of(*e), e->expiry_s(), has_holes(key.digest, *e)};
  return true;
}

bool StoreImpl::has_holes(Digest digest, const Entry& e) const {
  if (!e.has(kHead)) return e.has(kHasHoles);
  const uint64_t bytes = e.checksum();
  for (uint32_t n = 0, count = chunk_count(bytes); n < count; ++n) {
    const Entry* c = index_.find(chunk_digest(digest, n));
    const uint64_t full = std::min(bytes - n * base::kChunkBytes, base::kChunkBytes);
    if (c == nullptr || c->has(kHasHoles) || c->length() < full) return true;
  }
  return false;
}

bool StoreImpl::touch(const BlockKey& key) {
  Entry* e = live(key.digest);
  if (e == nullptr) return false;
  e->set(kHit);
  return true;
}

uint64_t StoreImpl::list(uint64_t ns, uint64_t cursor, uint32_t limit, void (*visit)(void*, const ListEntry&),
                         void* context) {
  uint32_t found = 0;
  while (const Entry* e = index_.next(cursor)) {
    if (e->has(kChunk) || namespaces_[e->namespace_index()] != ns) continue;
    visit(context, {e->digest(), e->sequence(), block_bytes_of(*e)});
    if (++found == limit) return cursor;
  }
  return 0;
}

const StoreCounters& StoreImpl::counters() const {
  snapshot_ = counters_;
  snapshot_.bytes_usable = 0;
  for (const auto& log : logs_) snapshot_.bytes_usable += log && !log->out() ? log->usable_bytes() : 0;
  snapshot_.index_entries = index_.size();
  snapshot_.index_entries_max = index_.entries_max();
  return snapshot_;
}

// --- flush
// ------------------------------------------------------------------------------------------------------------

void StoreImpl::flush_namespace(FlushOp& op) {
  OpState* st = take_state(op);
  if (st == nullptr) return;
  start_tick();
  st->left = 3;
  st->change = true;
  queue_merge(*st);  // a merge under way would carry bytes from before the flush to behind it
}

void StoreImpl::start_flush(OpState* st) {
  FlushOp& op = static_cast<FlushOp&>(*st->op);
  const uint64_t sequence = next_sequence();
  flushed_[namespace_index(op.namespace_id)] = sequence;
  op.generation = sequence;
  struct Flush : Append {
    OpState* st;
  };
  st->left = 1;
  for (auto& log : logs_) {
    if (!log || log->out()) continue;
    auto* a = new Flush;  // rare
    a->st = st;
    a->header.kind = RecordKind::kFlush;
    a->header.namespace_id = op.namespace_id;
    a->header.sequence = sequence;
    a->on_done = [](Append& done) {
      auto* flush = static_cast<Flush*>(&done);
      OpState& state = *flush->st;
      if (done.status != Status::kOk && done.status != Status::kIo) state.status = done.status;
      delete flush;
      if (--state.left == 0) state.store->finish(state, state.status);
    };
    ++st->left;
    log->append(*a);
  }
  std::vector<Digest> gone;
  uint64_t cursor = 0;
  const uint16_t index = namespace_index(op.namespace_id);
  while (const Entry* e = index_.next(cursor)) {
    if (!e->has(kChunk) && e->namespace_index() == index && e->sequence() < sequence) gone.push_back(e->digest());
  }
  uint64_t not_counted = 0;
  for (const Digest& d : gone) drop_block(d, not_counted);
  if (--st->left == 0) finish(*st, st->status);
}

// --- memory mode rooms
// ------------------------------------------------------------------------------------------------

Reservation StoreImpl::reserve(uint32_t bytes) {
  if (!options_.memory_mode || closing_) return {};
  const uint64_t id = next_reservation_;
  for (size_t i = 0; i < logs_.size(); ++i) {
    Log* log = usable_log(static_cast<uint8_t>((id + i) % logs_.size()));
    if (log == nullptr) continue;
    const Log::Room room = log->reserve(bytes);
    if (room.data == nullptr) continue;
    ++next_reservation_;
    reservations_[id] = {log->config().slice.drive_index, room.epoch, room.block, bytes, room.data};
    reserved_at_[room.data] = id;
    return {room.data, id};
  }
  reclaim_start();
  return {};
}

void StoreImpl::abandon(Reservation reservation) {
  const auto it = reservations_.find(reservation.id);
  if (it == reservations_.end()) return;
  const RoomOut room = it->second;
  reserved_at_.erase(room.data);
  reservations_.erase(it);
  log_of(room.drive)->abandon(room.epoch, room.block, room.bytes);
}

// --- drives, closing
// --------------------------------------------------------------------------------------------------

void StoreImpl::on_log_failed(uint8_t drive, const char* why) {
  MEMKV_LOG(kWarn, "shard {}: drive {} is taken out: {}", options_.shard, drive, why);
  if (options_.on_drive_out == nullptr) return;
  if (rules().membership) leaving_ |= uint64_t{1} << drive;
  options_.on_drive_out(options_.on_drive_out_context, drive, why);
}

void StoreImpl::take_drive_out(uint8_t drive_index, const char*) {
  Log* log = log_of(drive_index);
  if (log != nullptr && !log->out()) log->stop(Status::kIo);
  leaving_ &= ~(uint64_t{1} << drive_index);
  if (leaving_ == 0) release_held();
}

void StoreImpl::close(StoreOp& op) {
  closing_ = true;
  reactor_.stop(tick_);
  leaving_ = 0;
  for (OpState* st : held_) st->status = Status::kUnknown;  // the drive may come back with what was replaced
  release_held();
  // What is in flight ends by itself; what waits for room will not get it any more.
  for (auto& log : logs_) {
    if (log) log->stop(Status::kCanceled);
  }
  for (int i = 0; i < 100000; ++i) {
    bool busy = states_used_ > 0 || anchors_in_flight_ > 0 || reclaim_.io.pending() || reclaim_.moves_in_flight > 0;
    for (const auto& log : logs_) busy |= log && !log->idle();
    if (!busy) break;
    reactor_.run_once(1'000'000);
  }
  complete(op, Status::kOk);
}

}  // namespace memkv::engine
