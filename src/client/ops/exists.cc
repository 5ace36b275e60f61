#include "client/ops/steps.h"

namespace memkv::client {
namespace {

/// EXISTS has a message of its own: its unit has no kind on the wire.
wire::OpKind wire_kind(Kind kind) {
  if (kind == Kind::kTouch) return wire::OpKind::kTouch;
  if (kind == Kind::kPrefetch) return wire::OpKind::kPrefetch;
  return kind == Kind::kStat ? wire::OpKind::kStat : wire::OpKind::kGet;
}

}  // namespace

Next start_exists(Units& units, Op& op) {
  MEMKV_ASSERT(op.step == Step::kAsking);
  op.server->route(units.make(op, wire_kind(op.spec->kind), 0, 0, {}));
  return {};
}

Next on_exists_reply(Units& units, Unit& unit, const wire::OpReply& reply) {
  Op& op = op_of(unit);
  MEMKV_ASSERT(op.step == Step::kAsking);
  units.drop(unit);
  op.outcome.generation = reply.generation;
  op.outcome.block_bytes = reply.block_bytes;
  op.outcome.exists = op.spec->kind != Kind::kTouch && reply.status == Status::kOk;
  return {Next::What::kEnd, reply.status};
}

/// A server that has no place for a hint has chosen not to take it.
Next on_prefetch_reply(Units& units, Unit& unit, const wire::OpReply& reply) {
  Op& op = op_of(unit);
  (void)on_exists_reply(units, unit, reply);
  op.outcome.exists = reply.generation != 0;  // also of a block whose hint was refused
  const bool later = reply.status == Status::kBusy || reply.status == Status::kNotReady;
  return {Next::What::kEnd, later ? Status::kRefused : reply.status};
}

}  // namespace memkv::client
