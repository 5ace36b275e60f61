#include <algorithm>

#include "base/log.h"
#include "client/ops/steps.h"

namespace memkv::client {
namespace {

/// What the reply says of the unit: kMiss where its bytes are not to be had, or not all of them.
Status status_of(const Op& op, const Unit& unit, const wire::OpReply& reply) {
  if (reply.status == Status::kCorrupt) return Status::kMiss;  // the server found rot, and dropped the block
  if (reply.status != Status::kOk) return reply.status;
  const uint64_t behind = reply.block_bytes > unit.offset ? reply.block_bytes - unit.offset : 0;
  if (reply.payload_bytes == std::min<uint64_t>(unit.length, behind)) return Status::kOk;
  MEMKV_LOG_EVERY(1, kError, "server {}: a get was answered with too few bytes", op.server->name());
  return Status::kMiss;
}

/// The block was replaced in the middle: once more, and now all of the newest version.
Next ask_again(Units& units, Op& op) {
  MEMKV_ASSERT(op.step == Step::kAsking);
  op.step = Step::kAskingAgain;
  units.counters().retries.add();
  op.generations_differ = false;
  if (op.spec->if_generation == 0) op.demanded = op.outcome.generation;
  op.outcome = {};
  op.outcome.status = Status::kOk;
  const Next next = start_get(units, op);
  return next.what == Next::What::kWait ? Next{Next::What::kSend} : next;
}

/// All units are answered.
Next end_get(Units& units, Op& op) {
  Outcome& outcome = op.outcome;
  const bool again = op.step == Step::kAskingAgain;
  const bool torn = outcome.status == Status::kOk ? op.generations_differ : outcome.status == Status::kChanged && again;
  if (torn && !again) return ask_again(units, op);
  if (torn) outcome.status = Status::kMiss;
  if (outcome.status != Status::kOk) outcome.bytes = 0;
  return {Next::What::kEnd, outcome.status};
}

}  // namespace

Next start_get(Units& units, Op& op) {
  MEMKV_ASSERT(is_asking(op.step) && op.units.empty());
  units.make_chunks(op, wire::OpKind::kGet);
  return Next::wait_unless(route_ready(op));
}

/// Replies of different generations are found out when all are there.
Next on_get_reply(Units& units, Unit& unit, const wire::OpReply& reply) {
  Op& op = op_of(unit);
  MEMKV_ASSERT(is_asking(op.step) && unit.kind == wire::OpKind::kGet);
  Outcome& outcome = op.outcome;
  const Status status = status_of(op, unit, reply);
  if (status == Status::kOk) {
    if (outcome.generation != 0 && outcome.generation != reply.generation) op.generations_differ = true;
    if (reply.generation >= outcome.generation) outcome.block_bytes = reply.block_bytes;
    outcome.bytes += reply.payload_bytes;
  }
  outcome.generation = std::max(outcome.generation, reply.generation);
  fold(outcome.status, status);
  units.drop(unit);
  return op.units.empty() ? end_get(units, op) : Next{};
}

}  // namespace memkv::client
