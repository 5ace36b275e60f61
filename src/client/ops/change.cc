#include "client/ops/steps.h"

namespace memkv::client {

using wire::OpKind;

bool is_upload(const Op& op) {
  if (op.spec->kind == Kind::kPut) return op.bytes > kChunkBytesMax;
  return op.spec->kind == Kind::kWrite && op.bytes > kChunkBytesMax - op.spec->offset % kChunkBytesMax;
}

Next start_change(Units& units, Op& op) {
  MEMKV_ASSERT(op.step == Step::kAsking && !is_upload(op));
  if (op.spec->kind == Kind::kRemove) {
    op.server->route(units.make(op, OpKind::kRemove, 0, 0, {}));
    return {};
  }
  units.make(op, op.spec->kind == Kind::kPut ? OpKind::kPut : OpKind::kWrite, op.spec->offset, op.bytes, {});
  return Next::wait_unless(route_ready(op));
}

Next on_change_reply(Units& units, Unit& unit, const wire::OpReply& reply) {
  Op& op = op_of(unit);
  MEMKV_ASSERT(op.step == Step::kAsking);
  units.drop(unit);
  MEMKV_ASSERT(op.units.empty(), "a change of one chunk is one unit");
  op.outcome.generation = reply.generation;
  op.outcome.block_bytes = reply.block_bytes;
  if (op.spec->kind != Kind::kRemove && reply.status == Status::kOk) op.outcome.bytes = op.bytes;
  return {Next::What::kEnd, reply.status};
}

}  // namespace memkv::client
