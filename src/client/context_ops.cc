/// What ops are made of, and what replies to them mean.

#include <algorithm>

#include "base/log.h"
#include "client/context.h"

namespace memkv::client {
namespace {

using wire::OpKind;
using wire::OpReply;

/// What a server called too late is not worth another try so near its end.
constexpr uint64_t kTooLateNs = 10'000'000;

/// Bytes from `offset` to the end of its chunk.
uint64_t left_in_chunk(uint64_t offset) { return kChunkBytesMax - offset % kChunkBytesMax; }

bool crosses_chunks(const Op& op) {
  return op.spec->kind == Kind::kPut ? op.bytes > kChunkBytesMax : op.bytes > left_in_chunk(op.spec->offset);
}

/// A failure outweighs an outcome, the first of a kind stays.
void fold(Status& into, Status next) {
  if (next == Status::kOk || is_failure(into)) return;
  if (into == Status::kOk || is_failure(next)) into = next;
}

OpKind wire_kind(Kind kind) {
  switch (kind) {
    case Kind::kRemove:
      return OpKind::kRemove;
    case Kind::kTouch:
      return OpKind::kTouch;
    case Kind::kStat:
      return OpKind::kStat;
    case Kind::kFlush:
      return OpKind::kFlush;
    default:
      return OpKind::kGet;  // exists, status, list: a message of their own
  }
}

}  // namespace

void Op::reset() {
  MEMKV_ASSERT(units.empty() && holds == 0 && !link.linked());
  call = nullptr;
  spec = nullptr;
  server = nullptr;
  key = {};
  pieces = {};
  index = 0;
  bytes = ready_bytes = deadline_ns = 0;
  phase = Phase::kSingle;
  pinned = nullptr;
  pinned_epoch = upload = expanded_by = 0;
  finishing = asked_again = generations_differ = gpu = false;
  demanded = 0;
  refusal = Status::kOk;
  drain_until_ns = 0;
  outcome = {};
}

bool Op::is_ready(const Unit& unit) const {
  return !wire::has_payload(unit.kind) || unit.offset - spec->offset + unit.length <= ready_bytes;
}

/// The connection that its chunks went over is gone, and with it what it had sent.
bool Op::upload_is_lost() const { return pinned && (!pinned->open() || pinned->epoch() != pinned_epoch); }

// Starting.

void Context::start_op(Call& call, uint32_t index) {
  const BatchOp& spec = call.batch->ops[index];
  Op& op = ops_.take();
  op.call = &call;
  op.spec = &spec;
  op.index = index;
  op.key = call.batch->key_of(spec);
  op.pieces = call.batch->pieces_of(spec);
  op.bytes = total_bytes(op.pieces);
  op.ready_bytes = spec.fed ? 0 : op.bytes;
  call.ops.push_back(op);
  op.deadline_ns = deadline_of(call, spec.kind);
  const MemoryOf memory = memory_of(op.pieces);
  op.gpu = memory == MemoryOf::kGpu;
  const bool wrong = (spec.invalid && !spec.admin) || memory == MemoryOf::kMixed;
  if (wrong || spec.offset > wire::kOffsetMax || op.bytes > wire::kOffsetMax - spec.offset ||
      (spec.admin && spec.admin->server >= servers_.size())) {
    return finish(op, Status::kInvalid);
  }
  op.server = servers_[spec.admin ? spec.admin->server : placement_.server_of(op.key)].get();
  op.outcome.status = Status::kOk;
  op.demanded = spec.if_generation;
  arm_deadline(op.deadline_ns);
  start_units(op);
}

void Context::start_units(Op& op) {
  switch (op.spec->kind) {
    case Kind::kGet:
      return start_get(op);
    case Kind::kPut:
    case Kind::kWrite:
      return start_change(op);
    default:
      break;
  }
  Unit& unit = new_unit(op, wire_kind(op.spec->kind), 0, 0, {});
  if (op.spec->kind == Kind::kList) unit.worker = op.spec->admin->worker;
  op.server->route(unit);
}

Unit& Context::new_unit(Op& op, OpKind kind, uint64_t offset, uint64_t length, PiecePlace place) {
  Unit& unit = units_.take();
  unit.op = &op;
  unit.kind = kind;
  unit.offset = offset;
  unit.length = static_cast<uint32_t>(length);
  unit.place = place;
  op.units.push_back(unit);
  return unit;
}

/// All units leave at once; replies of different generations are found out at the end
/// (docs/decisions/0003-units-of-one-large-get-leave-at-once.md).
void Context::start_get(Op& op) {
  PiecePlace place;
  uint64_t at = 0;
  do {
    const uint64_t offset = op.spec->offset + at;
    const uint64_t bytes = std::min(op.bytes - at, left_in_chunk(offset));
    new_unit(op, OpKind::kGet, offset, bytes, place);
    place.advance(op.pieces, bytes);
    at += bytes;
  } while (at < op.bytes);
  route_ready(op);
}

/// Routes units that are in no queue yet and whose bytes are there. Any of them may end the op.
void Context::route_ready(Op& op) {
  const size_t count = op.units.size();
  Unit* unit = op.units.front();
  for (size_t i = 0; i < count; i++) {
    Unit* next = op.units.next(*unit);
    if (const Status refusal = op.server->refusal_of(op); refusal != Status::kOk) return on_refused(*unit, refusal);
    const bool at_rest = unit->queue == nullptr && unit->frame == nullptr;
    if (at_rest && op.is_ready(*unit)) op.server->route(*unit);
    unit = next;
  }
}

void Context::start_change(Op& op) {
  if (crosses_chunks(op)) return start_upload(op);
  const OpKind kind = op.spec->kind == Kind::kPut ? OpKind::kPut : OpKind::kWrite;
  new_unit(op, kind, op.spec->offset, op.bytes, {});
  route_ready(op);
}

/// BEGIN says how large the block becomes.
Unit& Context::begin_upload(Op& op) {
  op.phase = Op::Phase::kBegin;
  op.pinned = nullptr;
  op.pinned_epoch = op.upload = 0;
  return new_unit(op, OpKind::kBegin, op.spec->offset + op.bytes, 0, {});
}

void Context::start_upload(Op& op) { op.server->route(begin_upload(op)); }

void Context::restart_upload(Op& op) {
  MEMKV_ASSERT(!op.finishing);
  while (Unit* unit = op.units.front()) drop_unit(*unit);
  retry_later(begin_upload(op));
}

void Context::send_chunks(Op& op, Connection& connection, uint64_t upload) {
  op.phase = Op::Phase::kChunks;
  op.pinned = &connection;
  op.pinned_epoch = connection.epoch();
  op.upload = upload;
  PiecePlace place;
  for (uint64_t at = 0; at < op.bytes;) {
    const uint64_t offset = op.spec->offset + at;
    const uint64_t bytes = std::min(op.bytes - at, left_in_chunk(offset));
    new_unit(op, OpKind::kChunk, offset, bytes, place);
    place.advance(op.pieces, bytes);
    at += bytes;
  }
  route_ready(op);
}

void Context::feed(Call& call, uint32_t index, uint64_t bytes) {
  for (Op& op : call.ops) {
    if (op.index != index) continue;
    MEMKV_ASSERT(op.ready_bytes <= bytes && bytes <= op.bytes, "a feed grows, and ends with the pieces");
    op.ready_bytes = bytes;
    if (op.finishing || op.phase == Op::Phase::kCommit) return;
    op.upload_is_lost() ? restart_upload(op) : route_ready(op);
    return pump();
  }
}

/// A flush goes to every worker, once it is known how many there are. By another map it goes to all of that one: shards
/// that no worker has answered for yet may have gone to one that has answered.
void Context::expand_flush(Unit& unit, uint16_t workers, uint64_t map) {
  Op& op = *unit.op;
  op.expanded_by = map;
  for (Unit& other : op.units) {
    if (&other != &unit && other.frame == nullptr) drop_unit(other);
  }
  unit.worker = 0;
  for (uint16_t worker = 1; worker < workers; worker++) {
    Unit& more = new_unit(op, OpKind::kFlush, 0, 0, {});
    more.worker = worker;
    op.server->route(more);
  }
}

// Replies.

/// True: it was not now, and the unit is on its way again.
bool Context::try_again(Unit& unit, const OpReply& reply) {
  Op& op = *unit.op;
  if (reply.status == Status::kBusy && (reply.flags & wire::kReplyFenced) != 0) {
    counters_.fenced.add();  // it goes again, under the present epoch
  } else if (reply.status == Status::kDeadline && now_ns() + kTooLateNs < op.deadline_ns) {
    // The server's time was known badly when the frame was made: by ours the op is not over.
    if (op.phase == Op::Phase::kChunks || op.phase == Op::Phase::kCommit) return restart_upload(op), true;
  } else if (reply.status == Status::kBusy || reply.status == Status::kNotReady) {
    op.refusal = reply.status;
  } else if (reply.status != Status::kWrongWorker) {
    return false;
  } else if (op.phase == Op::Phase::kChunks || op.phase == Op::Phase::kCommit) {
    restart_upload(op);
    return true;
  }
  retry_later(unit);
  return true;
}

void Context::on_reply(Unit& unit, Connection& from, const OpReply& reply) {
  Op& op = *unit.op;
  if (try_again(unit, reply)) return;
  if (reply.status == Status::kUnavailable) return on_refused(unit, reply.status);  // it is stopping
  if (op.spec->kind == Kind::kGet) return on_get_reply(unit, reply);
  if (op.phase != Op::Phase::kSingle) return on_upload_reply(unit, from, reply);
  drop_unit(unit);
  fold(op.outcome.status, reply.status);
  op.outcome.generation = std::max(op.outcome.generation, reply.generation);
  op.outcome.block_bytes = reply.block_bytes;
  op.outcome.exists = op.spec->kind == Kind::kStat && reply.status == Status::kOk;
  const bool stored = op.spec->kind == Kind::kPut || op.spec->kind == Kind::kWrite;
  if (stored && reply.status == Status::kOk) op.outcome.bytes = op.bytes;
  if (op.units.empty()) finish(op, op.outcome.status);
}

void Context::on_upload_reply(Unit& unit, Connection& from, const OpReply& reply) {
  Op& op = *unit.op;
  const bool ok = reply.status == Status::kOk;
  drop_unit(unit);
  if (!ok) {
    op.outcome.generation = reply.generation;
    return give_up(op, reply.status);  // the server's answer to a commit is final: nothing of it is under way
  }
  if (op.phase == Op::Phase::kBegin) return send_chunks(op, from, reply.generation);
  if (op.phase == Op::Phase::kCommit) {
    op.outcome.generation = reply.generation;
    op.outcome.block_bytes = reply.block_bytes;
    op.outcome.bytes = op.bytes;
    return finish(op, Status::kOk);
  }
  if (!op.units.empty()) return;
  op.phase = Op::Phase::kCommit;
  op.server->route(new_unit(op, OpKind::kCommit, 0, 0, {}));
}

void Context::on_get_reply(Unit& unit, const OpReply& reply) {
  Op& op = *unit.op;
  Outcome& outcome = op.outcome;
  Status status = reply.status;
  if (status == Status::kOk) {
    const uint64_t behind = reply.block_bytes > unit.offset ? reply.block_bytes - unit.offset : 0;
    if (reply.payload_bytes != std::min<uint64_t>(unit.length, behind)) {
      MEMKV_LOG_EVERY(1, kError, "server {}: a get was answered with too few bytes", op.server->name());
      status = Status::kMiss;
    }
  }
  if (status == Status::kCorrupt) status = Status::kMiss;  // the server found rot, and dropped the block
  if (status == Status::kOk) {
    op.generations_differ =
        op.generations_differ || (outcome.generation != 0 && outcome.generation != reply.generation);
    if (reply.generation >= outcome.generation) outcome.block_bytes = reply.block_bytes;
    outcome.bytes += reply.payload_bytes;
  }
  outcome.generation = std::max(outcome.generation, reply.generation);
  fold(outcome.status, status);
  drop_unit(unit);
  if (op.units.empty()) finish_get(op);
}

void Context::finish_get(Op& op) {
  Outcome& outcome = op.outcome;
  const bool torn =
      outcome.status == Status::kOk ? op.generations_differ : outcome.status == Status::kChanged && op.asked_again;
  if (torn && !op.asked_again) return ask_again(op);
  if (torn) outcome.status = Status::kMiss;
  if (outcome.status != Status::kOk) outcome.bytes = 0;
  finish(op, outcome.status);
}

/// The block was replaced in the middle: once more, and now all of the newest version.
void Context::ask_again(Op& op) {
  counters_.retries.add();
  op.asked_again = true;
  op.generations_differ = false;
  if (op.spec->if_generation == 0) op.demanded = op.outcome.generation;
  op.outcome = {};
  op.outcome.status = Status::kOk;
  start_get(op);
  pump();
}

void Context::on_exists(Unit& unit, bool there) {
  Op& op = *unit.op;
  drop_unit(unit);
  op.outcome.exists = there;
  finish(op, there ? Status::kOk : Status::kMiss);
}

/// There is no such worker any more: what it had, the others have, and they are asked.
void Context::on_flushed(Unit& unit) {
  Op& op = *unit.op;
  drop_unit(unit);
  if (op.units.empty()) finish(op, op.outcome.status);
}

void Context::on_admin_done(Unit& unit) {
  Op& op = *unit.op;
  drop_unit(unit);
  finish(op, Status::kOk);
}

void Context::on_mismatch(Unit& unit, Connection& from) {
  Op& op = *unit.op;
  counters_.corrupt.add();
  MEMKV_LOG_EVERY(1, kError, "server {}: {} bytes at {} of a block do not match their checksum; reported to it",
                  op.server->name(), unit.length, unit.offset);
  from.send_suspect(op.key, unit.offset);
  if (!std::exchange(unit.mismatched, true)) return retry_later(unit);
  OpReply miss;
  miss.status = Status::kMiss;
  on_get_reply(unit, miss);
}

}  // namespace memkv::client
