/// Where payloads of puts go: into slots, or straight into the log (memory mode).

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "shard/connection.h"
#include "shard/worker.h"

namespace memkv::shard {

using transport::PayloadTarget;

namespace {

/// Whole chunks can be received where they stay.
bool may_reserve(const Op& op) {
  if (op.request.length == 0) return false;
  if (op.request.kind == wire::OpKind::kPut) return true;
  return op.request.kind == wire::OpKind::kChunk && op.request.offset == 0 && !op.upload->range_write;
}

}  // namespace

bool Connection::take_room(Op& op) {
  // What is received where it stays keeps its segment from being reclaimed: of that, too, each has a part.
  if (may_reserve(op) && worker_->room_in_log(*holder_, op.request.length)) {
    op.reservation = op.shard->store->reserve(op.request.length);
  }
  if (op.reservation.data != nullptr) {
    tenant_->room_bytes += op.request.length;
    holder_->room_bytes += op.request.length;
    return true;
  }
  op.slot = worker_->take_slot(*holder_, std::max(op.request.length, 1u));
  return static_cast<bool>(op.slot);
}

/// Room for all payloads of the frame or for none, so that two clients never wait for each other's half.
bool Connection::take_all_room() {
  for (uint32_t i = 0; i < incoming_count_; i++) {
    Op* op = incoming_[i].op;
    if (op == nullptr || take_room(*op)) continue;
    bool any = false;
    for (uint32_t j = 0; j < i; j++) {
      if (incoming_[j].op == nullptr) continue;
      any = true;
      release_resources(*incoming_[j].op);
    }
    if (holder_->slots > 0 || (!any && worker_->slots().in_use() > 0)) return false;
    // Its client holds nothing else: this frame may never fit as a whole. What does fit is taken, the rest is busy.
    for (uint32_t j = 0; j < incoming_count_; j++) {
      Incoming& incoming = incoming_[j];
      if (incoming.op == nullptr || take_room(*incoming.op)) continue;
      finish(*incoming.op, Status::kBusy);
      incoming.op = nullptr;
    }
    return true;
  }
  return true;
}

/// The pieces of the whole payload, in op order; rejected ones go where nobody reads.
PayloadTarget Connection::target() {
  piece_count_ = 0;
  bool any = false;
  for (uint32_t i = 0; i < incoming_count_; i++) {
    const Incoming& incoming = incoming_[i];
    if (incoming.length == 0) continue;
    any = any || incoming.op != nullptr;
    pieces_[piece_count_++] = {incoming.op != nullptr ? incoming.op->data() : worker_->scratch(), incoming.length};
  }
  if (!any) return PayloadTarget::sink();
  return PayloadTarget::into(std::span<const iovec>(pieces_.data(), piece_count_));
}

void Connection::count_received(size_t arrived) {
  if (arrived < payload_arrived_) return;
  bytes_received_ += arrived - payload_arrived_;
  payload_arrived_ = arrived;
}

uint32_t Connection::bytes_that_wait() const {
  uint32_t bytes = 0;
  for (uint32_t i = 0; i < incoming_count_; i++) bytes += incoming_[i].length;
  return bytes;
}

bool Connection::try_room() {
  MEMKV_ASSERT(paused_ && incoming_count_ > 0);
  if (!take_all_room()) return false;
  paused_ = false;
  link_->resume(target());
  return true;
}

/// A payload that waits for room past the deadlines of its ops.
void Connection::expire_payload() {
  if (!paused_) return;
  const std::span<Incoming> incoming(incoming_.data(), incoming_count_);
  const auto lives = [](const Incoming& one) { return one.op != nullptr && !expired(*one.op); };
  if (std::any_of(incoming.begin(), incoming.end(), lives)) {
    // Nothing is read behind it, no PING either: the client hears unasked that it waits for a server that lives.
    (void)send_pong(0);
    return;
  }
  worker_->count(worker_->mutable_stats().deadlines_missed, incoming_count_);
  drop_payload(Status::kDeadline);
}

void Connection::on_unwanted(transport::Link&) {
  if (paused_) drop_payload(Status::kCanceled);
}

/// What is held back is not taken any more: the stream goes on, and the client's memory is quiet without the end of its
/// link.
void Connection::drop_payload(Status status) {
  paused_ = false;
  worker_->tenants().stop_waiting(*this);
  for (uint32_t i = 0; i < incoming_count_; i++) {
    Op* op = std::exchange(incoming_[i].op, nullptr);
    if (op == nullptr) continue;
    op->received = true;
    op->canceled = status == Status::kCanceled;
    if (op->waits_for == nullptr) finish(*op, status);
  }
  link_->resume(PayloadTarget::sink());
}

void Connection::on_payload_part(transport::Link&, size_t arrived) {
  count_received(arrived);
  size_t begin = 0;
  for (uint32_t i = 0; i < incoming_count_ && begin < arrived; begin += incoming_[i++].length) {
    Op* op = incoming_[i].op;
    // A wrong sum is met again, and answered, when the op starts.
    if (op != nullptr)
      (void)hash_step(*op, static_cast<uint32_t>(std::min<size_t>(arrived - begin, op->request.length)));
  }
}

void Connection::on_payload(transport::Link&) {
  const uint32_t count = incoming_count_;
  count_received(bytes_that_wait());
  payload_arrived_ = 0;
  incoming_count_ = 0;
  for (uint32_t i = 0; i < count; i++) {
    worker_->count(worker_->mutable_stats().payload_bytes_in[static_cast<size_t>(transport_)], incoming_[i].length);
    if (incoming_[i].op != nullptr) received(*incoming_[i].op);
  }
}

void Connection::received(Op& op) {
  MEMKV_ASSERT(op.phase == Phase::kWaiting && !op.received);
  op.received = true;
  if (closing_) {
    if (op.waits_for == nullptr) finish(op, Status::kCanceled);
  } else if (op.waits_for == nullptr) {
    start(op);
  }
}

/// The frame that was being received never became whole.
void Connection::give_room_back() {
  const uint32_t count = incoming_count_;
  incoming_count_ = 0;
  for (uint32_t i = 0; i < count; i++) {
    Op* op = incoming_[i].op;
    if (op == nullptr || op->phase == Phase::kDone) continue;
    release_resources(*op);
    op->received = true;
    if (op->waits_for == nullptr) finish(*op, Status::kCanceled);
  }
}

}  // namespace memkv::shard
