#include <algorithm>

#include "client/ops/steps.h"

namespace memkv::client {
namespace {

using wire::OpKind;

/// A flush goes to every worker, once it is known how many there are. By another map it goes to all of that one: shards
/// that no worker has answered for yet may have gone to one that has answered.
void expand_flush(Units& units, Unit& unit, Remote::Workers workers) {
  Op& op = op_of(unit);
  op.expanded_by = workers.map;
  for (Unit& other : op.units) {
    if (&other != &unit && other.frame == nullptr) units.drop(other);
  }
  unit.worker = 0;
  for (uint16_t worker = 1; worker < workers.count; worker++) {
    Unit& more = units.make(op, OpKind::kFlush, 0, 0, {});
    more.worker = worker;
    op.server->route(more);
  }
}

}  // namespace

Next start_admin(Units& units, Op& op) {
  MEMKV_ASSERT(op.step == Step::kAsking && op.spec->admin);
  const bool flush = op.spec->kind == Kind::kFlush;
  // STATUS and LIST have messages of their own: their units have no kind on the wire.
  Unit& unit = units.make(op, flush ? OpKind::kFlush : OpKind::kGet, 0, 0, {});
  if (op.spec->kind == Kind::kList) unit.worker = op.spec->admin->worker;
  flush ? route_flush(units, unit) : op.server->route(unit);
  return {};
}

void route_flush(Units& units, Unit& unit) {
  Op& op = op_of(unit);
  MEMKV_ASSERT(op.step == Step::kAsking && unit.kind == OpKind::kFlush);
  const Remote::Workers workers = op.server->workers();
  if (workers.count > 0 && op.expanded_by != workers.map) expand_flush(units, unit, workers);
  op.server->route(unit);
}

/// A flush ends when every worker has answered, and what outweighs the others' answers is its outcome.
Next on_admin_reply(Units& units, Unit& unit, const wire::OpReply& reply) {
  Op& op = op_of(unit);
  MEMKV_ASSERT(op.step == Step::kAsking);
  units.drop(unit);
  fold(op.outcome.status, reply.status);
  op.outcome.generation = std::max(op.outcome.generation, reply.generation);
  op.outcome.block_bytes = reply.block_bytes;
  return op.units.empty() ? Next{Next::What::kEnd, op.outcome.status} : Next{};
}

}  // namespace memkv::client
