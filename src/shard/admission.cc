#include "shard/admission.h"

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/test_rules.h"
#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

namespace {

/// All but the key.
OpRequest request_of(const wire::Op& op, const wire::OpsHeader& header, uint64_t now_ns) {
  const uint64_t left_ns = op.deadline_us == 0 ? kServerDeadlineNs : op.deadline_us * 1000ull;
  const bool now_begins = op.deadline_us == 0 || !base::rules().clients_in_order;
  return {
      .kind = op.kind,
      .flags = op.flags,
      .priority = op.priority,
      .remote_piece_count = op.remote_piece_count,
      .index = op.index,
      .length = op.length,
      .chunk_number = op.chunk_number,
      .expiry_s = op.expiry_s,
      .offset = op.offset,
      .generation = op.generation,
      .deadline_ns = left_ns + (now_begins ? now_ns : std::min(header.made_us * 1000, now_ns)),
      .left_ns = left_ns,
      .epoch = header.epoch,
      .key = {},
  };
}

bool is_too_large(const OpRequest& request, uint64_t limit) {
  switch (request.kind) {
    case wire::OpKind::kBegin:
      return request.offset > limit;
    case wire::OpKind::kWrite:
      return request.offset > limit || request.length > limit - request.offset;
    case wire::OpKind::kPut:
      return request.length > limit;
    default:
      return false;
  }
}

}  // namespace

Admission::Admission(Connection& connection, OpsFrame& frame, const wire::OpsHeader& header)
    : connection_(connection), frame_(frame), header_(header), now_ns_(connection.worker().now_ns()) {}

Op* Admission::admit(const wire::Op& wire_op) {
  Op* op = take_context();
  if (op == nullptr) return nullptr;
  op->state() = {.connection = &connection_, .frame = &frame_, .sum_count = wire_op.sum_count};
  op->request = request_of(wire_op, header_, now_ns_);
  if (!base::rules().shm_in_order && connection_.transport() == Transport::kShm) {
    op->request.deadline_ns = now_ns_ + op->request.left_ns;
  }
  op->reply = {};
  if (wire_op.sum_count > 0) std::memcpy(op->sums.data(), wire_op.sums, size_t{wire_op.sum_count} * 8);
  for (size_t i = 0; i < wire_op.remote_piece_count; i++) op->remote_pieces[i] = wire_op.remote_piece(i);
  std::memcpy(op->key_bytes.data(), wire_op.key.data(), wire_op.key.size());
  op->request.key.namespace_id = connection_.namespace_id();
  op->request.key.key = {op->key_bytes.data(), wire_op.key.size()};
  frame_.live++;
  connection_.add_op(*op);
  return op;
}

Op* Admission::take_context() {
  Worker& worker = connection_.worker();
  if (connection_.ops_live() * 2 >= worker.pools().ops.size()) return nullptr;  // one client never has all of them
  if (!worker.tenants().fits(connection_.holder(), kPooledOps)) return nullptr;
  Op* op = worker.pools().ops.take();
  if (op == nullptr) return nullptr;
  worker.tenants().take(connection_.holder(), kPooledOps);
  worker.count(worker.mutable_stats().ops);
  return op;
}

bool Admission::reject(uint16_t op_index) {
  previous_ = nullptr;
  previous_failed_ = true;
  Worker& worker = connection_.worker();
  worker.count(worker.mutable_stats().busy);
  const wire::OpReply reply{.index = op_index, .status = Status::kBusy};
  if (rejects_ != nullptr && !encoder_->add(reply, {})) send_rejects();
  if (rejects_ != nullptr) return true;
  rejects_ = connection_.replies().take_control_frame();
  if (rejects_ == nullptr) {
    connection_.close(Status::kBusy);
    return false;
  }
  encoder_.emplace(rejects_->body);
  (void)encoder_->add(reply, {});
  return true;
}

void Admission::chain(Op& op) {
  MEMKV_ASSERT(op.frame == &frame_ && op.phase == Phase::kWaiting, "not the one that was just admitted");
  if (op.request.flags & wire::kOpChained) {
    if (previous_ != nullptr && previous_->phase != Phase::kDone) {
      previous_->chained = &op;
      op.waits_for = previous_;
    } else {
      op.chain_failed = previous_ != nullptr ? is_failure(previous_->reply.status) : previous_failed_;
    }
  }
  previous_ = &op;
  previous_failed_ = false;
}

bool Admission::check(Op& op) {
  const Status status = find_status(op);
  if (status != Status::kOk) finish(op, status);
  return status == Status::kOk;
}

/// What can be said of an op before its payload is taken; kOk: nothing, it goes on. An op that goes on has its shard, and
/// its upload where it needs one.
Status Admission::find_status(Op& op) {
  Worker& worker = connection_.worker();
  if (worker.draining()) return Status::kUnavailable;
  if (!worker.ready()) return Status::kNotReady;
  if (now_ns_ >= op.request.deadline_ns) {
    worker.count(worker.mutable_stats().deadlines_missed);
    return Status::kDeadline;
  }
  if (fenced(op)) return Status::kBusy;
  switch (op.request.kind) {
    case wire::OpKind::kChunk:
    case wire::OpKind::kCommit:
    case wire::OpKind::kAbort:
      return connection_.uploads().find(op);
    case wire::OpKind::kFlush:
      return Status::kOk;
    case wire::OpKind::kPin:
      return Status::kInvalid;
    default:
      break;
  }
  engine::BlockKey& key = op.request.key;
  op.shard = worker.stores().find(key.key, key.namespace_id);
  if (op.shard == nullptr) {
    connection_.replies().owe_map();
    return Status::kWrongWorker;
  }
  if (is_too_large(op.request, worker.stores().block_bytes_max())) return Status::kTooLarge;
  key.digest = engine::digest_of(worker.identity().digest_key, key.namespace_id, key.key);
  op.shard->store->expect(key);
  return Status::kOk;
}

void Admission::send_rejects() {
  rejects_->out.opcode = wire::Opcode::kReply;
  rejects_->out.request_id = frame_.id;
  rejects_->out.body = encoder_->finish();
  (void)connection_.replies().send(*rejects_);
  rejects_ = nullptr;
}

void Admission::end() {
  if (rejects_ != nullptr) send_rejects();
}

}  // namespace memkv::shard
