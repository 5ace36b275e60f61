#include "shard/connection.h"

#include <cstring>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "shard/worker.h"

namespace memkv::shard {

using transport::PayloadTarget;

void Connection::open(Worker& worker, uint64_t namespace_id) {
  MEMKV_ASSERT(reapable() || worker_ == nullptr, "a connection that is still in use");
  worker_ = &worker;
  namespace_id_ = namespace_id;
  closing_ = closed_ = owes_map_ = leaving_ = paused_ = false;
  opened_ns_ = worker.now_ns();
}

void Connection::attach(std::unique_ptr<transport::Link> link, Transport transport) {
  link_ = std::move(link);
  transport_ = transport;
  send_room_ = link_->send_room();
  worker_->count_connection(transport, 1);
}

/// The first frame of a connection. Ops follow only behind WELCOME, so no op is ever on its way over a connection whose
/// client the worker does not know.
void Connection::on_introduce(const wire::FrameHeader& header, std::span<const std::byte> body) {
  if (header.opcode != wire::Opcode::kIntroduce) return protocol_error("another frame came before INTRODUCE");
  const auto introduce = wire::decode_introduce(body);
  if (!introduce) return protocol_error(introduce.error().what);
  client_ = &worker_->clients().join(namespace_id_, introduce->client_id);
  welcome();
}

void Connection::welcome() {
  credit_told_ = worker_->credit_now();
  const Identity& identity = worker_->identity();
  wire::Welcome welcome;
  welcome.boot_id = identity.boot_id;
  welcome.store_id = identity.store_id;
  welcome.namespace_id = namespace_id_;
  welcome.shard_seed = identity.shard_seed;
  welcome.block_bytes_max = worker_->block_bytes_max();
  welcome.worker = worker_->index();
  welcome.worker_count = identity.worker_count;
  welcome.credit = credit_told_;
  welcome.ready = worker_->ready() ? 1 : 0;
  welcome.shard_count = identity.shard_count;
  welcome.worker_of_shard = identity.worker_of_shard;
  if (!send_control(wire::Opcode::kWelcome, 0, [&](auto body) { return wire::encode(welcome, body); })) {
    close(Status::kBusy);
  }
}

void Connection::recycle() {
  MEMKV_ASSERT(reapable(), "recycled while in use");
  MEMKV_ASSERT(uploads_.empty() && replying_.empty() && loaded_.empty());
  MEMKV_ASSERT(waits_send_.empty() && send_room_used_.requests == 0 && send_room_used_.bytes == 0);
  if (client_ != nullptr) worker_->clients().leave(*std::exchange(client_, nullptr));
  link_.reset();
}

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
      on_exists(header.request_id, body);
      break;
    case wire::Opcode::kCancel:
      on_cancel(body);
      break;
    case wire::Opcode::kPing:
      if (!send_empty(wire::Opcode::kPong, header.request_id)) close(Status::kBusy);
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

PayloadTarget Connection::on_ops(const wire::FrameHeader& header, std::span<const std::byte> body) {
  wire::OpsDecoder decoder(body);
  if (const auto count = decoder.validate(header.payload_bytes); !count) {
    protocol_error(count.error().what);
    return PayloadTarget::sink();
  }
  Request* request = worker_->requests().take();
  if (request == nullptr) {
    reject_all(header.request_id, body, Status::kBusy);
    return PayloadTarget::sink();
  }
  request->connection = this;
  request->id = header.request_id;
  MEMKV_ASSERT(request->live == 0);
  request->live = 1;  // held until all are admitted

  const uint64_t now = worker_->now_ns();
  FrameOut* rejects = nullptr;
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
    Op* op = admit(wire_op, *request, now);
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
    if (op->flags & wire::kOpChained) {
      if (previous != nullptr && previous->phase != Phase::kDone) {
        previous->chained = op;
        op->waits_for = previous;
      } else {
        op->chain_failed = previous != nullptr ? is_failure(previous->status) : previous_failed;
      }
    }
    previous = op;
    previous_failed = false;
    const Status status = check(*op);
    if (status != Status::kOk) {
      finish(*op, status);
      if (wire::has_payload(op->kind)) incoming_[incoming_count_ - 1].op = nullptr;
      continue;
    }
    if (wire::has_payload(op->kind)) {
      op->seed = chunk_seed_of(*op);
      continue;
    }
    op->received = true;
    if (op->waits_for == nullptr) start(*op);
  }
  if (rejects != nullptr) send_rejects();
  request->live--;
  if (request->live == 0) worker_->requests().give_back(*request);
  if (incoming_count_ == 0) return PayloadTarget::sink();
  if (closing_) {
    give_room_back();
    return PayloadTarget::sink();
  }
  if (worker_->puts_wait() || !take_all_room()) {
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
      worker_->wait_for_room(*this);
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
Op* Connection::admit(const wire::Op& wire_op, Request& request, uint64_t now_ns) {
  if (live_.size() * 2 >= worker_->ops().size()) return nullptr;  // one client never has all of them
  Op* op = worker_->ops().take();
  if (op == nullptr) return nullptr;
  op->connection = this;
  op->request = &request;
  op->shard = nullptr;
  op->upload = nullptr;
  op->chained = op->waits_for = nullptr;
  op->kind = wire_op.kind;
  op->flags = wire_op.flags;
  op->priority = wire_op.priority;
  op->index = wire_op.index;
  op->length = wire_op.length;
  op->chunk_number = wire_op.chunk_number;
  op->expiry_s = wire_op.expiry_s;
  op->offset = wire_op.offset;
  op->generation = wire_op.generation;
  op->deadline_ns = now_ns + (wire_op.deadline_us == 0 ? kServerDeadlineNs : uint64_t{wire_op.deadline_us} * 1000);
  op->phase = Phase::kWaiting;
  op->received = op->chain_failed = op->canceled = op->reading = false;
  op->attempts = 0;
  op->slot = {};
  op->reservation = {};
  op->send_room = {};
  op->hashed_bytes = 0;
  op->sum_count = wire_op.sum_count;
  if (wire_op.sum_count > 0) std::memcpy(op->sums.data(), wire_op.sums, size_t{wire_op.sum_count} * 8);
  op->segment_count = wire_op.segment_count;
  for (size_t i = 0; i < wire_op.segment_count; i++) op->segments[i] = wire_op.segment(i);
  op->status = Status::kInternal;
  op->reply_flags = 0;
  op->reply_expiry_s = 0;
  op->reply_generation = op->reply_block_bytes = 0;
  op->reply_data = nullptr;
  op->reply_bytes = 0;
  op->reply_sums = nullptr;
  op->reply_sum_count = 0;
  std::memcpy(op->key_bytes.data(), wire_op.key.data(), wire_op.key.size());
  op->key.namespace_id = namespace_id_;
  op->key.key = {op->key_bytes.data(), wire_op.key.size()};
  request.live++;
  live_.push_back(*op);
  worker_->count(worker_->mutable_stats().ops);
  return op;
}

/// What can be said before the payload is taken. Finds the op's shard, or its upload.
Status Connection::check(Op& op) {
  if (worker_->draining()) return Status::kUnavailable;
  if (!worker_->ready()) return Status::kNotReady;
  switch (op.kind) {
    case wire::OpKind::kChunk:
    case wire::OpKind::kCommit:
    case wire::OpKind::kAbort: {
      Upload* upload = worker_->find_upload(op.generation);
      if (upload == nullptr || upload->connection != this || upload->closed || upload->committing) {
        return Status::kInvalid;
      }
      op.upload = upload;
      op.shard = upload->shard;
      upload->ops++;
      return Status::kOk;
    }
    case wire::OpKind::kFlush:
      return Status::kOk;
    case wire::OpKind::kPin:
      return Status::kInvalid;
    default:
      break;
  }
  op.shard = worker_->shard_of(op.key.key, namespace_id_);
  if (op.shard == nullptr) {
    owes_map_ = true;
    worker_->count(worker_->mutable_stats().wrong_worker);
    return Status::kWrongWorker;
  }
  const uint64_t limit = worker_->block_bytes_max();
  if (op.kind == wire::OpKind::kBegin && op.offset > limit) return Status::kTooLarge;
  if (op.kind == wire::OpKind::kWrite && (op.offset > limit || op.length > limit - op.offset)) return Status::kTooLarge;
  if (op.kind == wire::OpKind::kPut && op.length > limit) return Status::kTooLarge;
  op.key.digest = engine::digest_of(worker_->identity().digest_key, namespace_id_, op.key.key);
  return Status::kOk;
}

/// All ops of a frame for which there is not even a request context.
void Connection::reject_all(uint64_t request_id, std::span<const std::byte> body, Status status) {
  wire::OpsDecoder decoder(body);
  wire::Op op;
  bool more = decoder.next(op);
  while (more) {
    FrameOut* frame = take_control_frame();
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
    if (op.request->id != cancel->request_id || op.index != cancel->op_index) continue;
    if (stop_waiting(op)) {
      op.canceled = true;
      finish(op, Status::kCanceled);
    } else if (op.phase == Phase::kWaiting || (op.phase == Phase::kRunning && op.kind == wire::OpKind::kGet)) {
      op.canceled = true;  // seen when its payload is complete, its turn comes, or its bytes have come
    } else if (op.phase == Phase::kDone && op.reply_bytes > 0) {
      take_back_reply(op);
    }
    return;  // otherwise its reply is on the way
  }
}

void Connection::on_exists(uint64_t request_id, std::span<const std::byte> body) {
  wire::ExistsDecoder decoder(body);
  const auto count = decoder.validate();
  if (!count) return protocol_error(count.error().what);
  if (worker_->draining()) return fail_request(request_id, Status::kUnavailable);
  if (!worker_->ready()) return fail_request(request_id, Status::kNotReady);
  std::array<uint8_t, wire::kKeysPerExistsMax / 8> bits{};
  std::string_view key;
  const engine::BlockKey base{.digest = {}, .namespace_id = namespace_id_, .key = {}};
  for (uint32_t i = 0; decoder.next(key); i++) {
    Shard* shard = worker_->shard_of(key, namespace_id_);
    if (shard == nullptr) {
      owes_map_ = true;
      worker_->count(worker_->mutable_stats().wrong_worker);
      fail_request(request_id, Status::kWrongWorker);
      return worker_->dirty(*this);
    }
    engine::BlockKey block = base;
    block.key = key;
    block.digest = engine::digest_of(worker_->identity().digest_key, namespace_id_, key);
    const bool there = decoder.touch() ? shard->store->touch(block) : shard->store->exists(block);
    if (there) bits[i / 8] = static_cast<uint8_t>(bits[i / 8] | (1u << (i % 8)));
  }
  worker_->count(worker_->mutable_stats().ops);
  if (!send_control(wire::Opcode::kExistsReply, request_id,
                    [&](auto out) { return wire::encode_exists_reply(bits, *count, out); })) {
    close(Status::kBusy);
  }
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
  FrameOut* frame = take_control_frame();
  if (frame == nullptr) return close(status);
  frame->out.opcode = wire::Opcode::kGoodbye;
  frame->out.body = {frame->body.data(), wire::encode(wire::Goodbye{status, text}, std::span<std::byte>(frame->body))};
  frame->after = [](FrameOut& done, bool) { done.connection->close(Status::kOk); };
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
  worker_->stop_waiting(*this);
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

const char* Connection::stalls(uint64_t now_ns, uint64_t ns, uint64_t introduce_ns) {
  if (client_ == nullptr && now_ns >= opened_ns_ + introduce_ns) return "introduce itself";
  if (link_->bytes_queued() == 0) nothing_out_ns_ = now_ns;
  if (!in_payload()) nothing_in_ns_ = now_ns;
  if (now_ns >= std::max(nothing_out_ns_, link_->last_sent_ns()) + ns) return "read its replies";
  if (now_ns >= std::max(nothing_in_ns_, link_->last_received_ns()) + ns) return "send the rest of a block";
  return nullptr;
}

/// Of ops that ended without an abort: it was lost, or refused.
void Connection::expire_uploads() {
  const uint64_t now = worker_->now_ns();
  for (Upload& upload : uploads_) {
    if (upload.ops == 0 && now >= upload.deadline_ns) abort_upload(upload);
  }
}

void Connection::unhold() {
  MEMKV_ASSERT(extra_ > 0);
  extra_--;
  worker_->dirty(*this);
}

}  // namespace memkv::shard
