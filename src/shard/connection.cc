#include "shard/connection.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "shard/worker.h"

namespace memkv::shard {

namespace {

// Where others wait for slots, a client that holds one moves this much, or is cut; where nobody waits, next to nothing.
constexpr uint64_t kContendedNs = 2'000'000'000;
constexpr uint64_t kContendedBytesPerSecond = 64 * 1024, kIdleBytesPerSecond = 1024;

}  // namespace

using transport::PayloadTarget;

void Connection::open(Worker& worker, Tenant& tenant, Welcome welcome) {
  MEMKV_ASSERT(reapable() || worker_ == nullptr, "a connection that is still in use");
  worker_ = &worker;
  life_ = {.holder = &tenant.unknown,
           .namespace_id = tenant.namespace_id,
           .client_name = {},
           .opened_ns = worker.now_ns(),
           .welcome = welcome,
           .pace_out = {},
           .pace_in = {}};
  receiver_.open();
  replies_.open();
}

void Connection::attach(std::unique_ptr<transport::Link> link, Transport transport, const ClientName& name) {
  MEMKV_ASSERT(link_ == nullptr, "it has a link");
  link_ = std::move(link);
  life_.transport = transport;
  life_.client_name = name;
  send_room_.open(link_->send_room());
  worker_->connections().count(transport, 1);
}

void Connection::join(KnownClient& client, Holder& holder) {
  MEMKV_ASSERT(life_.client == nullptr, "a client introduces itself once");
  life_.client = &client;
  life_.holder = &holder;
  life_.board_place = worker_->connections().board().add({.namespace_id = life_.namespace_id,
                                                          .client = client.id,
                                                          .name = life_.client_name,
                                                          .transport = life_.transport});
}

void Connection::recycle() {
  MEMKV_ASSERT(reapable(), "recycled while in use");
  MEMKV_ASSERT(uploads_.empty() && replies_.empty());
  MEMKV_ASSERT(send_room_.waiting().empty() && waits_slot_.empty() && send_room_.at_rest());
  if (life_.client != nullptr) {
    worker_->connections().board().remove(life_.board_place);
    worker_->connections().part_from(*std::exchange(life_.client, nullptr));
  }
  link_.reset();
}

/// Every frame of a client comes in here. Only OPS has a payload; everything else is dealt with at once and answers that
/// no payload is to be read.
PayloadTarget Connection::on_frame(transport::Link&, const wire::FrameHeader& header, std::span<const std::byte> body) {
  if (life_.closing || life_.leaving) return PayloadTarget::sink();
  MEMKV_ASSERT(receiver_.empty(), "a frame before the payload of the last one");
  if (header.opcode == wire::Opcode::kOps && life_.client != nullptr) return receiver_.on_ops(header, body);
  if (header.payload_bytes > 0) {
    protocol_error("a payload where none belongs");
  } else if (life_.client == nullptr) {
    introduce(*this, header, body);
  } else {
    on_request(header, body);
  }
  return PayloadTarget::sink();
}

/// A frame that is no OPS, and has no payload.
void Connection::on_request(const wire::FrameHeader& header, std::span<const std::byte> body) {
  switch (header.opcode) {
    case wire::Opcode::kExists:
      return start_exists(*this, header.request_id, body);
    case wire::Opcode::kCancel:
      return on_cancel(body);
    case wire::Opcode::kPing:
      if (!replies_.send_pong(header.request_id)) close(Status::kBusy);
      return;
    case wire::Opcode::kPong:
      return;
    case wire::Opcode::kStatus:
      return start_status(*this, header.request_id);
    case wire::Opcode::kList:
      return start_list(*this, header.request_id, body);
    case wire::Opcode::kGoodbye:
      return close(Status::kOk);
    default:
      protocol_error("an opcode that a server does not take");
  }
}

/// What has not begun, or waits, ends at once; a payload or a read under way ends canceled.
void Connection::on_cancel(std::span<const std::byte> body) {
  const auto cancel = wire::decode_cancel(body);
  if (!cancel) return protocol_error(cancel.error().what);
  if (uploads_.cancel(*cancel)) return;
  for (Op& op : live_) {
    if (op.frame->id != cancel->request_id || op.request.index != cancel->op_index) continue;
    if (stop_waiting(op)) {
      op.canceled = true;
      finish(op, Status::kCanceled);
    } else if (op.phase == Phase::kWaiting || (op.phase == Phase::kRunning && op.request.kind == wire::OpKind::kGet)) {
      op.canceled = true;  // seen when its payload is complete, its turn comes, or its bytes have come
    } else if (op.phase == Phase::kDone && op.reply.bytes > 0) {
      replies_.take_back(op);
    }
    return;  // otherwise its reply is on the way
  }
}

void Connection::on_payload_part(transport::Link&, size_t arrived) { receiver_.on_payload_part(arrived); }

void Connection::on_payload(transport::Link&) { receiver_.on_payload(); }

void Connection::on_unwanted(transport::Link&) { receiver_.on_unwanted(); }

void Connection::on_closed(transport::Link&, const Error& why) {
  MEMKV_ASSERT(!life_.closed, "closed twice");
  if (!life_.closing && why.status != Status::kOk) {
    MEMKV_LOG(kDebug, "a connection ended: {} ({})", why.what, to_string(why.status));
  }
  life_.closing = life_.closed = true;
  receiver_.on_closed();
  uploads_.abort_all();
  for (Op& op : live_) {
    // What is chained to it follows.
    if (stop_waiting(op) || (op.phase == Phase::kWaiting && op.waits_for == nullptr)) finish(op, Status::kCanceled);
  }
  worker_->connections().dirty(*this);
}

void Connection::protocol_error(const char* what) {
  MEMKV_LOG_EVERY(1, kWarn, "a connection broke the protocol and is closed: {}", what);
  leave(Status::kInvalid, what);
}

void Connection::leave(Status status, std::string_view text) {
  if (life_.closing || life_.leaving) return;
  life_.leaving = true;
  ReplyFrame* frame = replies_.take_control_frame();
  if (frame == nullptr) return close(status);
  frame->out.opcode = wire::Opcode::kGoodbye;
  frame->out.body = {frame->body.data(), wire::encode(wire::Goodbye{status, text}, std::span<std::byte>(frame->body))};
  frame->after = [](ReplyFrame& done, bool) { done.connection->close(Status::kOk); };
  (void)replies_.send(*frame);
}

void Connection::close(Status why) {
  if (life_.closing) return;
  life_.closing = true;
  if (link_ != nullptr) link_->close(why);
  worker_->connections().dirty(*this);
}

void Connection::lost_link() {
  life_.closing = true;
  worker_->connections().dirty(*this);
}

void Connection::free_op(Op& op) {
  MEMKV_ASSERT(op.connection == this, "of another connection");
  MEMKV_ASSERT(op.phase == Phase::kDone || op.phase == Phase::kSending, "still under way");
  release_resources(op);
  live_.remove(op);
  replies_.op_over(*op.frame);
  if (Upload* upload = std::exchange(op.upload, nullptr)) {
    upload->ops--;
    upload->moved_ns = worker_->now_ns();
    release_upload(*upload);
  }
  op.store_op.emplace<std::monostate>();
  worker_->tenants().give(holder(), kPooledOps);
  worker_->pools().ops.give_back(op);
}

void Connection::unhold() {
  MEMKV_ASSERT(held_ > 0);
  held_--;
  worker_->connections().dirty(*this);
}

void Connection::expire_waiting() {
  receiver_.expire();
  uploads_.expire();
  const auto expire = [this](Op& op) {
    if (!expired(op) || !stop_waiting(op)) return;
    worker_->count(worker_->mutable_stats().deadlines_missed);
    finish(op, Status::kDeadline);
  };
  for (Op& op : send_room_.waiting()) expire(op);
  for (Op& op : waits_slot_) expire(op);
}

/// False: it waits neither for room nor for a slot.
bool Connection::stop_waiting(Op& op) {
  if (op.phase == Phase::kWaitsSlot) {
    worker_->tenants().stop_waiting(*this, op);
  } else if (op.phase == Phase::kWaitsSend) {
    send_room_.stop_waiting(op);
  } else {
    return false;
  }
  return true;
}

const char* Connection::stalls(uint64_t step_ns, uint64_t stalled_ns, uint64_t introduce_ns, bool contended) {
  if (life_.client == nullptr && worker_->now_ns() >= life_.opened_ns + introduce_ns) return "introduce itself";
  const uint64_t patience_ns = contended ? std::min(kContendedNs, stalled_ns) : stalled_ns;
  const uint64_t rate = contended ? kContendedBytesPerSecond : kIdleBytesPerSecond;
  const uint64_t given = replies_.bytes_given();
  const uint64_t queued = std::min(link_->bytes_queued(), given);
  if (life_.pace_out.too_slow(queued > 0, given - queued, step_ns, patience_ns, rate)) return "read its replies";
  const bool receives = receiver_.in_payload();
  if (life_.pace_in.too_slow(receives, receiver_.bytes_received(), step_ns, patience_ns, rate)) {
    return "send the rest of a block";
  }
  return nullptr;
}

}  // namespace memkv::shard
