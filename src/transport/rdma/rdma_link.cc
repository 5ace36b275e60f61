#include "transport/rdma/rdma_link.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace memkv::transport::rdma {
namespace {

constexpr size_t kCompletionsAtOnce = 32;
/// The stream holds frames that ride inside; larger payloads go beside it. Nothing is read ahead of a frame.
constexpr FrameReader::Shape kShape{.part_bytes = wire::kPayloadBytesMax, .reads_ahead = false};

}  // namespace

/// Takes over a connected queue pair and the TCP control connection beside it. One byte is asked of the control
/// connection: it never comes, and the end of the stream tells that the peer is gone.
RdmaLink::RdmaLink(Poller& poller, LinkParts parts, Role role, const wire::SessionKeys& keys, LinkOwner& owner)
    : poller_(poller),
      owner_(owner),
      role_(role),
      rail_(parts.rail),
      counters_(poller.host().rail(parts.rail).counters),
      pair_(std::move(parts.pair)),
      control_(std::move(parts.control)),
      work_(*pair_),
      sender_(poller, rail_, pair_->device(), work_, role, sending_key(role, keys), parts.peer),
      fetcher_(poller, rail_, pair_->device(), work_),
      reader_(*this, *this, receiving_key(role, keys), 1, kShape),
      turn_(
          poller.reactor(), [](void* self) { static_cast<RdmaLink*>(self)->on_turn(); }, this),
      last_sent_ns_(poller.reactor().now_ns()),
      last_received_ns_(last_sent_ns_) {
  counters_.links.fetch_add(1);
  counters_.links_total.fetch_add(1);
  control_piece_ = {&control_byte_, 1};
  control_op_.context = this;
  control_op_.on_done = [](io::IoOp& op, int32_t n) { static_cast<RdmaLink*>(op.context)->on_control(n); };
  if (!poller.reactor().recv(control_op_, control_.get(), {&control_piece_, 1})) {
    begin_close(Error{Status::kBusy, 0, "rdma: the event loop is full"});
  }
  if (!poller.add(*this)) begin_close(Error{Status::kBusy, 0, "rdma: its completions cannot be watched"});
  turn_.soon();
}

RdmaLink::~RdmaLink() {
  MEMKV_ASSERT(torn_down_ && !control_op_.pending(), "only after on_closed");
  counters_.links.fetch_sub(1);
}

// Ends.

void RdmaLink::close(Status why) { begin_close(Error{why, 0, "closed by its owner"}); }

void RdmaLink::on_control(int32_t result) {
  if (closing_) return finish_close();
  take_completions();  // what the peer said last came before
  if (result > 0) return begin_close(Error{Status::kInvalid, 0, "something came over the control connection"});
  begin_close(Error{Status::kUnavailable, result < 0 ? -result : 0, "the peer closed the connection"});
}

void RdmaLink::on_device_gone() {
  counters_.failures.fetch_add(1);
  begin_close(Error{Status::kUnavailable, 0, "the RDMA device is gone"});
}

void RdmaLink::begin_close(const Error& why) {
  if (closing_) return;
  closing_ = true;
  why_ = why;
  reader_.stop();
  if (control_op_.pending()) poller_.reactor().cancel(control_op_);
  turn_.soon();
}

/// First the queue pair: until it is gone its memory may be touched.
void RdmaLink::finish_close() {
  if (!torn_down_) {
    if (tear_down_.pending) return;
    poller_.remove(*this);
    tear_down_.context = this;
    tear_down_.run = [](BlockingJob& job) {
      auto& self = *static_cast<RdmaLink*>(job.context);
      self.pair_->fail();
      self.pair_.reset();
    };
    tear_down_.on_done = [](BlockingJob& job) {
      auto& self = *static_cast<RdmaLink*>(job.context);
      self.torn_down_ = true;
      self.control_.reset();  // now the peer may know
      self.turn_.soon();
    };
    return poller_.tear_down(tear_down_);
  }
  if (control_op_.pending() || turn_.pending()) return;
  fetcher_.finish();
  sender_.fail_all();
  owner_.on_closed(*this, Error{why_});  // may destroy this
}

// Turns.

void RdmaLink::on_turn() {
  if (!closing_) move();
  if (closing_) finish_close();  // the last statement: it may destroy this
}

/// Moves on whatever can: frames out, frames in, payloads that wait for room.
void RdmaLink::move() {
  feed();
  while (!closing_) {
    if (!fetcher_.post()) turn_.later();
    if (broken_ || !sender_.pump()) {
      counters_.failures.fetch_add(1);
      return begin_close(Error{Status::kUnavailable, 0, "rdma: the queue pair takes nothing more"});
    }
    if (!sender_.report()) return;
  }
}

Result<void> RdmaLink::send(SendFrame& frame) {
  if (closing_) return Error{Status::kUnavailable, 0, "send: the link is closed"};
  if (auto pushed = sender_.push(frame); !pushed) return pushed;
  turn_.soon();
  return {};
}

void RdmaLink::withdraw(SendFrame& frame) {
  if (closing_) return;
  sender_.withdraw(frame);
  turn_.soon();
}

// Completions.

size_t RdmaLink::take_completions() {
  if (closing_) return 0;
  std::array<ibv_wc, kCompletionsAtOnce> completions;
  const int count = pair_->poll(completions);
  if (count == 0) return 0;
  if (count < 0) return begin_close(Error{Status::kUnavailable, 0, "rdma: the completion queue failed"}), 1;
  for (int i = 0; i < count && !closing_; i++) {
    const ibv_wc& completion = completions[static_cast<size_t>(i)];
    if (completion.status != IBV_WC_SUCCESS) {
      on_failed(completion);
    } else if (QueuePair::is_receive(completion)) {
      on_received(completion);
    } else {
      on_work_done();
    }
  }
  if (!closing_) move();
  return static_cast<size_t>(count);
}

void RdmaLink::on_failed(const ibv_wc& completion) {
  counters_.failures.fetch_add(1);
  if (completion.status == IBV_WC_RETRY_EXC_ERR) counters_.retry_errors.fetch_add(1);
  if (completion.status == IBV_WC_RNR_RETRY_EXC_ERR) counters_.rnr_errors.fetch_add(1);
  if (completion.status == IBV_WC_REM_ACCESS_ERR) counters_.access_errors.fetch_add(1);
  const Device& device = pair_->device();
  const char* why = device.verbs().wc_status_str(completion.status);
  MEMKV_LOG(kWarn, "rdma: a queue pair of device {} failed: {}", device.name(), why);
  begin_close(Error{Status::kUnavailable, 0, why});
}

void RdmaLink::on_received(const ibv_wc& completion) {
  if (!QueuePair::is_message(completion))
    return begin_close(Error{Status::kInvalid, 0, "rdma: not a message of frames"});
  const auto index = static_cast<uint32_t>(completion.wr_id);
  last_received_ns_ = poller_.reactor().now_ns();
  sender_.receive_used();
  const uint32_t immediate = ntohl(completion.imm_data);
  sender_.add_credits(immediate & kImmCredits);
  // One that crossed TAKEN means nothing any more.
  if ((immediate & ~kImmCredits) == withdrawal_of(offers_taken_)) withdrawn_ = true;
  counters_.bytes_in.fetch_add(completion.byte_len, std::memory_order_relaxed);
  if (completion.byte_len == 0) return give_back_receive(index);
  MEMKV_ASSERT(message_count_ < messages_.size());
  messages_[(first_message_ + message_count_++) % messages_.size()] = {index, completion.byte_len};
}

void RdmaLink::give_back_receive(uint32_t index) {
  if (!pair_->post_receive(index)) broken_ = true;
  sender_.receive_returned();
}

void RdmaLink::on_work_done() {
  Posted done = work_.pop();
  const uint64_t now = poller_.reactor().now_ns();
  if (done.kind != Posted::Kind::kRead) {
    last_sent_ns_ = now;
    return sender_.on_posted_done(done);
  }
  last_received_ns_ = now;
  counters_.bytes_in.fetch_add(done.bytes, std::memory_order_relaxed);
  const uint32_t arrived = fetcher_.on_part_done(done.bytes);
  if (fetcher_.done()) return fetched();
  if (elsewhere_ == PayloadBeside::kRead) owner_.on_payload_part(*this, arrived);
}

void RdmaLink::fetched() {
  fetcher_.finish();
  elsewhere_ = PayloadBeside::kNone;
  offer_taken();
  owner_.on_payload(*this);
}

void RdmaLink::offer_taken() {
  withdrawn_ = false;
  sender_.tell_taken(++offers_taken_);
}

// The stream.

void RdmaLink::feed() {
  if (feeding_) return;
  feeding_ = true;
  while (!closing_ && end_elsewhere() && !reader_.paused() && feed_message()) {
  }
  feeding_ = false;
}

/// False: the stream has nothing.
bool RdmaLink::feed_message() {
  if (message_count_ == 0) return false;
  const Message& message = messages_[first_message_];
  size_t taken = 0;
  for (const iovec& room : reader_.room()) {
    const size_t bytes = std::min<size_t>(room.iov_len, message.bytes - message_at_);
    std::memcpy(room.iov_base, pair_->receive_buffer(message.index) + message_at_, bytes);
    message_at_ += static_cast<uint32_t>(bytes);
    taken += bytes;
  }
  if (message_at_ == message.bytes) {
    give_back_receive(message.index);
    first_message_ = (first_message_ + 1) % messages_.size();
    message_count_--;
    message_at_ = 0;
  }
  reader_.filled(taken);
  if (reader_.run() == FrameReader::Next::kBad) begin_close(reader_.error());
  return true;
}

PayloadTarget RdmaLink::on_frame(Link&, const wire::FrameHeader& header, std::span<const std::byte> body) {
  sender_.unmute();
  if (header.opcode == wire::Opcode::kOffer || header.opcode == wire::Opcode::kTaken) {
    if (header.payload_bytes > 0) {
      begin_close(Error{Status::kInvalid, 0, "rdma: a payload where none belongs"});
    } else if (header.opcode == wire::Opcode::kOffer) {
      on_offer(body);
    } else {
      on_taken(body);
    }
    return PayloadTarget::sink();
  }
  const bool placed = (header.flags & wire::kFramePlaced) != 0;
  if ((placed && (role_ == Role::kServer || header.payload_bytes == 0 || fetcher_.has_offer())) ||
      (fetcher_.has_offer() && fetcher_.offered_bytes() != header.payload_bytes)) {
    begin_close(Error{Status::kInvalid, 0, "rdma: a payload that does not fit its offer"});
    return PayloadTarget::sink();
  }
  const PayloadTarget target = owner_.on_frame(*this, header, body);
  if (closing_) return target;
  if (placed) {
    counters_.bytes_in.fetch_add(header.payload_bytes, std::memory_order_relaxed);
    elsewhere_ = PayloadBeside::kPlaced;
    return PayloadTarget::elsewhere();
  }
  return fetcher_.has_offer() ? take_elsewhere(target, header.payload_bytes) : target;
}

void RdmaLink::on_offer(std::span<const std::byte> body) {
  std::array<wire::RemotePiece, wire::kRemotePiecesPerOfferMax> remote_pieces;
  const auto count = wire::decode_offer(body, remote_pieces);
  if (!count) return begin_close(count.error());
  if (role_ == Role::kClient || fetcher_.has_offer()) {
    return begin_close(Error{Status::kInvalid, 0, "rdma: an offer where none belongs"});
  }
  fetcher_.set_offer(std::span(remote_pieces).first(*count));
}

void RdmaLink::on_taken(std::span<const std::byte> body) {
  const auto taken = wire::decode_taken(body);
  if (!taken) return begin_close(taken.error());
  if (!sender_.on_taken(taken->offers)) begin_close(Error{Status::kInvalid, 0, "rdma: more taken than was offered"});
}

/// The payload of the frame stands in the peer's memory.
PayloadTarget RdmaLink::take_elsewhere(PayloadTarget target, uint32_t payload_bytes) {
  switch (target.kind) {
    case PayloadTarget::Kind::kInto:
      check_holds(target.pieces, payload_bytes);
      fetcher_.start(target.pieces);
      elsewhere_ = PayloadBeside::kRead;
      break;
    case PayloadTarget::Kind::kPause:
      elsewhere_ = PayloadBeside::kPaused;
      break;
    default:
      elsewhere_ = PayloadBeside::kSunk;
      break;
  }
  return PayloadTarget::elsewhere();
}

/// Ends a payload that comes beside the stream. False: it cannot end yet, since it is paused or being read.
bool RdmaLink::end_elsewhere() {
  switch (elsewhere_) {
    case PayloadBeside::kNone:
      return true;
    case PayloadBeside::kPaused:
      if (withdrawn_) owner_.on_unwanted(*this);  // resumes, and a turn follows
      return false;
    case PayloadBeside::kRead:
      return false;
    case PayloadBeside::kSunk:
      fetcher_.drop();
      offer_taken();
      break;
    case PayloadBeside::kPlaced:
      break;
  }
  elsewhere_ = PayloadBeside::kNone;
  owner_.on_payload(*this);
  return !closing_;
}

void RdmaLink::resume(PayloadTarget target) {
  if (closing_) return;
  if (elsewhere_ == PayloadBeside::kPaused) {
    MEMKV_ASSERT(target.kind != PayloadTarget::Kind::kPause, "resume() answers kPause");
    (void)take_elsewhere(target, fetcher_.offered_bytes());
  } else {
    reader_.resume(target);
  }
  turn_.soon();
}

bool RdmaLink::redirect() {
  if (elsewhere_ == PayloadBeside::kPaused) {
    resume(PayloadTarget::sink());
    return true;
  }
  if (elsewhere_ == PayloadBeside::kRead) return fetcher_.redirect();
  if (reader_.paused() && !closing_) resume(PayloadTarget::sink());
  return reader_.redirect();
}

// Memory that the peer may write.

bool RdmaLink::expose(std::span<const iovec> pieces, Staging staging, Exposure& out) {
  return !closing_ && poller_.expose(pieces, staging, rail_, pair_->device(), out);
}

}  // namespace memkv::transport::rdma
