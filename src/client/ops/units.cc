#include "client/ops/units.h"

#include <algorithm>

namespace memkv::client {
namespace {

constexpr uint64_t kRetryNsMin = 50'000, kRetryNsMax = 5'000'000;

uint64_t left_in_chunk(uint64_t offset) { return kChunkBytesMax - offset % kChunkBytesMax; }

}  // namespace

void Op::reset() {
  MEMKV_ASSERT(units.empty() && holds == 0 && !link.linked());
  static_cast<Request&>(*this) = Request{};
  call = nullptr;
  index = 0;
  server = nullptr;
  step = Step::kFree;
  ready_bytes = expanded_by = drain_until_ns = 0;
  generations_differ = false;
  last_delay = Status::kOk;
  outcome = {};
}

Unit& Units::make(Op& op, wire::OpKind kind, uint64_t offset, uint64_t length, PiecePlace place) {
  MEMKV_ASSERT(op.step != Step::kFree && op.step != Step::kEnded && length <= kChunkBytesMax);
  Unit& unit = pool_.take();
  unit.op = &op;
  unit.kind = kind;
  unit.offset = offset;
  unit.length = static_cast<uint32_t>(length);
  unit.place = place;
  op.units.push_back(unit);
  return unit;
}

void Units::make_chunks(Op& op, wire::OpKind kind) {
  PiecePlace place;
  uint64_t at = 0;
  do {
    const uint64_t offset = op.spec->offset + at;
    const uint64_t bytes = std::min(op.bytes - at, left_in_chunk(offset));
    make(op, kind, offset, bytes, place);
    place.advance(op.pieces, bytes);
    at += bytes;
  } while (at < op.bytes);
}

void Units::drop(Unit& unit) {
  Op& op = op_of(unit);
  unit.leave_queue();
  if (unit.frame) op.server->forget(unit);
  MEMKV_ASSERT(unit.frame == nullptr);
  op.units.remove(unit);
  unit.take_off();
  unit = Unit{};
  pool_.give_back(unit);
}

void Units::drop_all(Op& op) {
  while (Unit* unit = op.units.front()) drop(*unit);
}

void Units::retry_later(Unit& unit) {
  unit.leave_queue();
  unit.take_off();
  MEMKV_ASSERT(unit.frame == nullptr);
  machine_.counters().retries.add();
  const uint64_t cap = std::min(kRetryNsMax, kRetryNsMin << std::min<uint8_t>(unit.attempts, 10));
  if (unit.attempts < 255) unit.attempts++;
  unit.due_ns = machine_.now_ns() + machine_.jitter_ns(kRetryNsMin, cap);
  add_to(waiting_, unit);
  alarm_.set(unit.due_ns);
}

void Units::take_due(UnitQueue& due) {
  const uint64_t now = machine_.now_ns() + kRetryNsMin;  // what is nearly due goes along
  uint64_t next = ~uint64_t{0};
  for (Unit& unit : waiting_) {
    if (unit.due_ns > now) {
      next = std::min(next, unit.due_ns);
      continue;
    }
    MEMKV_ASSERT(unit.frame == nullptr && op_of(unit).step != Step::kEnded);
    waiting_.remove(unit);
    add_to(due, unit);
  }
  if (next != ~uint64_t{0}) alarm_.set(next);
}

void Units::shut_down() {
  while (Unit* unit = waiting_.front()) drop(*unit);
  alarm_.stop();
}

Status route_ready(Op& op) {
  const size_t count = op.units.size();
  Unit* unit = op.units.front();
  for (size_t i = 0; i < count; i++) {
    Unit* next = op.units.next(*unit);
    if (const Status refusal = op.server->refusal_of(op); refusal != Status::kOk) return refusal;
    const bool at_rest = unit->queue == nullptr && unit->frame == nullptr;
    if (at_rest && op.is_ready(*unit)) op.server->route(*unit);
    unit = next;
  }
  return Status::kOk;
}

}  // namespace memkv::client
