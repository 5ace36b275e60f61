/// What is done becomes reply frames, once per turn of the loop.

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

void Connection::op_done(Op& op) {
  OpsFrame& ops_frame = *op.frame;
  if (op.reply.bytes > 0) {
    ops_frame.done_payload.push_back(op);
    if (!ops_frame.loaded_link.linked()) loaded_.push_back(ops_frame);
  } else {
    ops_frame.done.push_back(op);
    if (!ops_frame.replying_link.linked()) replying_.push_back(ops_frame);
  }
  worker_->dirty(*this);
}

/// Of a get that was canceled while its bytes waited for the link.
void Connection::take_back_reply(Op& op) {
  OpsFrame& ops_frame = *op.frame;
  ops_frame.done_payload.remove(op);
  if (ops_frame.done_payload.empty()) loaded_.remove(ops_frame);
  op.canceled = true;
  op.reply.status = Status::kCanceled;
  op.reply.bytes = 0;
  release_resources(op);
  op_done(op);
}

/// The op and its reply are over.
void Connection::free_op(Op& op) {
  release_resources(op);
  live_.remove(op);
  OpsFrame& ops_frame = *op.frame;
  MEMKV_ASSERT(ops_frame.live > 0);
  if (--ops_frame.live == 0) {
    if (ops_frame.replying_link.linked()) replying_.remove(ops_frame);
    if (ops_frame.loaded_link.linked()) loaded_.remove(ops_frame);
    worker_->ops_frames().give_back(ops_frame);
  }
  if (Upload* upload = std::exchange(op.upload, nullptr)) {
    upload->ops--;
    upload->moved_ns = worker_->now_ns();
    release_upload(*upload);
  }
  op.store_op.emplace<std::monostate>();
  worker_->tenants().give(*holder_, kPooledOps);
  worker_->ops().give_back(op);
}

bool Connection::flush() {
  if (closing_) {
    drop_replies();
    return true;
  }
  while (OpsFrame* ops_frame = replying_.front()) {
    if (!flush_plain(*ops_frame)) return closing_;
  }
  if (!flush_map()) return closing_;
  while (OpsFrame* ops_frame = link_is_busy() ? nullptr : loaded_.front()) {
    if (!flush_payload(*ops_frame)) return closing_;
  }
  return true;
}

/// Then the next payloads leave as the ones before have left.
bool Connection::link_is_busy() const { return out_of_frames() || payload_bytes_out_ >= kPayloadBytesOutMax; }

bool Connection::out_of_frames() const {
  return frames_out_ >= kFramesPerConnectionMax || (frames_out_ > 0 && worker_->few_frames());
}

bool Connection::flush_canceled(Op& op) {
  const wire::Cancel canceled{op.frame->id, op.request.index};
  return send_control(wire::Opcode::kCanceled, op.frame->id, [&](auto body) { return wire::encode(canceled, body); });
}

/// Sends the replies without payload of one request, as many to a frame as fit. An op that was canceled in time is
/// answered by a CANCELED of its own. False: frames have run out; the rest waits for the next one that comes back.
bool Connection::flush_plain(OpsFrame& ops_frame) {
  while (!ops_frame.done.empty()) {
    if (out_of_frames()) return false;
    if (ops_frame.done.front()->canceled && ops_frame.done.front()->reply.status == Status::kCanceled) {
      Op& op = *ops_frame.done.front();
      if (!flush_canceled(op)) return false;
      ops_frame.done.remove(op);
      const bool last = ops_frame.live == 1;
      free_op(op);
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
      if ((op->canceled && op->reply.status == Status::kCanceled) || !add(encoder, *op)) break;
      ops_frame.done.remove(*op);
      last = ops_frame.live == 1;
      free_op(*op);
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
bool Connection::flush_payload(OpsFrame& ops_frame) {
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
    if (placed != (op->request.remote_piece_count > 0) || !add_remote_pieces(frame->remote_pieces, remote_pieces, *op))
      break;
    if (!add(encoder, *op)) break;
    if ((op->request.flags & wire::kOpVerify) != 0)
      frame->out.always_placed = placed;  // its client cannot copy it there
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
  worker_->count(worker_->mutable_stats().payload_bytes_out[static_cast<size_t>(transport_)], bytes);
  return send(*frame);
}

bool Connection::flush_map() {
  if (!owes_map_ || closing_) return true;
  const Identity& identity = worker_->identity();
  const wire::WorkerMap map{identity.worker_count, identity.shard_count, identity.worker_of_shard};
  if (!send_control(wire::Opcode::kWorkerMap, 0, [&](auto body) { return wire::encode(map, body); })) return false;
  owes_map_ = false;
  return true;
}

/// False: the request went with the last of them.
bool Connection::drop(OpQueue& replies) {
  while (Op* op = replies.pop_front()) {
    const bool last = op->frame->live == 1;
    free_op(*op);
    if (last) return false;
  }
  return true;
}

/// Nobody will read them.
void Connection::drop_replies() {
  owes_map_ = false;
  while (OpsFrame* ops_frame = replying_.front()) {
    if (drop(ops_frame->done)) replying_.remove(*ops_frame);
  }
  while (OpsFrame* ops_frame = loaded_.front()) {
    if (drop(ops_frame->done_payload)) loaded_.remove(*ops_frame);
  }
}

ReplyFrame* Connection::take_control_frame() {
  if (closing_ || frames_out_ >= kControlFramesMax) return nullptr;
  ReplyFrame* frame = worker_->take_frame(*holder_);
  if (frame == nullptr) return nullptr;
  frames_out_++;
  frame->state() = {.connection = this};
  frame->out.context = frame;
  frame->out.on_done = on_frame_done;
  return frame;
}

bool Connection::send(ReplyFrame& frame) {
  if (!closing_ && link_->send(frame.out)) {
    bytes_given_ += wire::kHeaderBytes + frame.out.body.size() + frame.payload_bytes;
    return true;
  }
  closing_ = true;  // a link that takes no frames is dead: on_closed is on its way
  end_frame(frame, false);
  worker_->dirty(*this);
  return false;
}

void Connection::on_frame_done(transport::SendFrame& out, bool sent) {
  auto& frame = *static_cast<ReplyFrame*>(out.context);
  frame.connection->end_frame(frame, sent);
}

void Connection::end_frame(ReplyFrame& frame, bool sent) {
  while (Op* op = frame.ops.pop_front()) free_op(*op);
  if (frame.after != nullptr) frame.after(frame, sent);
  MEMKV_ASSERT(frames_out_ > 0);
  frames_out_--;
  payload_bytes_out_ -= frame.payload_bytes;
  worker_->give_back(frame);
  if (!replying_.empty() || !loaded_.empty() || closed_ || owes_map_) worker_->dirty(*this);
}

}  // namespace memkv::shard
