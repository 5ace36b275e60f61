#include "client/ops/steps.h"

namespace memkv::client {
namespace {

using wire::OpKind;

/// BEGIN says how large the block becomes.
Unit& begin(Units& units, Op& op) {
  MEMKV_ASSERT(op.units.empty() && op.step != Step::kEnded);
  op.step = Step::kBegin;
  op.pinned = {};
  op.upload = 0;
  return units.make(op, OpKind::kBegin, op.spec->offset + op.bytes, 0, {});
}

/// BEGIN was answered over this link: chunks and commit follow it there.
Next send_chunks(Units& units, Op& op, Path link, uint64_t upload) {
  op.step = Step::kChunks;
  op.pinned = link;
  op.upload = upload;
  units.make_chunks(op, OpKind::kChunk);
  return Next::wait_unless(route_ready(op));
}

}  // namespace

Next start_upload(Units& units, Op& op) {
  MEMKV_ASSERT(op.step == Step::kAsking && is_upload(op));
  op.server->route(begin(units, op));
  return {};
}

void restart_upload(Units& units, Op& op) {
  MEMKV_ASSERT(is_upload(op.step));
  units.drop_all(op);
  units.retry_later(begin(units, op));
}

Next on_upload_reply(Units& units, Unit& unit, const wire::OpReply& reply, Path from) {
  Op& op = op_of(unit);
  MEMKV_ASSERT(is_upload(op.step));
  units.drop(unit);
  if (reply.status != Status::kOk) {
    op.outcome.generation = reply.generation;
    return {Next::What::kGiveUp, reply.status};  // the answer to a commit is final: nothing of it is under way
  }
  if (op.step == Step::kBegin) return send_chunks(units, op, from, reply.generation);
  if (op.step == Step::kCommit) {
    op.outcome.generation = reply.generation;
    op.outcome.block_bytes = reply.block_bytes;
    op.outcome.bytes = op.bytes;
    return {Next::What::kEnd, Status::kOk};
  }
  MEMKV_ASSERT(op.step == Step::kChunks);
  if (!op.units.empty()) return {};
  op.step = Step::kCommit;
  op.server->route(units.make(op, OpKind::kCommit, 0, 0, {}));
  return {};
}

}  // namespace memkv::client
