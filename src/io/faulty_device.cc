#include "io/faulty_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"
#include "io/loop.h"

namespace memkv::io {
namespace {

constexpr size_t kFlightsMax = 1024;

std::vector<std::byte> gather(std::span<const iovec> pieces) {
  std::vector<std::byte> bytes(pieces_bytes(pieces));
  std::byte* to = bytes.data();
  for (const iovec& piece : pieces) {
    std::memcpy(to, piece.iov_base, piece.iov_len);
    to += piece.iov_len;
  }
  return bytes;
}

void scatter(std::span<const std::byte> bytes, std::span<const iovec> pieces) {
  const std::byte* from = bytes.data();
  for (const iovec& piece : pieces) {
    std::memcpy(piece.iov_base, from, piece.iov_len);
    from += piece.iov_len;
  }
}

}  // namespace

FaultyDevice::FaultyDevice(Reactor& reactor, std::shared_ptr<MemoryStorage> image, const FaultPlan& plan, uint64_t seed)
    : reactor_(reactor), image_(std::move(image)), plan_(plan), random_(seed), flights_(kFlightsMax) {
  info_.path = "faulty";
  info_.size_bytes = base::align_down(image_->size(), base::kSectorBytes);
  info_.volatile_cache = plan.volatile_cache;
}

FaultyDevice::~FaultyDevice() {
  MEMKV_ASSERT(in_flight_ == 0);
  // Nobody cut the power, so the drive writes its cache back.
  for (const auto& [offset, sector] : cache_)
    std::memcpy(image_->data() + offset, sector.bytes.data(), base::kSectorBytes);
}

Result<void> FaultyDevice::read(IoOp& op, uint64_t offset, std::span<const iovec> pieces) {
  return start(op, {OpKind::kRead, offset, pieces_bytes(pieces), false}, pieces);
}

Result<void> FaultyDevice::write(IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool dsync) {
  return start(op, {OpKind::kWrite, offset, pieces_bytes(pieces), dsync}, pieces);
}

Result<void> FaultyDevice::sync(IoOp& op) { return start(op, {OpKind::kSync, 0, 0, false}, {}); }

FaultyDevice::Flight* FaultyDevice::take_flight() {
  for (Flight& flight : flights_) {
    if (flight.op == nullptr) return &flight;
  }
  return nullptr;
}

uint64_t FaultyDevice::delay_ns() {
  uint64_t delay = plan_.latency_ns_max > 0 ? random_.below(plan_.latency_ns_max + 1) : 0;
  if (hit(plan_.slow)) delay += random_.below(plan_.slow_ns_max + 1), counts_.slowed++;
  return delay;
}

/// Takes an op in and starts its delay. The faults that the test has planted (an error, a gate, a torn write) are
/// looked up when the delay is over.
Result<void> FaultyDevice::start(IoOp& op, const OpView& view, std::span<const iovec> pieces) {
  MEMKV_ASSERT(!op.pending() && op.on_done != nullptr);
  MEMKV_ASSERT(base::is_aligned(view.offset, base::kSectorBytes));
  for (const iovec& piece : pieces) {
    MEMKV_ASSERT(base::is_aligned(piece.iov_len, base::kSectorBytes) &&
                 base::is_aligned(piece.iov_base, base::kSectorBytes));
  }
  if (dead_) return Error{Status::kIo, ENODEV, "faulty device: the power is off"};
  const bool moves = view.kind != OpKind::kSync;
  if (moves && (view.bytes == 0 || view.offset > info_.size_bytes || view.bytes > info_.size_bytes - view.offset)) {
    return Error{Status::kInvalid, 0, "faulty device: range outside of the device"};
  }
  Flight* flight = take_flight();
  if (flight == nullptr || (refuses_ && refuses_(view)))
    return Error{Status::kBusy, 0, "faulty device: too many ops in flight"};
  flight->device = this;
  flight->op = &op;
  flight->view = view;
  flight->pieces = pieces;
  flight->cache_age = cache_age_;
  flight->timer.context = flight;
  flight->timer.on_done = [](Timer& timer) {
    auto& self = *static_cast<Flight*>(timer.context);
    self.device->on_time(self);
  };
  op.kind = view.kind == OpKind::kRead ? IoOp::Kind::kRead : moves ? IoOp::Kind::kWrite : IoOp::Kind::kSync;
  in_flight_++;
  load_.begin(flight->load, op.kind, view.bytes, reactor_.now_ns());
  reactor_.start(flight->timer, reactor_.now_ns() + delay_ns());
  return {};
}

void FaultyDevice::on_time(Flight& flight) {
  if (gate_ && gate_(flight.view)) {
    held_.push_back(&flight);
  } else {
    finish(flight);
  }
}

void FaultyDevice::release(size_t index) {
  MEMKV_ASSERT(index < held_.size());
  Flight& flight = *held_[index];
  held_.erase(held_.begin() + static_cast<ptrdiff_t>(index));
  finish(flight);
}

void FaultyDevice::release_all() {
  for (size_t left = held_.size(); left > 0 && !held_.empty(); left--) release();
}

void FaultyDevice::finish(Flight& flight) {
  const uint64_t cuts_before = counts_.power_cuts;
  if (flight.view.kind == OpKind::kWrite && on_write_) on_write_(flight.view.offset, flight.view.bytes);
  if (counts_.power_cuts != cuts_before) return;  // the hook cut the power, which took this op too
  const int32_t result = take_effect(flight);
  load_.end(flight.load, result >= 0);
  IoOp& op = *std::exchange(flight.op, nullptr);
  in_flight_--;
  op.kind = IoOp::Kind::kIdle;
  op.on_done(op, result);
}

int32_t FaultyDevice::take_effect(Flight& flight) {
  if (is_bad(flight.view)) {
    counts_.errors++;
    return -EIO;
  }
  switch (flight.view.kind) {
    case OpKind::kRead:
      return do_read(flight);
    case OpKind::kWrite:
      return do_write(flight);
    default:
      return do_sync(flight);
  }
}

bool FaultyDevice::is_bad(const OpView& view) const {
  return std::any_of(bad_.begin(), bad_.end(), [&](const Range& bad) {
    return view.kind == OpKind::kSync ? bad.bytes == ~uint64_t{0} : bad.touches(view);
  });
}

bool FaultyDevice::Range::touches(const OpView& view) const {
  return view.offset < offset ? offset - view.offset < view.bytes : view.offset - offset < bytes;
}

bool FaultyDevice::is_bad_read(const OpView& view) {
  for (BadRead& bad : bad_reads_) {
    if (bad.times == 0 || !bad.range.touches(view)) continue;
    --bad.times;
    return true;
  }
  return false;
}

int32_t FaultyDevice::do_read(const Flight& flight) {
  counts_.reads++;
  const OpView& view = flight.view;
  if (hit(plan_.read_error) || is_bad_read(view)) return counts_.errors++, -EIO;
  std::vector<std::byte> bytes(image_->data() + view.offset, image_->data() + view.offset + view.bytes);
  for (auto at = cache_.lower_bound(view.offset); at != cache_.end() && at->first < view.offset + view.bytes; ++at) {
    std::memcpy(bytes.data() + (at->first - view.offset), at->second.bytes.data(), base::kSectorBytes);
  }
  if (hit(plan_.read_bit_flip)) flip_bit(bytes);
  scatter(bytes, flight.pieces);
  return static_cast<int32_t>(view.bytes);
}

void FaultyDevice::flip_bit(std::vector<std::byte>& bytes) {
  counts_.bit_flips++;
  bytes[random_.below(bytes.size())] ^= static_cast<std::byte>(1u << random_.below(8));
}

int32_t FaultyDevice::do_write(const Flight& flight) {
  counts_.writes++;
  const OpView& view = flight.view;
  if (write_errno_ != 0) return counts_.errors++, -write_errno_;
  const auto done = static_cast<int32_t>(view.bytes);
  const std::vector<std::byte> bytes = gather(flight.pieces);
  if (hit(plan_.write_error)) {
    counts_.errors++;
    land_partly(view.offset, bytes, view.dsync);
    return -EIO;
  }
  if (hit(plan_.write_lost)) return counts_.lost++, done;
  uint64_t offset = view.offset;
  if (hit(plan_.write_misdirected)) {
    counts_.misdirected++;
    offset = random_.below((info_.size_bytes - view.bytes) / base::kSectorBytes + 1) * base::kSectorBytes;
  }
  land(offset, bytes, view.dsync);
  return done;
}

int32_t FaultyDevice::do_sync(const Flight& flight) {
  counts_.syncs++;
  if (hit(plan_.sync_error)) return counts_.errors++, -EIO;
  // A sync makes durable what was cached when it was submitted, and nothing more.
  std::erase_if(cache_, [&](const auto& entry) {
    if (entry.second.age >= flight.cache_age) return false;
    std::memcpy(image_->data() + entry.first, entry.second.bytes.data(), base::kSectorBytes);
    return true;
  });
  return 0;
}

void FaultyDevice::land_sector(uint64_t offset, const std::byte* bytes, bool durable) {
  if (durable || !plan_.volatile_cache) {
    cache_.erase(offset);
    std::memcpy(image_->data() + offset, bytes, base::kSectorBytes);
    return;
  }
  // A sector that is written again keeps its first age, so that a sync between the two writes makes it durable.
  CachedSector& sector = cache_.try_emplace(offset, CachedSector{cache_age_, {}}).first->second;
  sector.bytes.assign(bytes, bytes + base::kSectorBytes);
}

void FaultyDevice::land(uint64_t offset, std::span<const std::byte> bytes, bool durable) {
  for (size_t at = 0; at < bytes.size(); at += base::kSectorBytes) land_sector(offset + at, bytes.data() + at, durable);
  cache_age_++;
}

/// The write lands whole, not at all, as a prefix, or as a random set of sectors: drives promise no order inside one
/// write.
void FaultyDevice::land_partly(uint64_t offset, std::span<const std::byte> bytes, bool durable) {
  const size_t sectors = bytes.size() / base::kSectorBytes;
  const uint64_t way = random_.below(4);
  const size_t prefix = way == 0 ? 0 : way == 1 ? sectors : random_.below(sectors + 1);
  for (size_t i = 0; i < sectors; i++) {
    if (way == 3 ? random_.chance(1, 2) : i < prefix) {
      land_sector(offset + i * base::kSectorBytes, bytes.data() + i * base::kSectorBytes, durable);
    }
  }
  cache_age_++;
}

void FaultyDevice::power_cut() {
  counts_.power_cuts++;
  dead_ = true;
  const uint64_t way = random_.below(4);  // what becomes of the cache: nothing of it, all, or each sector by chance
  for (const auto& [offset, sector] : cache_) {
    const bool lands = way == 1 || (way > 1 && random_.chance(1, 2));
    if (lands) std::memcpy(image_->data() + offset, sector.bytes.data(), base::kSectorBytes);
  }
  cache_.clear();
  held_.clear();
  for (Flight& flight : flights_) {
    if (flight.op == nullptr) continue;
    reactor_.stop(flight.timer);
    load_.end(flight.load, false);
    if (flight.view.kind == OpKind::kWrite) land_partly(flight.view.offset, gather(flight.pieces), true);
    std::exchange(flight.op, nullptr)->kind = IoOp::Kind::kIdle;
  }
  in_flight_ = 0;
}

}  // namespace memkv::io
