#include "shard/connection.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "base/test_rules.h"
#include "shard/worker.h"

namespace memkv::shard {

namespace {

// Where others wait for slots, a client that holds one moves this much, or is cut; where nobody waits, next to nothing.
constexpr uint64_t kContendedNs = 2'000'000'000;
constexpr uint64_t kContendedBytesPerSecond = 64 * 1024, kIdleBytesPerSecond = 1024;

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

}  // namespace

using transport::PayloadTarget;

void Connection::open(Worker& worker, Tenant& tenant) {
  MEMKV_ASSERT(reapable() || worker_ == nullptr, "a connection that is still in use");
  worker_ = &worker;
  tenant_ = &tenant;
  holder_ = &tenant.unknown;
  namespace_id_ = tenant.namespace_id;
  closing_ = closed_ = owes_map_ = leaving_ = paused_ = turned_away_ = false;
  pace_out_ = pace_in_ = {};
  bytes_given_ = bytes_received_ = payload_arrived_ = 0;
  opened_ns_ = worker.now_ns();
  client_name_ = {};
}

void Connection::attach(std::unique_ptr<transport::Link> link, Transport transport) {
  link_ = std::move(link);
  transport_ = transport;
  send_room_ = link_->send_room();
  worker_->count_connection(transport, 1);
}

void Connection::recycle() {
  MEMKV_ASSERT(reapable(), "recycled while in use");
  MEMKV_ASSERT(uploads_.empty() && replying_.empty() && loaded_.empty());
  MEMKV_ASSERT(waits_send_.empty() && waits_slot_.empty());
  MEMKV_ASSERT(send_room_used_.requests == 0 && send_room_used_.bytes == 0);
  if (client_ != nullptr) {
    worker_->client_board().remove(board_place_);
    worker_->part_from(*std::exchange(client_, nullptr));
  }
  link_.reset();
}

/// Every frame of a client comes in here. Only OPS has a payload; everything else is dealt with at once and answers that
/// no payload is to be read.
PayloadTarget Connection::on_frame(transport::Link&, const wire::FrameHeader& header, std::span<const std::byte> body) {
  if (closing_ || leaving_) return PayloadTarget::sink();
  MEMKV_ASSERT(incoming_count_ == 0, "a frame before the payload of the last one");
  if (header.opcode == wire::Opcode::kOps && client_ != nullptr) return on_ops(header, body);
  if (header.payload_bytes > 0) {
    protocol_error("a payload where none belongs");
    return PayloadTarget::sink();
  }
  if (client_ == nullptr) {
    on_introduce(header, body);
    return PayloadTarget::sink();
  }
  switch (header.opcode) {
    case wire::Opcode::kExists:
      start_exists(*this, header.request_id, body);
      break;
    case wire::Opcode::kCancel:
      on_cancel(body);
      break;
    case wire::Opcode::kPing:
      if (!send_pong(header.request_id)) close(Status::kBusy);
      break;
    case wire::Opcode::kPong:
      break;
    case wire::Opcode::kStatus:
      start_status(*this, header.request_id);
      break;
    case wire::Opcode::kList:
      start_list(*this, header.request_id, body);
      break;
    case wire::Opcode::kGoodbye:
      close(Status::kOk);
      break;
    default:
      protocol_error("an opcode that a server does not take");
  }
  return PayloadTarget::sink();
}

/// A frame of ops: gives each op a context, links those that are chained, refuses at once what cannot be done, starts
/// what needs no payload, and says where the payload of the others is to be read. Without room for that payload the
/// connection waits: nothing behind the frame is read until there is some.
PayloadTarget Connection::on_ops(const wire::FrameHeader& header, std::span<const std::byte> body) {
  wire::OpsDecoder decoder(body);
  if (const auto count = decoder.validate(header.payload_bytes); !count) {
    protocol_error(count.error().what);
    return PayloadTarget::sink();
  }
  OpsFrame* ops_frame = worker_->ops_frames().take();
  if (ops_frame == nullptr) {
    reject_all(header.request_id, body, Status::kBusy);
    return PayloadTarget::sink();
  }
  ops_frame->connection = this;
  ops_frame->id = header.request_id;
  MEMKV_ASSERT(ops_frame->live == 0);
  ops_frame->live = 1;  // held until all are admitted

  const uint64_t now = worker_->now_ns();
  const wire::OpsHeader frame_header = decoder.header();
  // Before anything of this frame is done: what the client has given up until then is not done behind it.
  client_->epoch = std::max(client_->epoch, frame_header.epoch);
  ReplyFrame* rejects = nullptr;
  std::optional<wire::ReplyEncoder> rejects_encoder;
  const auto send_rejects = [&] {
    rejects->out.opcode = wire::Opcode::kReply;
    rejects->out.request_id = header.request_id;
    rejects->out.body = rejects_encoder->finish();
    (void)send(*rejects);
    rejects = nullptr;
  };
  Op* previous = nullptr;
  bool previous_failed = false;
  wire::Op wire_op;
  while (decoder.next(wire_op)) {
    Op* op = admit(wire_op, *ops_frame, frame_header, now);
    if (wire::has_payload(wire_op.kind)) incoming_[incoming_count_++] = {op, wire_op.length};
    if (op == nullptr) {
      worker_->count(worker_->mutable_stats().busy);
      const wire::OpReply reply{.index = wire_op.index, .status = Status::kBusy};
      if (rejects != nullptr && !rejects_encoder->add(reply, {})) send_rejects();
      if (rejects == nullptr) {
        rejects = take_control_frame();
        if (rejects == nullptr) {
          close(Status::kBusy);
          break;
        }
        rejects_encoder.emplace(rejects->body);
        (void)rejects_encoder->add(reply, {});
      }
      previous = nullptr;
      previous_failed = true;
      continue;
    }
    if (op->request.flags & wire::kOpChained) {
      if (previous != nullptr && previous->phase != Phase::kDone) {
        previous->chained = op;
        op->waits_for = previous;
      } else {
        op->chain_failed = previous != nullptr ? is_failure(previous->reply.status) : previous_failed;
      }
    }
    previous = op;
    previous_failed = false;
    const Status status = check(*op, now);
    if (status != Status::kOk) {
      finish(*op, status);
      if (wire::has_payload(op->request.kind)) incoming_[incoming_count_ - 1].op = nullptr;
      continue;
    }
    if (wire::has_payload(op->request.kind)) {
      op->seed = chunk_seed_of(*op);
      continue;
    }
    op->received = true;
    if (op->waits_for == nullptr) op->chain_failed || closing_ ? start(*op) : begin(*op);
  }
  if (rejects != nullptr) send_rejects();
  ops_frame->live--;
  if (ops_frame->live == 0) worker_->ops_frames().give_back(*ops_frame);
  if (incoming_count_ == 0) return PayloadTarget::sink();
  if (closing_) {
    give_room_back();
    return PayloadTarget::sink();
  }
  if (!holder_->puts.empty() || !take_all_room()) {
    if (header.payload_bytes == 0) {  // blocks of no bytes cannot be held back
      for (uint32_t i = 0; i < incoming_count_; i++) {
        Incoming& incoming = incoming_[i];
        if (incoming.op != nullptr && !take_room(*incoming.op)) {
          finish(*incoming.op, Status::kBusy);
          incoming.op = nullptr;
        }
      }
    } else {
      paused_ = true;
      worker_->tenants().wait(*this);
      return PayloadTarget::pause();
    }
  }
  if (header.payload_bytes == 0) {
    on_payload(*link_);
    return PayloadTarget::sink();
  }
  return target();
}

/// A context for one op, filled from the wire; null: none is free.
Op* Connection::admit(const wire::Op& wire_op, OpsFrame& ops_frame, const wire::OpsHeader& header, uint64_t now_ns) {
  if (live_.size() * 2 >= worker_->ops().size()) return nullptr;  // one client never has all of them
  if (!worker_->tenants().fits(*holder_, kPooledOps)) return nullptr;
  Op* op = worker_->ops().take();
  if (op == nullptr) return nullptr;
  worker_->tenants().take(*holder_, kPooledOps);
  op->state() = {.connection = this, .frame = &ops_frame, .sum_count = wire_op.sum_count};
  op->request = request_of(wire_op, header, now_ns);
  op->reply = {};
  if (wire_op.sum_count > 0) std::memcpy(op->sums.data(), wire_op.sums, size_t{wire_op.sum_count} * 8);
  for (size_t i = 0; i < wire_op.remote_piece_count; i++) op->remote_pieces[i] = wire_op.remote_piece(i);
  std::memcpy(op->key_bytes.data(), wire_op.key.data(), wire_op.key.size());
  op->request.key.namespace_id = namespace_id_;
  op->request.key.key = {op->key_bytes.data(), wire_op.key.size()};
  ops_frame.live++;
  live_.push_back(*op);
  worker_->count(worker_->mutable_stats().ops);
  return op;
}

/// What can be said before the payload is taken. Finds the op's shard, or its upload.
Status Connection::check(Op& op, uint64_t now_ns) {
  if (worker_->draining()) return Status::kUnavailable;
  if (!worker_->ready()) return Status::kNotReady;
  if (now_ns >= op.request.deadline_ns) {
    worker_->count(worker_->mutable_stats().deadlines_missed);
    return Status::kDeadline;
  }
  if (fenced(op)) return Status::kBusy;
  switch (op.request.kind) {
    case wire::OpKind::kChunk:
    case wire::OpKind::kCommit:
    case wire::OpKind::kAbort:
      return check_upload(op);
    case wire::OpKind::kFlush:
      return Status::kOk;
    case wire::OpKind::kPin:
      return Status::kInvalid;
    default:
      break;
  }
  op.shard = worker_->shard_of(op.request.key.key, namespace_id_);
  if (op.shard == nullptr) {
    owes_map_ = true;
    worker_->count(worker_->mutable_stats().wrong_worker);
    return Status::kWrongWorker;
  }
  const uint64_t limit = worker_->block_bytes_max();
  if (op.request.kind == wire::OpKind::kBegin && op.request.offset > limit) return Status::kTooLarge;
  if (op.request.kind == wire::OpKind::kWrite &&
      (op.request.offset > limit || op.request.length > limit - op.request.offset))
    return Status::kTooLarge;
  if (op.request.kind == wire::OpKind::kPut && op.request.length > limit) return Status::kTooLarge;
  op.request.key.digest = engine::digest_of(worker_->identity().digest_key, namespace_id_, op.request.key.key);
  return Status::kOk;
}

Status Connection::check_upload(Op& op) {
  Upload* upload = worker_->find_upload(op.request.generation);
  if (upload == nullptr || upload->connection != this || upload->closed || upload->committing) return Status::kInvalid;
  op.upload = upload;
  op.shard = upload->shard;
  upload->ops++;
  upload->moved_ns = worker_->now_ns();
  return Status::kOk;
}

/// All ops of a frame for which there is not even a request context.
void Connection::reject_all(uint64_t request_id, std::span<const std::byte> body, Status status) {
  wire::OpsDecoder decoder(body);
  wire::Op op;
  bool more = decoder.next(op);
  while (more) {
    ReplyFrame* frame = take_control_frame();
    if (frame == nullptr) return close(Status::kBusy);
    wire::ReplyEncoder encoder(frame->body);
    while (more && encoder.add({.index = op.index, .status = status}, {})) more = decoder.next(op);
    frame->out.opcode = wire::Opcode::kReply;
    frame->out.request_id = request_id;
    frame->out.body = encoder.finish();
    if (!send(*frame)) return;
  }
}

void Connection::on_cancel(std::span<const std::byte> body) {
  const auto cancel = wire::decode_cancel(body);
  if (!cancel) return protocol_error(cancel.error().what);
  for (Upload& upload : uploads_) {  // its id is on the way to somebody who will not use it
    if (upload.begin_request != cancel->request_id || upload.begin_index != cancel->op_index) continue;
    if (upload.ops == 0) abort_upload(upload);
    return;
  }
  for (Op& op : live_) {
    if (op.frame->id != cancel->request_id || op.request.index != cancel->op_index) continue;
    if (stop_waiting(op)) {
      op.canceled = true;
      finish(op, Status::kCanceled);
    } else if (op.phase == Phase::kWaiting || (op.phase == Phase::kRunning && op.request.kind == wire::OpKind::kGet)) {
      op.canceled = true;  // seen when its payload is complete, its turn comes, or its bytes have come
    } else if (op.phase == Phase::kDone && op.reply.bytes > 0) {
      take_back_reply(op);
    }
    return;  // otherwise its reply is on the way
  }
}

/// Its keys are not all this worker's: the client asks again with the map.
void Connection::owe_map(uint64_t request_id) {
  owes_map_ = true;
  worker_->count(worker_->mutable_stats().wrong_worker);
  fail_request(request_id, Status::kWrongWorker);
  worker_->dirty(*this);
}

bool Connection::send_pong(uint64_t request_id) {
  return send_control(wire::Opcode::kPong, request_id,
                      [&](auto body) { return wire::encode(wire::Pong{worker_->now_ns()}, body); });
}

void Connection::fail_request(uint64_t request_id, Status status) {
  const bool sent = send_control(wire::Opcode::kReply, request_id, [&](std::span<std::byte> body) {
    wire::ReplyEncoder encoder(body);
    (void)encoder.add({.index = 0, .status = status}, {});
    return encoder.finish().size();
  });
  if (!sent) close(Status::kBusy);
}

void Connection::protocol_error(const char* what) {
  MEMKV_LOG_EVERY(1, kWarn, "a connection broke the protocol and is closed: {}", what);
  leave(Status::kInvalid, what);
}

void Connection::say_ready() {
  if (!closing_ && client_ != nullptr) (void)send_empty(wire::Opcode::kReady);
}

void Connection::say_credit(const wire::Credit& credit) {
  if (closing_ || client_ == nullptr || credit == credit_told_) return;
  if (send_control(wire::Opcode::kCredit, 0, [&](auto body) { return wire::encode(credit, body); })) {
    credit_told_ = credit;
  }
}

void Connection::leave(Status status, std::string_view text) {
  if (closing_ || leaving_) return;
  leaving_ = true;
  ReplyFrame* frame = take_control_frame();
  if (frame == nullptr) return close(status);
  frame->out.opcode = wire::Opcode::kGoodbye;
  frame->out.body = {frame->body.data(), wire::encode(wire::Goodbye{status, text}, std::span<std::byte>(frame->body))};
  frame->after = [](ReplyFrame& done, bool) { done.connection->close(Status::kOk); };
  (void)send(*frame);
}

void Connection::close(Status why) {
  if (closing_) return;
  closing_ = true;
  if (link_ != nullptr) link_->close(why);
  worker_->dirty(*this);
}

void Connection::on_closed(transport::Link&, const Error& why) {
  MEMKV_ASSERT(!closed_, "closed twice");
  if (!closing_ && why.status != Status::kOk) {
    MEMKV_LOG(kDebug, "a connection ended: {} ({})", why.what, to_string(why.status));
  }
  closing_ = closed_ = true;
  worker_->tenants().stop_waiting(*this);
  paused_ = false;
  give_room_back();
  abort_uploads();
  for (Op& op : live_) {
    if (stop_waiting(op)) {
      finish(op, Status::kCanceled);
    } else if (op.phase == Phase::kWaiting && op.waits_for == nullptr) {
      finish(op, Status::kCanceled);  // what is chained to it follows
    }
  }
  worker_->dirty(*this);
}

/// Of uploads that were begun and neither committed nor aborted.
void Connection::abort_uploads() {
  for (Upload& upload : uploads_) {
    if (!upload.committing) abort_upload(upload);
  }
}

bool Connection::Pace::too_slow(bool under_way, uint64_t total, uint64_t step_ns, uint64_t patience_ns,
                                uint64_t bytes_per_second) {
  if (!under_way) {
    *this = {total, 0};
    return false;
  }
  ns += step_ns;
  if (ns < patience_ns) return false;
  const double wanted = static_cast<double>(bytes_per_second) * static_cast<double>(ns) / 1e9;
  const bool slow = static_cast<double>(total - bytes) < wanted;
  *this = {total, 0};
  return slow;
}

/// Judged by rate: a byte now and then is no sign of life.
const char* Connection::stalls(uint64_t step_ns, uint64_t stalled_ns, uint64_t introduce_ns, bool contended) {
  if (client_ == nullptr && worker_->now_ns() >= opened_ns_ + introduce_ns) return "introduce itself";
  const uint64_t patience_ns = contended ? std::min(kContendedNs, stalled_ns) : stalled_ns;
  const uint64_t rate = contended ? kContendedBytesPerSecond : kIdleBytesPerSecond;
  const uint64_t queued = std::min(link_->bytes_queued(), bytes_given_);
  if (pace_out_.too_slow(queued > 0, bytes_given_ - queued, step_ns, patience_ns, rate)) {
    return "read its replies";
  }
  if (pace_in_.too_slow(in_payload(), bytes_received_, step_ns, patience_ns, rate)) {
    return "send the rest of a block";
  }
  return nullptr;
}

/// Of ops that ended without an abort: it was lost, or refused. Or its client sends nothing more.
void Connection::expire_uploads() {
  const uint64_t now = worker_->now_ns();
  for (Upload& upload : uploads_) {
    if (upload.ops > 0) continue;
    if (now >= upload.deadline_ns || now >= upload.moved_ns + worker_->upload_idle_ns()) abort_upload(upload);
  }
}

void Connection::unhold() {
  MEMKV_ASSERT(extra_ > 0);
  extra_--;
  worker_->dirty(*this);
}

}  // namespace memkv::shard
