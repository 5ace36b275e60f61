#include "vram_transfer.h"

#include <algorithm>

#include "base/assert.h"

namespace memkv::nixl {
namespace {

constexpr uint64_t kSlot = StagingPool::kSlotBytes;

Place place_of(const char* slot) { return {reinterpret_cast<uintptr_t>(slot), 0, MemoryKind::kHost}; }

/// Copies between `slot` and the part [begin, begin + length) of what the pieces make up.
void add_copies(std::span<const LocalPiece> pieces, uint64_t begin, uint64_t length, const char* slot, bool into_slot,
                std::vector<Copy>& out) {
  uint64_t at = 0;
  for (const LocalPiece& piece : pieces) {
    const uint64_t from = std::max(at, begin);
    const uint64_t to = std::min(at + piece.length, begin + length);
    if (from < to) {
      const Place outside = piece.place + (from - at);
      const Place inside = place_of(slot + (from - begin));
      out.push_back(into_slot ? Copy{outside, inside, to - from} : Copy{inside, outside, to - from});
    }
    at += piece.length;
    if (at >= begin + length) return;
  }
}

}  // namespace

void StagedTransfer::fail(Status status) {
  if (failed()) return;
  outcome_ = {.status = status};
  stop_all();
}

void StagedTransfer::clear_outcome() {
  outcome_ = {.status = Status::kOk};
  cuda_error_ = nullptr;
}

StagedRead::StagedRead(StagedWire& wire, StagingPool& pool, Copier& copier, const StagedOp& op)
    : StagedTransfer(wire, pool, copier), op_(op) {
  MEMKV_ASSERT(op.length > 0, "nothing to read");
  const size_t units = (op.offset + op.length - 1) / kSlot - op.offset / kSlot + 1;
  generations_.resize(units);
  to_do_.reserve(units);
  lanes_ = std::vector<Lane>(std::min<size_t>(units, kLanesMax));
  for (uint32_t i = 0; i < lanes_.size(); ++i) lanes_[i].number = i;
  restart(op.deadline_ns);
}

void StagedRead::restart(uint64_t deadline_ns) {
  for (const Lane& lane : lanes_) MEMKV_ASSERT(lane.at == At::kIdle, "a read begins anew when it has ended");
  clear_outcome();
  op_.deadline_ns = deadline_ns;
  demanded_ = 0;
  std::fill(generations_.begin(), generations_.end(), 0);
  to_do_.clear();
  for (size_t unit = generations_.size(); unit > 0; --unit) to_do_.push_back(unit - 1);
}

StagedRead::Range StagedRead::range_of(size_t unit) const {
  const uint64_t first = op_.offset / kSlot * kSlot + unit * kSlot;
  return {std::max(first, op_.offset), std::min(first + kSlot, op_.offset + op_.length)};
}

bool StagedRead::step(uint64_t now_ns) {
  for (;;) {
    bool idle = true;
    for (Lane& lane : lanes_) {
      while (go_on(lane, now_ns)) {
      }
      idle = idle && lane.at == At::kIdle;
    }
    if (!idle) return false;
    if (failed() || !next_pass()) return true;
  }
}

bool StagedRead::go_on(Lane& lane, uint64_t now_ns) {
  switch (lane.at) {
    case At::kIdle:
      return begin(lane);
    case At::kSlot:
      return wait_for_slot(lane, now_ns);
    case At::kWire:
      return wait_for_wire(lane);
    case At::kCopy:
      return wait_for_copies(lane);
  }
  return false;
}

bool StagedRead::begin(Lane& lane) {
  if (failed() || to_do_.empty()) return false;
  lane.unit = to_do_.back();
  to_do_.pop_back();
  lane.at = At::kSlot;
  pool_.ask(lane.ask, 1);
  return true;
}

bool StagedRead::wait_for_slot(Lane& lane, uint64_t now_ns) {
  if (!lane.ask.granted()) {
    if (now_ns >= op_.deadline_ns) fail(Status::kDeadline);
    return false;
  }
  const Range range = range_of(lane.unit);
  lane.at = At::kWire;
  wire_.get(lane.number, range.begin, {lane.ask.slots().front(), range.end - range.begin}, demanded_);
  return true;
}

bool StagedRead::wait_for_wire(Lane& lane) {
  Outcome outcome;
  if (!wire_.done(lane.number, outcome)) return false;
  lane.at = At::kCopy;  // there is nothing on the wire to be canceled any more
  if (failed() || !check(lane, outcome)) {
    release(lane);  // with no copies its job has nothing to say but of an earlier run
    return true;
  }
  generations_[lane.unit] = outcome.generation;
  outcome_.block_bytes = outcome.block_bytes;
  const Range range = range_of(lane.unit);
  lane.copies.clear();
  add_copies(op_.pieces, range.begin - op_.offset, range.end - range.begin, lane.ask.slots().front(), false,
             lane.copies);
  lane.job.copies = lane.copies;
  copier_.start(lane.job);
  return true;
}

bool StagedRead::check(const Lane& lane, const Outcome& outcome) {
  const Range range = range_of(lane.unit);
  Status status = outcome.status;
  if (status == Status::kChanged || (status == Status::kOk && outcome.bytes != range.end - range.begin))
    status = Status::kMiss;
  if (status == Status::kOk) return true;
  fail(status);
  outcome_.unreachable = outcome.unreachable;
  return false;
}

bool StagedRead::wait_for_copies(Lane& lane) {
  if (!lane.job.done()) return false;
  if (lane.job.error()) {
    cuda_error_ = lane.job.error();
    fail(Status::kIo);
  }
  release(lane);
  return true;
}

void StagedRead::release(Lane& lane) {
  pool_.give_back(lane.ask);
  lane.at = At::kIdle;
}

bool StagedRead::next_pass() {
  const Generation newest = *std::max_element(generations_.begin(), generations_.end());
  outcome_.generation = newest;
  outcome_.bytes = op_.length;
  for (size_t unit = 0; unit < generations_.size(); ++unit) {
    if (generations_[unit] != newest) to_do_.push_back(unit);
  }
  demanded_ = newest;
  return !to_do_.empty();
}

void StagedRead::stop_all() {
  for (Lane& lane : lanes_) {
    if (lane.at == At::kSlot) release(lane);
    if (lane.at == At::kWire) wire_.cancel(lane.number);
    if (lane.at == At::kCopy) copier_.cancel(lane.job);
  }
}

StagedWrite::StagedWrite(StagedWire& wire, StagingPool& pool, Copier& copier, const StagedOp& op)
    : StagedTransfer(wire, pool, copier), op_(op) {
  MEMKV_ASSERT(op.length > 0, "nothing to write");
}

void StagedWrite::restart(uint64_t deadline_ns) {
  MEMKV_ASSERT(at_ == At::kBegin || at_ == At::kEnd, "a write begins anew when it has ended");
  clear_outcome();
  op_.deadline_ns = deadline_ns;
  at_ = At::kBegin;
  begun_ = copied_ = 0;
}

bool StagedWrite::step(uint64_t now_ns) {
  while (go_on(now_ns)) {
  }
  return at_ == At::kEnd;
}

bool StagedWrite::go_on(uint64_t now_ns) {
  switch (at_) {
    case At::kBegin:
      return begin();
    case At::kSlots:
      return wait_for_slots(now_ns);
    case At::kStream:
      return stream();
    case At::kEnd:
      return false;
  }
  return false;
}

bool StagedWrite::begin() {
  if (failed()) return end();
  at_ = At::kSlots;
  pool_.ask(ask_, (op_.length + kSlot - 1) / kSlot);
  return true;
}

bool StagedWrite::wait_for_slots(uint64_t now_ns) {
  if (!ask_.granted() && now_ns >= op_.deadline_ns) fail(Status::kDeadline);
  if (failed()) return end();
  if (!ask_.granted()) return false;
  put();
  return true;
}

/// The put leaves before its bytes are here: the wire's first round trip passes while they are copied.
void StagedWrite::put() {
  put_pieces_.clear();
  for (size_t slot = 0; slot < ask_.slots().size(); ++slot)
    put_pieces_.push_back({ask_.slots()[slot], bytes_of(slot + 1) - bytes_of(slot)});
  at_ = At::kStream;
  on_wire_ = true;
  wire_.put(put_pieces_);
}

uint64_t StagedWrite::bytes_of(size_t slots) const { return std::min(slots * kSlot, op_.length); }

bool StagedWrite::stream() {
  take_copied();
  copy_more();
  take_outcome();
  return !on_wire_ && copied_ == begun_ ? end() : false;
}

/// In order, since the wire takes the front alone.
void StagedWrite::take_copied() {
  const size_t before = copied_;
  for (; copied_ < begun_ && filling(copied_).job.done(); ++copied_) {
    const char* error = filling(copied_).job.error();
    if (!error || failed()) continue;
    cuda_error_ = error;
    fail(Status::kIo);
  }
  if (copied_ > before && on_wire_ && !failed()) wire_.feed(bytes_of(copied_));
}

void StagedWrite::copy_more() {
  while (on_wire_ && !failed() && begun_ < ask_.slots().size() && begun_ - copied_ < kCopiesMax) {
    Filling& next = filling(begun_);
    next.copies.clear();
    const uint64_t at = bytes_of(begun_);
    add_copies(op_.pieces, at, bytes_of(begun_ + 1) - at, ask_.slots()[begun_], true, next.copies);
    next.job.copies = next.copies;
    ++begun_;
    copier_.start(next.job);
  }
}

/// It may come before all is copied: the block is there already, or its server is away.
void StagedWrite::take_outcome() {
  Outcome outcome;
  if (!on_wire_ || !wire_.done(0, outcome)) return;
  on_wire_ = false;
  if (!failed()) outcome_ = outcome;
  for (size_t slot = copied_; slot < begun_; ++slot) copier_.cancel(filling(slot).job);
}

/// Always false: there is no further step.
bool StagedWrite::end() {
  pool_.give_back(ask_);
  at_ = At::kEnd;
  return false;
}

void StagedWrite::stop_all() {
  for (size_t slot = copied_; slot < begun_; ++slot) copier_.cancel(filling(slot).job);
  if (on_wire_) wire_.cancel(0);
}

}  // namespace memkv::nixl
