#include "transport/tcp_link.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "io/socket.h"

namespace memkv::transport {
namespace {

constexpr size_t kBufferBytes = 64 * 1024;
constexpr size_t kBufferBytesGrown = wire::kHeaderBytes + wire::kBodyBytesMax;
/// A payload above this is worth a receive of its own; below, copying it is cheaper than a system call.
constexpr size_t kLargePayload = 16 * 1024;
constexpr size_t kSmallReadAhead = wire::kHeaderBytes + 256;
/// Of a payload in one receive: its owner hashes that much while it is still in the cache.
constexpr size_t kPayloadPart = 256 * 1024;
constexpr uint32_t kUnsentBytes = 256 * 1024;
/// No frame with payload joins a batch that has this much: what is in a batch cannot be overtaken any more.
constexpr uint64_t kBatchBytes = 256 * 1024;
constexpr uint64_t kRetryNs = 1'000'000;

}  // namespace

TcpLink::TcpLink(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys, LinkOwner& owner)
    : reactor_(reactor),
      fd_(fd),
      owner_(owner),
      receive_key_(role == Role::kClient ? keys.server_to_client : keys.client_to_server),
      send_key_(role == Role::kClient ? keys.client_to_server : keys.server_to_client),
      cancel_is_synchronous_(reactor.name() == "epoll"),
      last_progress_ns_(reactor.now_ns()),
      buffer_(std::make_unique_for_overwrite<std::byte[]>(kBufferBytes)),
      capacity_(kBufferBytes) {
  // Hints: a socket that takes neither still works.
  (void)io::set_nodelay(fd);
  (void)io::set_notsent_lowat(fd, kUnsentBytes);
  turn_op_.context = receive_op_.context = send_op_.context = retry_timer_.context = this;
  turn_op_.on_done = [](io::IoOp& op, int32_t) { static_cast<TcpLink*>(op.context)->on_turn(); };
  retry_timer_.on_done = [](io::Timer& timer) { static_cast<TcpLink*>(timer.context)->on_turn(); };
  receive_op_.on_done = [](io::IoOp& op, int32_t n) { static_cast<TcpLink*>(op.context)->on_received(n); };
  send_op_.on_done = [](io::IoOp& op, int32_t n) { static_cast<TcpLink*>(op.context)->on_sent(n); };
  start_receive();
}

TcpLink::~TcpLink() {
  MEMKV_ASSERT(!turn_op_.pending() && !receive_op_.pending() && !send_op_.pending(), "only after on_closed");
  reactor_.stop(retry_timer_);
}

/// One turn op serves all that may not happen inside a call of the owner.
void TcpLink::schedule() {
  if (turn_op_.pending() || retry_timer_.armed()) return;
  if (!reactor_.post(turn_op_, 0)) retry_soon();
}

void TcpLink::retry_soon() {
  if (!turn_op_.pending() && !retry_timer_.armed()) reactor_.start(retry_timer_, reactor_.now_ns() + kRetryNs);
}

void TcpLink::on_turn() {
  if (!closing_ && std::exchange(receive_wanted_, false) && !receive_op_.pending()) run_receive();
  if (!closing_) start_send();
  if (closing_) finish_close();  // the last statement: it may destroy this
}

void TcpLink::close(Status why) { begin_close(Error{why, 0, "closed by its owner"}); }

void TcpLink::begin_close(const Error& why) {
  if (closing_) return;
  closing_ = true;
  why_ = why;
  if (receive_op_.pending()) reactor_.cancel(receive_op_);
  if (send_op_.pending()) reactor_.cancel(send_op_);
  schedule();  // also when the cancels complete later: on_closed never runs inside whoever called us
}

/// Whoever comes last of the ops ends the link.
void TcpLink::finish_close() {
  if (turn_op_.pending() || retry_timer_.armed() || receive_op_.pending() || send_op_.pending()) return;
  bytes_queued_ = 0;
  fail_frames(batch_);
  fail_frames(plain_);
  fail_frames(loaded_);
  fd_.reset();
  owner_.on_closed(*this, Error{why_});  // may destroy this
}

void TcpLink::fail_frames(FrameQueue& queue) {
  while (OutFrame* frame = queue.pop()) {
    frame->queued = false;
    frame->on_done(*frame, false);
  }
}

// Receiving.

void TcpLink::start_receive() {
  if (begin_ > 0) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
  size_t count = 0;
  direct_bytes_ = 0;
  size_t ask = expect_large_ ? kSmallReadAhead : capacity_;
  if (in_payload_ && into_) {
    count = target_.rest({receive_pieces_.data(), kPiecesPerPayloadMax}, kPayloadPart, direct_bytes_);
  } else if (in_payload_) {
    ask = payload_left_ + kSmallReadAhead;
  } else {
    const size_t whole = wire::kHeaderBytes + (have_header_ ? header_.body_bytes : 0);
    if (whole > capacity_) {
      auto grown = std::make_unique_for_overwrite<std::byte[]>(kBufferBytesGrown);
      std::memcpy(grown.get(), buffer_.get(), end_);
      buffer_ = std::move(grown);
      capacity_ = kBufferBytesGrown;
    }
    ask = std::max(ask, whole - end_);
  }
  // What follows the payload comes along, unless there is more payload than pieces fit one receive.
  if (direct_bytes_ == 0 || direct_bytes_ == payload_left_) {
    receive_pieces_[count++] = {buffer_.get() + end_, std::min(ask, capacity_ - end_)};
  }
  if (!reactor_.recv(receive_op_, fd_.get(), {receive_pieces_.data(), count})) {
    direct_bytes_ = 0;
    receive_wanted_ = true;
    retry_soon();
  }
}

void TcpLink::on_received(int32_t result) {
  const size_t direct = std::exchange(direct_bytes_, 0);
  if (closing_) return finish_close();
  if (result == -ECANCELED) return run_receive();  // redirect() did it
  if (result == 0) return begin_close(Error{Status::kUnavailable, 0, "the peer closed the connection"});
  if (result < 0) return begin_close(Error{Status::kUnavailable, -result, "receive failed"});
  const auto bytes = static_cast<size_t>(result);
  stats_.recvs++;
  stats_.bytes_in += bytes;
  last_progress_ns_ = reactor_.now_ns();
  const size_t into_pieces = std::min(bytes, direct);
  payload_left_ -= into_pieces;
  if (into_) target_.advance(into_pieces);  // not so if redirect() came in between
  end_ += bytes - into_pieces;
  run_receive();
}

/// Works off what was received, then asks for more. Any callback may close the link, never destroy it.
void TcpLink::run_receive() {
  while (!closing_ && !paused_) {
    if (in_payload_ ? take_payload() : take_frame()) continue;
    if (!closing_) start_receive();
    return;
  }
}

/// False: more must be received first.
bool TcpLink::take_payload() {
  const size_t bytes = std::min(buffered(), payload_left_);
  if (into_ && bytes > 0) target_.put({buffer_.get() + begin_, bytes});
  begin_ += bytes;
  payload_left_ -= bytes;
  if (payload_left_ > 0) {
    if (into_) owner_.on_payload_part(*this, header_.payload_bytes - payload_left_);
    return false;
  }
  in_payload_ = into_ = false;
  target_ = {};
  owner_.on_payload(*this);
  return true;
}

/// False: more must be received first, or the frame is bad and the link closing.
bool TcpLink::take_frame() {
  const std::byte* at = buffer_.get() + begin_;
  if (!have_header_) {
    if (buffered() < wire::kHeaderBytes) return false;
    auto header = wire::decode_header(std::span<const std::byte, wire::kHeaderBytes>(at, wire::kHeaderBytes));
    if (!header) return begin_close(header.error()), false;
    if (auto checked = check_header(*header, receive_sequence_); !checked) return begin_close(checked.error()), false;
    header_ = *header;
    have_header_ = true;
  }
  const size_t whole = wire::kHeaderBytes + header_.body_bytes;
  if (buffered() < whole) return false;
  const std::span<const std::byte> body(at + wire::kHeaderBytes, header_.body_bytes);
  if (!wire::check_mac(receive_key_, header_, body)) {
    return begin_close(Error{Status::kUnauthorized, 0, "frame: wrong MAC"}), false;
  }
  have_header_ = false;
  receive_sequence_++;
  begin_ += whole;
  stats_.frames_in++;
  expect_large_ = header_.payload_bytes > kLargePayload;
  const wire::FrameHeader header = header_;
  const PayloadTarget target = owner_.on_frame(*this, header, body);
  if (header.payload_bytes > 0 && !closing_) {
    in_payload_ = true;
    payload_left_ = header.payload_bytes;
    set_target(target);
  }
  return true;
}

void TcpLink::set_target(PayloadTarget target) {
  paused_ = target.kind == PayloadTarget::Kind::kPause;
  into_ = target.kind == PayloadTarget::Kind::kInto;
  if (!into_) return;
  size_t bytes = 0;
  for (const iovec& piece : target.pieces) bytes += piece.iov_len;
  MEMKV_ASSERT(bytes == payload_left_, "the target must hold exactly the payload");
  target_ = PieceCursor(target.pieces);
}

void TcpLink::resume(PayloadTarget target) {
  if (closing_) return;
  MEMKV_ASSERT(paused_ && target.kind != PayloadTarget::Kind::kPause, "resume() answers kPause");
  set_target(target);
  receive_wanted_ = true;
  schedule();
}

bool TcpLink::redirect() {
  if (!in_payload_) return true;
  if (paused_ && !closing_) resume(PayloadTarget::sink());
  into_ = false;
  target_ = {};
  if (!receive_op_.pending() || direct_bytes_ == 0) return true;
  if (!cancel_is_synchronous_) return false;
  reactor_.cancel(receive_op_);
  direct_bytes_ = 0;
  return true;
}

// Sending.

Result<void> TcpLink::send(OutFrame& frame) {
  if (closing_) return Error{Status::kUnavailable, 0, "send: the link is closed"};
  if (auto prepared = prepare(frame); !prepared) return prepared;
  (frame.payload_bytes > 0 ? loaded_ : plain_).push(frame);
  bytes_queued_ += wire_bytes(frame);
  if (!send_op_.pending() && !in_send_done_) schedule();  // else the send's completion goes on
  return {};
}

void TcpLink::start_send() {
  if (send_op_.pending()) return;
  fill_batch();
  if (batch_begin_ == batch_end_) return;
  if (!reactor_.send(send_op_, fd_.get(), {batch_pieces_.data() + batch_begin_, batch_end_ - batch_begin_})) {
    retry_soon();
  }
}

void TcpLink::fill_batch() {
  if (batch_begin_ > 0) {
    std::copy(batch_pieces_.begin() + static_cast<ptrdiff_t>(batch_begin_),
              batch_pieces_.begin() + static_cast<ptrdiff_t>(batch_end_), batch_pieces_.begin());
    batch_end_ -= batch_begin_;
    batch_begin_ = 0;
  }
  for (;;) {
    FrameQueue& queue = plain_.empty() ? loaded_ : plain_;
    OutFrame* frame = queue.front();
    if (!frame || batch_end_ + 2 + frame->payload.size() > kBatchPiecesMax) return;
    if (&queue == &loaded_ && batch_bytes_ >= kBatchBytes) return;
    add_to_batch(*queue.pop());
  }
}

void TcpLink::add_to_batch(OutFrame& frame) {
  encode_header(frame, send_sequence_++, send_key_);
  const auto add = [this](const void* data, size_t bytes) {
    if (bytes > 0) batch_pieces_[batch_end_++] = {const_cast<void*>(data), bytes};
  };
  add(frame.header.data(), frame.header.size());
  add(frame.body.data(), frame.body.size());
  for (const iovec& piece : frame.payload) add(piece.iov_base, piece.iov_len);
  if (batch_.empty()) batch_first_left_ = wire_bytes(frame);
  batch_bytes_ += wire_bytes(frame);
  batch_.push(frame);
}

void TcpLink::on_sent(int32_t result) {
  if (closing_) {
    if (result > 0) drop_from_batch(static_cast<size_t>(result));  // the cancel came too late
    return finish_close();
  }
  if (result < 0) return begin_close(Error{Status::kUnavailable, -result, "send failed"});
  stats_.sends++;
  stats_.bytes_out += static_cast<uint64_t>(result);
  last_progress_ns_ = reactor_.now_ns();
  drop_from_batch(static_cast<size_t>(result));
  if (!closing_) start_send();
}

/// Forgets what left and reports the frames that left whole.
void TcpLink::drop_from_batch(size_t bytes) {
  bytes_queued_ -= bytes;
  batch_bytes_ -= bytes;
  for (size_t left = bytes; left > 0;) {
    iovec& piece = batch_pieces_[batch_begin_];
    const size_t n = std::min(left, piece.iov_len);
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + n;
    piece.iov_len -= n;
    left -= n;
    if (piece.iov_len == 0) batch_begin_++;
  }
  FrameQueue done;
  while (!batch_.empty() && bytes >= batch_first_left_) {
    bytes -= batch_first_left_;
    done.push(*batch_.pop());
    batch_first_left_ = batch_.empty() ? 0 : wire_bytes(*batch_.front());
  }
  batch_first_left_ -= bytes;
  in_send_done_ = true;  // what is sent from inside on_done leaves with the send that follows
  while (OutFrame* frame = done.pop()) {
    stats_.frames_out++;
    frame->queued = false;
    frame->on_done(*frame, true);
  }
  in_send_done_ = false;
}

std::unique_ptr<Link> make_tcp_link(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys,
                                    LinkOwner& owner) {
  return std::make_unique<TcpLink>(reactor, fd, role, keys, owner);
}

}  // namespace memkv::transport
