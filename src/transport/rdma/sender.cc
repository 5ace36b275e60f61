#include "transport/rdma/sender.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/test_rules.h"

namespace memkv::transport::rdma {

Sender::Sender(Poller& poller, size_t rail, Device& device, WorkQueue& work, Role role, const base::SipKey& key,
               const wire::RdmaEnd& peer)
    : poller_(poller),
      rail_(rail),
      device_(device),
      counters_(poller.host().rail(rail).counters),
      work_(work),
      role_(role),
      key_(key),
      message_bytes_(std::min(kMessageBytes, peer.message_bytes)),
      muted_(role == Role::kServer),
      credits_(peer.receives),
      greet_(role == Role::kClient) {}

Result<void> Sender::push(SendFrame& frame) {
  if (auto prepared = prepare(frame); !prepared) return prepared;
  (frame.payload_bytes > 0 ? loaded_ : plain_).push(frame);
  bytes_queued_ += wire_bytes(frame);
  return {};
}

bool Sender::pump() {
  if (muted_) return true;
  while (in_frame_ || start_next()) {
    if (!copy()) break;
  }
  if (message_open_) close_message();
  send_withdrawal();
  send_credit();
  return work_.ring();
}

// Frames.

/// False: nothing may start now.
bool Sender::start_next() {
  if (taken_told_ < taken_ || greet_) {
    start_taken();
    return true;
  }
  SendFrame* frame = plain_.empty() ? loaded_.front() : plain_.front();
  if (!frame || !start(*frame)) return false;
  (plain_.empty() ? loaded_ : plain_).pop();
  return true;
}

/// False: it must wait, for room in the send queue or for the peer to take an offer.
bool Sender::start(SendFrame& frame) {
  begin_ = end_ = 0;
  way_ = Way::kInline;
  if (!frame.offered.empty()) {
    if (!offer_exposed(frame)) return false;
  } else if (frame.payload_bytes > kInlineMax || frame.always_placed) {
    if (!frame.remote.empty() && find_local(frame)) {
      if (!place(frame)) return false;
    } else if (role_ == Role::kClient && frame.remote.empty()) {
      (void)offer(frame);
    }
  }
  const uint16_t flags = way_ == Way::kPlaced ? uint16_t{wire::kFramePlaced} : uint16_t{0};
  encode_header(frame, sequence_++, key_, flags);
  add_piece(frame.header.data(), frame.header.size());
  add_piece(frame.body.data(), frame.body.size());
  if (way_ == Way::kInline) {
    for (const iovec& piece : frame.payload) add_piece(piece.iov_base, piece.iov_len);
  }
  current_ = &frame;
  in_frame_ = true;
  counters_.bytes_out.fetch_add(wire_bytes(frame), std::memory_order_relaxed);
  return true;
}

void Sender::add_piece(const void* data, size_t bytes) {
  if (bytes > 0) pieces_[end_++] = {const_cast<void*>(data), bytes};
}

/// A frame of the link's own, in front of what follows.
void Sender::put_prefix(wire::Opcode opcode, std::span<const std::byte> body) {
  wire::FrameHeader header;
  header.opcode = opcode;
  header.body_bytes = static_cast<uint32_t>(body.size());
  header.sequence = sequence_++;
  header.mac = wire::make_mac(key_, header, body);
  wire::encode(header, std::span<std::byte, wire::kHeaderBytes>(prefix_.data(), wire::kHeaderBytes));
  std::memcpy(prefix_.data() + wire::kHeaderBytes, body.data(), body.size());
  add_piece(prefix_.data(), wire::kHeaderBytes + body.size());
}

void Sender::start_taken() {
  begin_ = end_ = 0;
  greet_ = false;
  taken_told_ = taken_;
  std::array<std::byte, 16> body;
  const size_t bytes = wire::encode(wire::Taken{taken_}, body);
  put_prefix(wire::Opcode::kTaken, std::span(body).first(bytes));
  current_ = nullptr;
  in_frame_ = true;
}

// Placed payloads.

/// False: not all of the payload is registered with this device.
bool Sender::find_local(const SendFrame& frame) {
  size_t count = 0;
  for (const iovec& piece : frame.payload) {
    const Registration* registration = poller_.memory().find(piece.iov_base, piece.iov_len);
    const MemoryKeys* keys = registration ? registration->keys(rail_, device_) : nullptr;
    if (!keys) return false;
    local_[count++] = {piece.iov_base, static_cast<uint32_t>(piece.iov_len), keys->local};
  }
  return true;
}

/// False: no room in the send queue now.
bool Sender::place(SendFrame& frame) {
  if (placed_bytes_ > 0 && placed_bytes_ + frame.payload_bytes > kPlacedBytesMax) return false;
  if (!work_.has_room(Use::kWrite, static_cast<uint32_t>(frame.remote.size() + frame.payload.size()))) return false;
  write_remote_pieces(frame);
  way_ = Way::kPlaced;
  placed_bytes_ += frame.payload_bytes;
  message_placed_bytes_ += frame.payload_bytes;
  return true;
}

void Sender::write_remote_pieces(const SendFrame& frame) {
  size_t piece = 0;
  uint32_t offset = 0;  // in local_[piece]
  uint32_t left = frame.payload_bytes;
  for (const wire::RemotePiece& remote_piece : frame.remote) {
    for (uint32_t at = 0; at < remote_piece.length && left > 0;) {
      std::array<LocalPiece, kPiecesPerRequestMax> from;
      size_t count = 0;
      const uint32_t begin = at;
      while (count < from.size() && at < remote_piece.length && left > 0) {
        const LocalPiece& local = local_[piece];
        const uint32_t bytes = std::min({local.bytes - offset, remote_piece.length - at, left});
        if (bytes > 0) from[count++] = {static_cast<const std::byte*>(local.data) + offset, bytes, local.key};
        at += bytes;
        left -= bytes;
        offset += bytes;
        if (offset == local.bytes) piece++, offset = 0;
      }
      work_.write({from.data(), count}, remote_piece.address + begin, remote_piece.key);
    }
  }
  MEMKV_ASSERT(left == 0, "the owner names room for all of the payload");
}

// Offered payloads.

/// A place for one more offer, which counts only once it is announced. Null: too many are open.
Sender::Offer* Sender::new_offer(SendFrame& frame) {
  if (offers_made_ - offers_done_ == kOffersMax) return nullptr;
  Offer& offer = offers_[offers_made_ % kOffersMax];
  offer = {};
  offer.request_id = frame.request_id;
  offer.unwanted = frame.unwanted;
  return &offer;
}

/// False: it goes into the stream.
bool Sender::offer(SendFrame& frame) {
  Offer* offer = new_offer(frame);
  if (!offer) return false;
  std::array<wire::RemotePiece, kDirectPiecesMax> remote_pieces;
  size_t count = 0;
  if (offer_direct(frame, *offer, remote_pieces, count)) {
    offer->frame = &frame;
  } else if (offer_staged(frame, *offer, remote_pieces[0])) {
    count = 1;
  } else {
    return false;
  }
  announce(std::span(remote_pieces).first(count));
  return true;
}

/// False: too many offers are open.
bool Sender::offer_exposed(SendFrame& frame) {
  Offer* offer = new_offer(frame);
  if (!offer) return false;
  offer->frame = &frame;
  announce(frame.offered);
  return true;
}

void Sender::announce(std::span<const wire::RemotePiece> remote_pieces) {
  offers_made_++;
  std::array<std::byte, 8 + kDirectPiecesMax * wire::kRemotePieceBytes> body;
  const size_t bytes = wire::encode_offer(remote_pieces, body);
  put_prefix(wire::Opcode::kOffer, std::span(body).first(bytes));
  way_ = Way::kOffered;
}

bool Sender::offer_direct(SendFrame& frame, Offer& offer, std::span<wire::RemotePiece> remote_pieces, size_t& count) {
  for (const iovec& piece : frame.payload) {
    if (piece.iov_len == 0) continue;
    Registration* registration =
        count < remote_pieces.size() ? poller_.memory().find(piece.iov_base, piece.iov_len) : nullptr;
    const MemoryKeys* keys = registration ? registration->keys(rail_, device_) : nullptr;
    if (!keys || registration->access() != Access::kRemote || !registration->use()) {
      let_go(offer);
      count = 0;
      return false;
    }
    offer.users[offer.user_count++] = registration;
    remote_pieces[count++] = {reinterpret_cast<uint64_t>(piece.iov_base), static_cast<uint32_t>(piece.iov_len),
                              keys->remote};
  }
  return true;
}

bool Sender::offer_staged(SendFrame& frame, Offer& offer, wire::RemotePiece& remote_piece) {
  const MemoryKeys* keys = poller_.staging_memory().keys(rail_, device_);
  if (keys) offer.slot = poller_.staging().take(frame.payload_bytes);
  if (!offer.slot) return false;
  std::byte* at = offer.slot.data;
  for (const iovec& piece : frame.payload) {
    if (piece.iov_len > 0) std::memcpy(at, piece.iov_base, piece.iov_len);
    at += piece.iov_len;
  }
  poller_.count_staged(frame.payload_bytes);
  remote_piece = {reinterpret_cast<uint64_t>(offer.slot.data), frame.payload_bytes, keys->remote};
  return true;
}

void Sender::let_go(Offer& offer) {
  for (size_t i = 0; i < offer.user_count; i++) offer.users[i]->unuse();
  offer.user_count = 0;
  if (offer.slot) poller_.staging().give_back(std::exchange(offer.slot, {}));
}

bool Sender::on_taken(uint64_t offers) {
  // The peer cannot have taken an offer whose frame is still leaving.
  if (offers > offers_made_ - (in_frame_ && way_ == Way::kOffered ? 1 : 0)) return false;
  while (offers_done_ < offers) {
    Offer& offer = offers_[offers_done_++ % kOffersMax];
    let_go(offer);
    if (offer.frame) done_.push(*std::exchange(offer.frame, nullptr));
  }
  return true;
}

void Sender::withdraw(SendFrame& frame) {
  frame.unwanted = true;  // one that has not started yet
  for (uint64_t i = offers_done_; i < offers_made_; i++) {
    Offer& offer = offers_[i % kOffersMax];
    if (offer.request_id == frame.request_id) offer.unwanted = true;
  }
}

/// The peer waits for room for one payload at a time, the oldest. It hears of it beside the stream, which stands still.
/// The last credit may be spent: a SEND of no bytes is taken at once, and the server gives it back.
void Sender::send_withdrawal() {
  if (offers_done_ == offers_made_ || withdrawals_told_ > offers_done_) return;
  if (!offers_[offers_done_ % kOffersMax].unwanted || credits_ == 0 || !work_.has_room(Use::kSend, 1)) return;
  withdrawals_told_ = offers_done_ + 1;
  (void)work_.send(0, 0, returned_ | withdrawal_of(offers_done_));
  peer_left_ += std::exchange(returned_, 0);
  credits_--;
}

// The stream.

/// Moves the frame on into messages. False: no message is to be had now.
bool Sender::copy() {
  while (begin_ < end_) {
    if (!message_open_ && !open_message()) return false;
    iovec& piece = pieces_[begin_];
    const size_t bytes = std::min<size_t>(piece.iov_len, message_bytes_ - message_used_);
    std::memcpy(work_.pair().send_buffer(next_buffer_) + message_used_, piece.iov_base, bytes);
    message_used_ += static_cast<uint32_t>(bytes);
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + bytes;
    piece.iov_len -= bytes;
    if (piece.iov_len == 0) begin_++;
    if (begin_ == end_) end_frame();  // before its message goes
    if (message_used_ == message_bytes_) close_message();
  }
  return true;
}

void Sender::end_frame() {
  in_frame_ = false;
  SendFrame* frame = std::exchange(current_, nullptr);
  const bool offer_ends_it = way_ == Way::kOffered && offers_[(offers_made_ - 1) % kOffersMax].frame == frame;
  if (frame && !offer_ends_it) message_frames_.push(*frame);
  way_ = Way::kInline;
}

/// The last credit is kept for telling the peer of credits.
bool Sender::open_message() {
  if (credits_ < 2 || buffers_out_ == kSends || !work_.has_room(Use::kSend, 1)) return false;
  message_open_ = true;
  message_used_ = 0;
  return true;
}

void Sender::close_message() {
  Posted& posted = work_.send(next_buffer_, message_used_, returned_);
  (base::rules().slot_until_placed ? posted.frames : done_) = std::exchange(message_frames_, {});
  posted.bytes = std::exchange(message_placed_bytes_, 0);
  peer_left_ += std::exchange(returned_, 0);
  credits_--;
  buffers_out_++;
  next_buffer_ = (next_buffer_ + 1) % kSends;
  message_open_ = false;
}

/// Tells the peer of receives that we have posted again, by a SEND of no bytes: when half of them are back and no other
/// SEND has said so, or when the peer has none left. The server may spend its last credit on a client that has none; a
/// client may not. So at any time one of the two can speak.
void Sender::send_credit() {
  const bool half = returned_ >= kRecvs / 2 && credits_ >= 1;
  const bool stuck = peer_left_ == 0 && returned_ > 0 && credits_ >= (role_ == Role::kServer ? 1u : 2u);
  if ((!half && !stuck) || !work_.has_room(Use::kSend, 1)) return;
  (void)work_.send(0, 0, returned_);
  peer_left_ += std::exchange(returned_, 0);
  credits_--;
}

void Sender::add_credits(uint32_t receives) { credits_ += receives; }

void Sender::on_posted_done(Posted& done) {
  if (done.kind != Posted::Kind::kMessage) return;
  buffers_out_--;
  placed_bytes_ -= done.bytes;
  while (SendFrame* frame = done.frames.pop()) done_.push(*frame);
}

bool Sender::report() {
  if (done_.empty()) return false;
  FrameQueue done = std::exchange(done_, {});
  while (SendFrame* frame = done.pop()) {
    bytes_queued_ -= wire_bytes(*frame);
    frame->queued = false;
    frame->on_done(*frame, true);
  }
  return true;
}

void Sender::fail_all() {
  bytes_queued_ = 0;
  FrameQueue lost;
  while (SendFrame* frame = done_.pop()) lost.push(*frame);
  while (!work_.empty()) {
    Posted posted = work_.pop();
    while (SendFrame* frame = posted.frames.pop()) lost.push(*frame);
  }
  while (SendFrame* frame = message_frames_.pop()) lost.push(*frame);
  while (offers_done_ < offers_made_) {
    Offer& offer = offers_[offers_done_++ % kOffersMax];
    let_go(offer);
    SendFrame* frame = std::exchange(offer.frame, nullptr);
    if (frame && frame != current_) lost.push(*frame);
  }
  if (SendFrame* frame = std::exchange(current_, nullptr)) lost.push(*frame);
  while (SendFrame* frame = plain_.pop()) lost.push(*frame);
  while (SendFrame* frame = loaded_.pop()) lost.push(*frame);
  memkv::transport::report(lost, false);
}

}  // namespace memkv::transport::rdma
