#include "shard/connection_receive.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "shard/admission.h"
#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

using transport::PayloadTarget;

namespace {

/// That the record will have.
std::string_view key_of(const Op& op) {
  return op.request.kind == wire::OpKind::kChunk ? op.upload->key : op.request.key.key;
}

/// Whole chunks can be received where they stay.
bool may_reserve(const Op& op) {
  if (op.request.length == 0) return false;
  if (op.request.kind == wire::OpKind::kPut) return true;
  return op.request.kind == wire::OpKind::kChunk && op.request.offset == 0 && !op.upload->range_write;
}

}  // namespace

/// A frame of ops. Without room for its payload the connection waits: nothing behind the frame is read until there is
/// some.
PayloadTarget ConnectionReceiver::on_ops(const wire::FrameHeader& header, std::span<const std::byte> body) {
  MEMKV_ASSERT(incoming_count_ == 0, "a frame before the payload of the last one");
  wire::OpsDecoder decoder(body);
  if (const auto count = decoder.validate(header.payload_bytes); !count) {
    connection_.protocol_error(count.error().what);
    return PayloadTarget::sink();
  }
  OpsFrame* ops_frame = connection_.worker().pools().ops_frames.take();
  if (ops_frame == nullptr) {
    reject_all(header.request_id, body, Status::kBusy);
    return PayloadTarget::sink();
  }
  MEMKV_ASSERT(ops_frame->live == 0);
  ops_frame->state() = {.connection = &connection_, .id = header.request_id, .live = 1};  // held until all are admitted
  admit_all(decoder, *ops_frame);
  if (--ops_frame->live == 0) connection_.worker().pools().ops_frames.give_back(*ops_frame);
  if (incoming_count_ == 0) return PayloadTarget::sink();
  if (connection_.closing()) {
    give_up();
    return PayloadTarget::sink();
  }
  return find_room(header.payload_bytes);
}

/// Gives each op a context, links those that are chained, refuses at once what cannot be done, and starts what needs no
/// payload. The gets of a run start together: by then what the store knows of them has come from memory. What needs a
/// payload waits for it, in incoming_.
void ConnectionReceiver::admit_all(wire::OpsDecoder& decoder, OpsFrame& ops_frame) {
  const wire::OpsHeader header = decoder.header();
  Admission admission(connection_, ops_frame, header);
  // Before anything of this frame is done: what the client has given up until then is not done behind it.
  KnownClient& client = *connection_.client();
  client.epoch = std::max(client.epoch, header.epoch);
  OpQueue gets;
  for (wire::Op wire_op; decoder.next(wire_op);) {
    Op* op = admission.admit(wire_op);
    if (op == nullptr && !admission.reject(wire_op.index)) break;
    if (op != nullptr) {
      admission.chain(*op);
      if (!admission.check(*op)) op = nullptr;
    }
    if (!wire::has_payload(wire_op.kind)) {
      if (op != nullptr && wire_op.kind == wire::OpKind::kGet) {
        gets.push_back(*op);
      } else if (op != nullptr) {
        launch_all(gets);  // the order stays
        launch(*op);
      }
      continue;
    }
    incoming_[incoming_count_++] = {op, wire_op.length};
    if (op != nullptr) op->seed = chunk_seed_of(*op);
  }
  admission.end();
  launch_all(gets);
}

void ConnectionReceiver::launch_all(OpQueue& ops) {
  while (Op* op = ops.pop_front()) launch(*op);
}

/// An op without payload.
void ConnectionReceiver::launch(Op& op) {
  MEMKV_ASSERT(!op.received && !wire::has_payload(op.request.kind), "its payload starts it");
  op.received = true;
  if (op.waits_for == nullptr) op.chain_failed || connection_.closing() ? start(op) : begin(op);
}

/// All ops of a frame for which there is not even a context.
void ConnectionReceiver::reject_all(uint64_t request_id, std::span<const std::byte> body, Status status) {
  wire::OpsDecoder decoder(body);
  wire::Op op;
  bool more = decoder.next(op);
  while (more) {
    ReplyFrame* frame = connection_.replies().take_control_frame();
    if (frame == nullptr) return connection_.close(Status::kBusy);
    wire::ReplyEncoder encoder(frame->body);
    while (more && encoder.add({.index = op.index, .status = status}, {})) more = decoder.next(op);
    frame->out.opcode = wire::Opcode::kReply;
    frame->out.request_id = request_id;
    frame->out.body = encoder.finish();
    if (!connection_.replies().send(*frame)) return;
  }
}

/// Where the payload of the frame goes; without room for it the link waits, behind those that wait already.
PayloadTarget ConnectionReceiver::find_room(uint32_t payload_bytes) {
  if (!connection_.holder().puts.empty() || !take_all_room()) {
    if (payload_bytes > 0) {
      progress_.paused = true;
      connection_.worker().tenants().wait(connection_);
      return PayloadTarget::pause();
    }
    take_what_fits();  // blocks of no bytes cannot be held back
  }
  if (payload_bytes > 0) return target();
  on_payload();
  return PayloadTarget::sink();
}

bool ConnectionReceiver::take_room(Op& op) {
  MEMKV_ASSERT(!op.slot && op.reservation.data == nullptr, "it has room already");
  Holder& holder = connection_.holder();
  Worker& worker = connection_.worker();
  const uint32_t length = op.request.length;
  // What is received where it stays keeps its segment from being reclaimed: of that, too, each has a part.
  if (may_reserve(op) && worker.slots().room_in_log(holder, length))
    op.reservation = op.shard->store->reserve(length, key_of(op).size());
  if (op.reservation.data != nullptr) {
    holder.tenant->room_bytes += length;
    holder.room_bytes += length;
    return true;
  }
  op.slot = worker.slots().take(holder, std::max(length, 1u));
  return static_cast<bool>(op.slot);
}

/// Room for all payloads of the frame or for none, so that two clients never wait for each other's half.
bool ConnectionReceiver::take_all_room() {
  const std::span<Incoming> all = incoming();
  for (size_t i = 0; i < all.size(); i++) {
    if (all[i].op == nullptr || take_room(*all[i].op)) continue;
    const bool any = give_back_room(all.first(i));
    const bool others_hold = !any && connection_.worker().slots().arena().in_use() > 0;
    if (connection_.holder().slots > 0 || others_hold) return false;
    // Its client holds nothing else: this frame may never fit as a whole. What does fit is taken, the rest is busy.
    take_what_fits();
    return true;
  }
  return true;
}

/// True: there was any.
bool ConnectionReceiver::give_back_room(std::span<Incoming> taken) {
  bool any = false;
  for (Incoming& one : taken) {
    if (one.op == nullptr) continue;
    any = true;
    release_resources(*one.op);
  }
  return any;
}

void ConnectionReceiver::take_what_fits() {
  for (Incoming& one : incoming()) {
    if (one.op == nullptr || take_room(*one.op)) continue;
    finish(*std::exchange(one.op, nullptr), Status::kBusy);
  }
}

/// The pieces of the whole payload, in op order; rejected ones go where nobody reads.
PayloadTarget ConnectionReceiver::target() {
  size_t pieces = 0;
  bool any = false;
  for (const Incoming& one : incoming()) {
    if (one.length == 0) continue;
    any = any || one.op != nullptr;
    pieces_[pieces++] = {one.op != nullptr ? one.op->data() : connection_.worker().slots().scratch(), one.length};
  }
  if (!any) return PayloadTarget::sink();
  return PayloadTarget::into(std::span<const iovec>(pieces_).first(pieces));
}

void ConnectionReceiver::count_received(size_t arrived) {
  if (arrived < progress_.payload_arrived) return;
  progress_.bytes_received += arrived - progress_.payload_arrived;
  progress_.payload_arrived = arrived;
}

uint32_t ConnectionReceiver::bytes_that_wait() const {
  uint32_t bytes = 0;
  for (uint32_t i = 0; i < incoming_count_; i++) bytes += incoming_[i].length;
  return bytes;
}

bool ConnectionReceiver::try_room() {
  MEMKV_ASSERT(progress_.paused && incoming_count_ > 0);
  if (!take_all_room()) return false;
  progress_.paused = false;
  connection_.link()->resume(target());
  return true;
}

void ConnectionReceiver::expire() {
  if (!progress_.paused) return;
  const auto lives = [](const Incoming& one) { return one.op != nullptr && !expired(*one.op); };
  if (std::ranges::any_of(incoming(), lives)) {
    // Nothing is read behind it, no PING either: the client hears unasked that it waits for a server that lives.
    (void)connection_.replies().send_pong(0);
    return;
  }
  Worker& worker = connection_.worker();
  worker.count(worker.mutable_stats().deadlines_missed, incoming_count_);
  drop_payload(Status::kDeadline);
}

void ConnectionReceiver::on_unwanted() {
  if (progress_.paused) drop_payload(Status::kCanceled);
}

/// What is held back is not taken any more: the stream goes on, and the client's memory is quiet without the end of its
/// link.
void ConnectionReceiver::drop_payload(Status status) {
  MEMKV_ASSERT(progress_.paused, "the link does not hold it back");
  progress_.paused = false;
  connection_.worker().tenants().stop_waiting(connection_);
  for (Incoming& one : incoming()) {
    Op* op = std::exchange(one.op, nullptr);
    if (op == nullptr) continue;
    op->received = true;
    op->canceled = status == Status::kCanceled;
    if (op->waits_for == nullptr) finish(*op, status);
  }
  connection_.link()->resume(PayloadTarget::sink());
}

void ConnectionReceiver::on_payload_part(size_t arrived) {
  count_received(arrived);
  size_t begin = 0;
  for (uint32_t i = 0; i < incoming_count_ && begin < arrived; begin += incoming_[i++].length) {
    Op* op = incoming_[i].op;
    if (op == nullptr) continue;
    // A wrong sum is met again, and answered, when the op starts.
    (void)hash_step(*op, static_cast<uint32_t>(std::min<size_t>(arrived - begin, op->request.length)));
  }
}

void ConnectionReceiver::on_payload() {
  Worker& worker = connection_.worker();
  auto& bytes_in = worker.mutable_stats().payload_bytes_in[static_cast<size_t>(connection_.transport())];
  const uint32_t count = incoming_count_;
  count_received(bytes_that_wait());
  progress_.payload_arrived = 0;
  incoming_count_ = 0;
  for (uint32_t i = 0; i < count; i++) {
    worker.count(bytes_in, incoming_[i].length);
    if (incoming_[i].op != nullptr) received(*incoming_[i].op);
  }
}

void ConnectionReceiver::received(Op& op) {
  MEMKV_ASSERT(op.phase == Phase::kWaiting && !op.received);
  op.received = true;
  if (op.waits_for != nullptr) return;
  connection_.closing() ? finish(op, Status::kCanceled) : start(op);
}

void ConnectionReceiver::on_closed() {
  connection_.worker().tenants().stop_waiting(connection_);
  progress_.paused = false;
  give_up();
}

/// The frame that was being received never became whole: its room goes back.
void ConnectionReceiver::give_up() {
  const uint32_t count = std::exchange(incoming_count_, 0u);
  for (uint32_t i = 0; i < count; i++) {
    Op* op = incoming_[i].op;
    if (op == nullptr || op->phase == Phase::kDone) continue;
    release_resources(*op);
    op->received = true;
    if (op->waits_for == nullptr) finish(*op, Status::kCanceled);
  }
}

}  // namespace memkv::shard
