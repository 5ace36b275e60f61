#include "shard/connection_reply.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

namespace {

wire::OpReply reply_of(const Op& op) {
  wire::OpReply reply;
  reply.index = op.request.index;
  reply.status = op.reply.status;
  reply.flags = op.reply.flags;
  reply.payload_bytes = op.reply.bytes;
  reply.generation = op.reply.generation;
  reply.block_bytes = op.reply.block_bytes;
  reply.expiry_s = op.reply.expiry_s;
  return reply;
}

/// Answered with CANCELED, not with a reply.
bool is_canceled(const Op& op) { return op.canceled && op.reply.status == Status::kCanceled; }

bool add(wire::ReplyEncoder& encoder, const Op& op) {
  return encoder.add(reply_of(op), {op.reply.sums, op.reply.sum_count});
}

/// As much of the op's remote pieces as its payload fills, behind the `count` that are there. False: no room for them.
bool add_remote_pieces(std::span<wire::RemotePiece> out, size_t& count, const Op& op) {
  size_t end = count;
  uint32_t left = op.reply.bytes;
  for (size_t i = 0; i < op.request.remote_piece_count && left > 0; i++) {
    if (end == out.size()) return false;
    out[end] = op.remote_pieces[i];
    out[end].length = std::min(out[end].length, left);
    left -= out[end++].length;
  }
  count = end;
  return true;
}

}  // namespace

void ConnectionReplies::op_done(Op& op) {
  MEMKV_ASSERT(op.phase == Phase::kDone, "its status is not known");
  OpsFrame& ops_frame = *op.frame;
  if (op.reply.bytes > 0) {
    ops_frame.done_payload.push_back(op);
    if (!ops_frame.loaded_link.linked()) loaded_.push_back(ops_frame);
  } else {
    ops_frame.done.push_back(op);
    if (!ops_frame.replying_link.linked()) replying_.push_back(ops_frame);
  }
  connection_.worker().connections().dirty(connection_);
}

void ConnectionReplies::take_back(Op& op) {
  OpsFrame& ops_frame = *op.frame;
  ops_frame.done_payload.remove(op);
  if (ops_frame.done_payload.empty()) loaded_.remove(ops_frame);
  op.canceled = true;
  op.reply.status = Status::kCanceled;
  op.reply.bytes = 0;
  release_resources(op);
  op_done(op);
}

void ConnectionReplies::op_over(OpsFrame& ops_frame) {
  MEMKV_ASSERT(ops_frame.live > 0);
  if (--ops_frame.live > 0) return;
  if (ops_frame.replying_link.linked()) replying_.remove(ops_frame);
  if (ops_frame.loaded_link.linked()) loaded_.remove(ops_frame);
  connection_.worker().pools().ops_frames.give_back(ops_frame);
}

bool ConnectionReplies::flush() {
  if (connection_.closing()) {
    drop_all();
    return true;
  }
  while (OpsFrame* ops_frame = replying_.front()) {
    if (!flush_plain(*ops_frame)) return connection_.closing();
  }
  if (!flush_map()) return connection_.closing();
  while (OpsFrame* ops_frame = link_is_busy() ? nullptr : loaded_.front()) {
    if (!flush_payload(*ops_frame)) return connection_.closing();
  }
  return true;
}

/// Then the next payloads leave as the ones before have left.
bool ConnectionReplies::link_is_busy() const { return out_of_frames() || payload_bytes_out_ >= kPayloadBytesOutMax; }

bool ConnectionReplies::out_of_frames() const {
  return frames_out_ >= kFramesPerConnectionMax || (frames_out_ > 0 && connection_.worker().connections().few_frames());
}

bool ConnectionReplies::flush_canceled(Op& op) {
  const wire::Cancel canceled{op.frame->id, op.request.index};
  return send_control(wire::Opcode::kCanceled, op.frame->id, [&](auto body) { return wire::encode(canceled, body); });
}

/// Sends the replies without payload of one frame of ops, as many to a frame as fit. An op that was canceled in time is
/// answered by a CANCELED of its own. False: frames have run out; the rest waits for the next one that comes back.
bool ConnectionReplies::flush_plain(OpsFrame& ops_frame) {
  while (!ops_frame.done.empty()) {
    if (out_of_frames()) return false;
    if (is_canceled(*ops_frame.done.front())) {
      Op& op = *ops_frame.done.front();
      if (!flush_canceled(op)) return false;
      ops_frame.done.remove(op);
      const bool last = ops_frame.live == 1;
      connection_.free_op(op);
      if (last) return true;
      continue;
    }
    ReplyFrame* frame = take_control_frame();
    if (frame == nullptr) return false;
    wire::ReplyEncoder encoder(frame->body);
    frame->out.opcode = wire::Opcode::kReply;
    frame->out.request_id = ops_frame.id;
    bool last = false;
    while (Op* op = ops_frame.done.front()) {
      if (is_canceled(*op) || !add(encoder, *op)) break;
      ops_frame.done.remove(*op);
      last = ops_frame.live == 1;
      connection_.free_op(*op);
      if (last) break;
    }
    frame->out.body = encoder.finish();
    if (!send(*frame)) return false;
    if (last) return true;
  }
  replying_.remove(ops_frame);
  return true;
}

/// Sends one frame of replies with payload, straight from the slots where the bytes lie. Small payloads share a frame, a
/// large one has it to itself. The ops stay until the frame is sent. False: no frame is free.
bool ConnectionReplies::flush_payload(OpsFrame& ops_frame) {
  ReplyFrame* frame = take_control_frame();
  if (frame == nullptr) return false;
  wire::ReplyEncoder encoder(frame->body);
  frame->out.opcode = wire::Opcode::kReply;
  frame->out.request_id = ops_frame.id;
  size_t pieces = 0, remote_pieces = 0;
  uint32_t bytes = 0;
  const bool placed = ops_frame.done_payload.front()->request.remote_piece_count > 0;
  while (Op* op = ops_frame.done_payload.front()) {
    if (pieces == kFramePiecesMax || (pieces > 0 && bytes + op->reply.bytes > kSharedPayloadMax)) break;
    // A frame's payload is placed as a whole or not at all.
    if (placed != (op->request.remote_piece_count > 0)) break;
    if (!add_remote_pieces(frame->remote_pieces, remote_pieces, *op)) break;
    if (!add(encoder, *op)) break;
    if (op->request.flags & wire::kOpVerify) frame->out.always_placed = placed;  // its client cannot copy it there
    frame->pieces[pieces++] = {const_cast<std::byte*>(op->reply.data), op->reply.bytes};
    bytes += op->reply.bytes;
    ops_frame.done_payload.remove(*op);
    op->phase = Phase::kSending;
    frame->ops.push_back(*op);
  }
  MEMKV_ASSERT(pieces > 0, "one reply always fits a frame");
  if (ops_frame.done_payload.empty()) loaded_.remove(ops_frame);
  frame->out.body = encoder.finish();
  frame->out.payload = {frame->pieces.data(), pieces};
  frame->out.remote = {frame->remote_pieces.data(), remote_pieces};
  frame->payload_bytes = bytes;
  payload_bytes_out_ += bytes;
  allow_lending(*frame);
  Worker& worker = connection_.worker();
  worker.count(worker.mutable_stats().payload_bytes_out[static_cast<size_t>(connection_.transport())], bytes);
  return send(*frame);
}

/// The link may lend the pages of slots, or of the log in memory mode, to its socket, as far as the tenant's part goes. It then gives the frame back when
/// the client says that it has the bytes.
void ConnectionReplies::allow_lending(ReplyFrame& frame) {
  WorkerSlots& slots = connection_.worker().slots();
  if (!slots.lends() || connection_.transport() != Transport::kTcp) return;
  for (const Op& op : frame.ops) {
    if (!std::get<engine::ReadOp>(op.store_op).renewable) return;  // whatever slot it took, it lies in the RAM tier
  }
  Tenant& tenant = *connection_.holder().tenant;
  if (tenant.lent_bytes + frame.payload_bytes > slots.lent_bytes_max()) {
    transport::OneCopyStats& stats = connection_.worker().mutable_stats().one_copy;
    return stats.add(stats.limit_bytes, frame.payload_bytes);
  }
  frame.lent_bytes = frame.payload_bytes;
  tenant.lent_bytes += frame.lent_bytes;
  frame.out.may_lend = true;
}

/// Before the slots are given back, and what was read in place is released. What was lent to a link that was cut gets
/// fresh pages before it is written again: the client's queue may still refer to the old ones, and shows whatever is
/// written there.
void ConnectionReplies::end_lending(ReplyFrame& frame, bool sent) {
  Tenant& tenant = *connection_.holder().tenant;
  MEMKV_ASSERT(tenant.lent_bytes >= frame.lent_bytes, "counted once");
  tenant.lent_bytes -= std::exchange(frame.lent_bytes, 0);
  if (sent || !frame.out.lent) return;
  for (Op& op : frame.ops) {
    if (op.slot) {
      connection_.worker().slots().arena().renew(op.slot);
    } else {
      std::get<engine::ReadOp>(op.store_op).seen_by_others = true;
    }
  }
}

bool ConnectionReplies::flush_map() {
  if (!state_.owes_map || connection_.closing()) return true;
  const Identity& identity = connection_.worker().identity();
  const wire::WorkerMap map{identity.worker_count, identity.shard_count, identity.worker_of_shard};
  if (!send_control(wire::Opcode::kWorkerMap, 0, [&](auto body) { return wire::encode(map, body); })) return false;
  state_.owes_map = false;
  return true;
}

/// False: the request went with the last of them.
bool ConnectionReplies::drop(OpQueue& replies) {
  while (Op* op = replies.pop_front()) {
    const bool last = op->frame->live == 1;
    connection_.free_op(*op);
    if (last) return false;
  }
  return true;
}

/// Nobody will read them.
void ConnectionReplies::drop_all() {
  state_.owes_map = false;
  while (OpsFrame* ops_frame = replying_.front()) {
    if (drop(ops_frame->done)) replying_.remove(*ops_frame);
  }
  while (OpsFrame* ops_frame = loaded_.front()) {
    if (drop(ops_frame->done_payload)) loaded_.remove(*ops_frame);
  }
}

void ConnectionReplies::owe_map() {
  state_.owes_map = true;
  Worker& worker = connection_.worker();
  worker.count(worker.mutable_stats().wrong_worker);
}

void ConnectionReplies::fail_wrong_worker(uint64_t request_id) {
  owe_map();
  fail_request(request_id, Status::kWrongWorker);
  connection_.worker().connections().dirty(connection_);
}

bool ConnectionReplies::send_pong(uint64_t request_id) {
  const wire::Pong pong{connection_.worker().now_ns()};
  return send_control(wire::Opcode::kPong, request_id, [&](auto body) { return wire::encode(pong, body); });
}

void ConnectionReplies::fail_request(uint64_t request_id, Status status) {
  const bool sent = send_control(wire::Opcode::kReply, request_id, [&](std::span<std::byte> body) {
    wire::ReplyEncoder encoder(body);
    (void)encoder.add({.index = 0, .status = status}, {});
    return encoder.finish().size();
  });
  if (!sent) connection_.close(Status::kBusy);
}

void ConnectionReplies::say_welcome(const wire::Welcome& welcome) {
  state_.credit_told = welcome.credit;
  if (send_control(wire::Opcode::kWelcome, 0, [&](auto body) { return wire::encode(welcome, body); })) return;
  connection_.close(Status::kBusy);
}

void ConnectionReplies::say_ready() {
  if (connection_.closing() || connection_.client() == nullptr) return;
  (void)send_control(wire::Opcode::kReady, 0, [](auto) { return size_t{0}; });
}

void ConnectionReplies::say_credit(const wire::Credit& credit) {
  if (connection_.closing() || connection_.client() == nullptr || credit == state_.credit_told) return;
  if (send_control(wire::Opcode::kCredit, 0, [&](auto body) { return wire::encode(credit, body); })) {
    state_.credit_told = credit;
  }
}

ReplyFrame* ConnectionReplies::take_control_frame() {
  if (connection_.closing() || frames_out_ >= kControlFramesMax) return nullptr;
  ReplyFrame* frame = connection_.worker().connections().take_frame(connection_.holder());
  if (frame == nullptr) return nullptr;
  frames_out_++;
  frame->state() = {.connection = &connection_};
  frame->out.context = frame;
  frame->out.on_done = on_frame_done;
  return frame;
}

bool ConnectionReplies::send(ReplyFrame& frame) {
  if (!connection_.closing() && connection_.link()->send(frame.out)) {
    state_.bytes_given += wire::kHeaderBytes + frame.out.body.size() + frame.payload_bytes;
    return true;
  }
  connection_.lost_link();
  end_frame(frame, false);
  return false;
}

void ConnectionReplies::on_frame_done(transport::SendFrame& out, bool sent) {
  auto& frame = *static_cast<ReplyFrame*>(out.context);
  frame.connection->replies().end_frame(frame, sent);
}

void ConnectionReplies::end_frame(ReplyFrame& frame, bool sent) {
  if (frame.lent_bytes > 0) end_lending(frame, sent);
  while (Op* op = frame.ops.pop_front()) connection_.free_op(*op);
  if (frame.after != nullptr) frame.after(frame, sent);
  MEMKV_ASSERT(frames_out_ > 0);
  frames_out_--;
  MEMKV_ASSERT(payload_bytes_out_ >= frame.payload_bytes, "ended twice");
  payload_bytes_out_ -= frame.payload_bytes;
  connection_.worker().connections().give_back(frame);
  if (!empty() || connection_.closed() || state_.owes_map) connection_.worker().connections().dirty(connection_);
}

}  // namespace memkv::shard
