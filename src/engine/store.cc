/// A store's pools, locks, completions, tick and end.

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "engine/store_impl.h"
#include "engine/test_rules.h"
#include "format/layout.h"

namespace memkv::engine {
namespace {

constexpr size_t kLockBuckets = 4096;
constexpr uint64_t kCloseStepNs = 1'000'000;

constexpr size_t kExtentBuffersMin = 16, kExtentBuffersMax = 32;  // small records under way; 8 a drive

constexpr size_t kBig = base::kChunkBytes + 2 * base::kSectorBytes;  // a whole chunk and what a drive reads around it

size_t extent_buffers_for(size_t drives) {
  return std::clamp<size_t>(8 * drives, kExtentBuffersMin, kExtentBuffersMax);
}

uint64_t usable_of(const StoreOptions& o) {
  uint64_t bytes = 0;
  for (const DriveSlice& s : o.slices) {
    if (s.segment_bytes != 0)
      bytes += format::segment_count(s.size_bytes, s.segment_bytes) * (s.segment_bytes - 2 * base::kSectorBytes);
  }
  return bytes;
}

}  // namespace

uint64_t store_buffer_bytes(size_t drives) {
  constexpr uint64_t kRoundings = 3 * io::kHugePageBytes;  // of what is taken on huge pages
  return extent_buffers_for(drives) * kExtentBufferBytes + 3 * kBig + kOpStates * sizeof(OpState) + kRoundings;
}

std::unique_ptr<Store> Store::make(io::Reactor& reactor, StoreOptions options) {
  return std::make_unique<StoreImpl>(reactor, std::move(options));
}

StoreImpl::StoreImpl(io::Reactor& reactor, StoreOptions options)
    : reactor_(reactor),
      options_(std::move(options)),
      usable_(usable_of(options_)),
      index_(std::max<uint64_t>(options_.index_entries_max, 64)),
      states_(kOpStates),
      lock_buckets_(kLockBuckets),
      anchors_(options_.slices.size()) {
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
    c.buffers_max = static_cast<uint32_t>(std::max<size_t>(1, extent_buffers_.size() / logs_.size()));
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
  const size_t extents = extent_buffers_for(options_.slices.size());
  auto memory = io::HugeMemory::make(extents * kExtentBufferBytes + 2 * kBig, /*prefault=*/true);
  if (!memory) throw std::bad_alloc();
  buffer_memory_ = std::move(*memory);
  std::byte* at = buffer_memory_.data();
  const auto take = [&](size_t bytes) { return std::exchange(at, at + bytes); };
  for (size_t i = 0; i < extents; ++i) extent_buffers_.push_back(take(kExtentBufferBytes));
  for (int i = 0; i < 2; ++i) merge_buffers_.push_back({take(kBig)});
  if (!renew_reclaim()) throw std::bad_alloc();
}

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
  // With the last drive went whatever should have been durable.
  if (st.change && !is_failure(status) && all_out()) status = Status::kIo;
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
  for (OpState* st : std::exchange(held_, {})) {
    st->change = true;
    st->append.on_done == put_appended ? put_done(*st) : finish(*st, st->status);
  }
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

/// Asked when a change's turn on its block has come: not kOk, and nothing of it may be done. This is the point of no
/// return, since a change that came later to the same block waits for this one's end.
Status StoreImpl::refusal_of(const StoreOp& op) const {
  if (op.fence != nullptr && *op.fence > op.epoch && rules().clients_in_order) return Status::kBusy;
  const bool late = op.deadline_ns != ~uint64_t{0} && reactor_.now_ns() >= op.deadline_ns;
  return late ? Status::kDeadline : Status::kOk;
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
  if (s.closing_) return s.close_step();
  s.watch_drives();
  s.extend_reservation();
  bool waiting = false;
  for (auto& log : s.logs_) {
    if (!log || log->out()) continue;
    log->tick(s.reactor_.now_ns());
    log->pump();
    waiting |= log->queued_bytes() > 0 || !log->idle() || log->wants_mark() || log->wants_anchor();
  }
  s.anchor_logs();
  s.reclaim_start();
  if (waiting || s.reclaim_->active || s.states_used_ > 0)
    s.start_tick();
  else
    s.lagging_ = 0;  // nobody looks any more
}

const StoreCounters& StoreImpl::counters() const {
  snapshot_ = counters_;
  snapshot_.bytes_usable = snapshot_.logs_refusing = 0;
  for (const auto& log : logs_) {
    snapshot_.bytes_usable += log && !log->out() ? log->usable_bytes() : 0;
    snapshot_.logs_refusing += log && log->refusal() != Status::kOk ? 1 : 0;
  }
  snapshot_.index_entries = index_.size();
  snapshot_.index_entries_max = index_.entries_max();
  return snapshot_;
}

void StoreImpl::close(StoreOp& op) {
  closing_ = true;
  reactor_.stop(tick_);
  leaving_ = 0;
  for (OpState* st : held_) st->status = Status::kUnknown;  // the drive may come back with what was replaced
  release_held();
  // What is in flight ends by itself; what waits for room will not get it any more.
  for (auto& log : logs_) {
    if (log && !log->out() && !options_.memory_mode) closing_logs_.push_back(log.get());
    if (log) log->stop(Status::kCanceled);
  }
  close_op_ = &op;
  reactor_.start(tick_, reactor_.now_ns());
}

bool StoreImpl::at_rest() const {
  return states_used_ == 0 && !anchors_pending() && !reclaim_->stuck() && left_reclaims_.empty() &&
         std::all_of(logs_.begin(), logs_.end(), [](const auto& log) { return !log || log->idle(); });
}

/// Memory that a drive has comes back by the drive's own completion only, so a close takes as long as that. Then each
/// log gets its closing mark, and each anchor how far its log goes.
void StoreImpl::close_step() {
  if (!at_rest()) {
    reactor_.start(tick_, reactor_.now_ns() + kCloseStepNs);
    return;
  }
  const Closing done = close_phase_;
  close_phase_ = done == Closing::kOps ? Closing::kMarks : Closing::kAnchors;
  if (done == Closing::kAnchors) return complete(*std::exchange(close_op_, nullptr), Status::kOk);
  for (Log* log : closing_logs_) {
    if (done == Closing::kOps)
      (void)log->write_mark();
    else if (log->wants_anchor())
      write_anchor(*log, anchors_[log->config().slice.drive_index]);
  }
  reactor_.start(tick_, reactor_.now_ns());
}

}  // namespace memkv::engine
