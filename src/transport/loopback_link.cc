/// Two links in memory, for tests. They follow the same rules as links over a socket.

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "transport/deferred_call.h"
#include "transport/frames.h"

namespace memkv::transport {
namespace {

/// Payload moves in steps, one in each turn, so that owners see payloads that have arrived in part.
constexpr size_t kStepBytes = 64 * 1024;

/// One end. In its turn it moves its frames to the owner of the other end. Thread: the reactor's.
class LoopbackLink final : public Link {
 public:
  LoopbackLink(io::Reactor& reactor, const base::SipKey& send_key, const base::SipKey& receive_key, LinkOwner& owner);
  ~LoopbackLink() override;
  LoopbackLink(const LoopbackLink&) = delete;
  LoopbackLink& operator=(const LoopbackLink&) = delete;
  void set_peer(LoopbackLink& peer) { peer_ = &peer; }

  Result<void> send(SendFrame& frame) override;
  void resume(PayloadTarget target) override;
  bool redirect() override;
  void close(Status why) override { begin_close(Error{why, 0, "closed by its owner"}); }
  uint64_t bytes_queued() const override { return bytes_queued_; }
  uint64_t last_sent_ns() const override { return last_sent_ns_; }
  uint64_t last_received_ns() const override { return last_received_ns_; }
  int fd() const override { return -1; }

 private:
  void on_turn();
  void begin_close(const Error& why);
  void finish_close();
  bool start_frame();
  bool move_payload();
  void finish_frame();
  void receive_frame(SendFrame& frame);
  void set_target(PayloadTarget target);
  bool connected() const { return !closing_ && peer_ && !peer_->closing_; }

  io::Reactor& reactor_;
  LinkOwner& owner_;
  const base::SipKey send_key_;
  const base::SipKey receive_key_;
  LoopbackLink* peer_ = nullptr;  // null once either end has closed
  DeferredCall turn_;
  bool closing_ = false;
  Error why_;
  uint64_t bytes_queued_ = 0;
  uint64_t last_sent_ns_, last_received_ns_;

  // As sender.
  FrameQueue plain_;
  FrameQueue loaded_;
  FrameQueue started_;  // at most one
  uint64_t send_sequence_ = 0;
  size_t piece_ = 0;
  size_t offset_ = 0;

  // As receiver.
  uint64_t receive_sequence_ = 0;
  size_t payload_left_ = 0;
  bool in_payload_ = false;
  bool paused_ = false;
  bool into_ = false;
  PieceCursor target_;
};

LoopbackLink::LoopbackLink(io::Reactor& reactor, const base::SipKey& send_key, const base::SipKey& receive_key,
                           LinkOwner& owner)
    : reactor_(reactor),
      owner_(owner),
      send_key_(send_key),
      receive_key_(receive_key),
      turn_(
          reactor, [](void* self) { static_cast<LoopbackLink*>(self)->on_turn(); }, this),
      last_sent_ns_(reactor.now_ns()),
      last_received_ns_(last_sent_ns_) {}

LoopbackLink::~LoopbackLink() {
  if (peer_) peer_->peer_ = nullptr;
}

void LoopbackLink::begin_close(const Error& why) {
  if (closing_) return;
  closing_ = true;
  why_ = why;
  turn_.soon();
  LoopbackLink* peer = std::exchange(peer_, nullptr);
  if (!peer) return;
  peer->peer_ = nullptr;
  peer->begin_close(Error{Status::kUnavailable, 0, "the peer closed the connection"});
}

void LoopbackLink::finish_close() {
  if (turn_.pending()) return;
  bytes_queued_ = 0;
  report(started_, false);
  report(plain_, false);
  report(loaded_, false);
  owner_.on_closed(*this, Error{why_});  // may destroy this
}

Result<void> LoopbackLink::send(SendFrame& frame) {
  if (closing_) return Error{Status::kUnavailable, 0, "send: the link is closed"};
  if (auto prepared = prepare(frame); !prepared) return prepared;
  (frame.payload_bytes > 0 ? loaded_ : plain_).push(frame);
  bytes_queued_ += wire_bytes(frame);
  turn_.soon();
  return {};
}

void LoopbackLink::on_turn() {
  // Neither end is destroyed in here: on_closed comes in a turn of its own.
  while (connected()) {
    if (started_.empty() && !start_frame()) break;
    if (!connected()) break;
    if (peer_->payload_left_ > 0) {
      if (peer_->paused_) break;
      if (!move_payload()) {
        turn_.soon();
        break;
      }
    }
    finish_frame();
  }
  if (closing_) finish_close();  // the last statement: it may destroy this
}

/// False: nothing to send.
bool LoopbackLink::start_frame() {
  SendFrame* frame = plain_.empty() ? loaded_.pop() : plain_.pop();
  if (!frame) return false;
  encode_header(*frame, send_sequence_++, send_key_);
  MEMKV_ASSERT(started_.empty() && peer_->payload_left_ == 0, "one frame at a time is on its way");
  started_.push(*frame);
  piece_ = offset_ = 0;
  bytes_queued_ -= wire_bytes(*frame) - frame->payload_bytes;
  peer_->receive_frame(*frame);
  return true;
}

void LoopbackLink::receive_frame(SendFrame& frame) {
  auto header = wire::decode_header(frame.header);
  if (!header) return begin_close(header.error());
  if (auto checked = check_header(*header, receive_sequence_++); !checked) return begin_close(checked.error());
  if (!wire::check_mac(receive_key_, *header, frame.body)) {
    return begin_close(Error{Status::kUnauthorized, 0, "frame: wrong MAC"});
  }
  last_received_ns_ = peer_->last_sent_ns_ = reactor_.now_ns();
  const PayloadTarget target = owner_.on_frame(*this, *header, frame.body);
  if (header->payload_bytes == 0 || closing_) return;
  in_payload_ = true;
  payload_left_ = header->payload_bytes;
  set_target(target);
}

/// Moves a step; false: more is left.
bool LoopbackLink::move_payload() {
  MEMKV_ASSERT(!started_.empty() && peer_->in_payload_ && !peer_->paused_);
  const SendFrame& frame = *started_.front();
  for (size_t left = std::min(kStepBytes, peer_->payload_left_); left > 0;) {
    const iovec& piece = frame.payload[piece_];
    const size_t n = std::min(left, piece.iov_len - offset_);
    if (peer_->into_ && n > 0) peer_->target_.put({static_cast<const std::byte*>(piece.iov_base) + offset_, n});
    offset_ += n;
    left -= n;
    peer_->payload_left_ -= n;
    bytes_queued_ -= n;
    if (offset_ == piece.iov_len) piece_++, offset_ = 0;
  }
  last_sent_ns_ = peer_->last_received_ns_ = reactor_.now_ns();
  return peer_->payload_left_ == 0;
}

/// First tells the sender that the frame has left, then the receiver that it is there: as over a socket.
void LoopbackLink::finish_frame() {
  SendFrame* frame = started_.pop();
  LoopbackLink* peer = peer_;
  frame->queued = false;
  frame->on_done(*frame, true);
  if (!peer->in_payload_ || peer->closing_) return;
  peer->in_payload_ = peer->into_ = false;
  peer->target_ = {};
  peer->owner_.on_payload(*peer);
}

void LoopbackLink::set_target(PayloadTarget target) {
  paused_ = target.kind == PayloadTarget::Kind::kPause;
  into_ = target.kind == PayloadTarget::Kind::kInto;
  if (!into_) return;
  check_holds(target.pieces, payload_left_);
  target_ = PieceCursor(target.pieces);
}

void LoopbackLink::resume(PayloadTarget target) {
  if (closing_) return;
  MEMKV_ASSERT(paused_ && target.kind != PayloadTarget::Kind::kPause, "resume() answers kPause");
  set_target(target);
  if (peer_) peer_->turn_.soon();
}

bool LoopbackLink::redirect() {
  if (in_payload_ && paused_) resume(PayloadTarget::sink());
  into_ = false;
  target_ = {};
  return true;
}

}  // namespace

LinkPair make_loopback_links(io::Reactor& reactor, const wire::SessionKeys& keys, LinkOwner& client_owner,
                             LinkOwner& server_owner) {
  auto client = std::make_unique<LoopbackLink>(reactor, keys.client_to_server, keys.server_to_client, client_owner);
  auto server = std::make_unique<LoopbackLink>(reactor, keys.server_to_client, keys.client_to_server, server_owner);
  client->set_peer(*server);
  server->set_peer(*client);
  return {std::move(client), std::move(server)};
}

}  // namespace memkv::transport
