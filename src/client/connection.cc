#include "client/connection.h"

#include <algorithm>

#include "base/log.h"
#include "base/test_rules.h"
#include "client/context.h"
#include "transport/rdma/control.h"

namespace memkv::client {
namespace {

using wire::Opcode;

constexpr uint64_t kSilenceNs = 250'000'000;  // then a ping
constexpr uint64_t kPongNs = 500'000'000;     // then it is dead
// A queue pair finds out by itself that its peer is gone. What it moves for the server is not seen here, and on a wire
// that loses packets the pong comes late behind it.
constexpr uint64_t kPongRdmaNs = 3'000'000'000;
constexpr uint64_t kWelcomeNs = 1'000'000'000;

}  // namespace

Connection::Connection(Context& context, RemoteServer& server, Transport transport, uint16_t wanted_worker, size_t rail)
    : context_(context), server_(server), transport_(transport), rail_(rail), worker_(wanted_worker) {}

Connection::~Connection() { MEMKV_ASSERT(quiet_at_rest() && !has_queued()); }

// Opening and closing.

void Connection::connect(const sockaddr* address, socklen_t length, uint64_t deadline_ns) {
  MEMKV_ASSERT(state_ == State::kIdle);
  state_ = State::kConnecting;
  state_since_ns_ = context_.now_ns();
  goodbye_ = {};
  transport::Connector::Options options;
  options.transport = transport_;
  options.secret = context_.settings().secret;
  options.hello.transport = static_cast<uint8_t>(transport_) - static_cast<uint8_t>(Transport::kTcp);
  options.hello.wanted_worker = worker_;
  options.client_name = context_.settings().client_name;
  options.congestion = context_.settings().congestion;
  options.deadline_ns = deadline_ns;
  if (transport_ == Transport::kRdma) {
    connector_ = transport::rdma::make_connector(*context_.rdma(), rail_, address, length, options, *this,
                                                 on_connect_done, this);
    return;
  }
  connector_ =
      transport::Connector::make(context_.reactor(), address, length, std::move(options), *this, on_connect_done, this);
}

void Connection::on_connect_done(void* self, Result<std::unique_ptr<transport::Link>> link,
                                 std::string_view server_name, std::string_view goodbye) {
  static_cast<Connection*>(self)->connected(std::move(link), server_name, goodbye);
}

void Connection::connected(Result<std::unique_ptr<transport::Link>> link, std::string_view server_name,
                           std::string_view goodbye) {
  connector_.reset();
  if (!link) {
    state_ = State::kIdle;
    return server_.on_connect_failed(*this, link.error(), goodbye);
  }
  adopt(std::move(*link), server_name);
}

void Connection::adopt(std::unique_ptr<transport::Link> link, std::string_view server_name) {
  link_ = std::move(link);
  state_ = State::kWelcoming;
  state_since_ns_ = heard_ns_ = context_.now_ns();
  epoch_++;
  pinged_ns_ = 0;
  clock_.reset();
  MEMKV_ASSERT(credit_used_ == 0 && eager_used_ == 0 && ops_used_ == 0 && get_bytes_ == 0 && exists_frames_ == 0);
  context_.watch();
  if (!server_.accept_name(server_name)) {
    goodbye_ = {Status::kInvalid, "it calls itself '" + std::string(server_name) + "', not '" + server_.name() + "'"};
    return link_->close(Status::kInvalid);
  }
  introduce();
}

void Connection::close(Status why) {
  if (state_ == State::kConnecting) return connector_->cancel();
  if (state_ == State::kIdle || state_ == State::kClosing) return;
  if (state_ == State::kOpen) state_ = State::kClosing;
  link_->close(why);
}

void Connection::protocol_error(const char* what) {
  MEMKV_LOG_EVERY(1, kError, "server {}: {}; the connection is closed", server_.name(), what);
  close(Status::kInvalid);
}

void Connection::on_closed(transport::Link&, const Error& why) {
  server_.note_heard(heard_ns());
  const auto link = std::move(link_);
  const State was = state_;
  state_ = State::kIdle;
  pinged_ns_ = 0;
  UnitQueue arriving_units;  // the end of one may be the end of its op, and of the op's others
  for (Arriving& arriving : std::exchange(arriving_, {})) {
    arriving.staged.release();
    arriving.unit->queue = &arriving_units;
    arriving_units.push_back(*arriving.unit);
  }
  while (Unit* unit = arriving_units.front()) context_.on_lost(*unit, true);
  while (RequestFrame* frame = frames_.front()) {
    for (FrameExposure& exposure : frame->exposures) let_go(exposure);  // the link writes nothing any more
    for (size_t i = 0; i < frame->units.size(); i++) {
      Unit* unit = frame->units[i];
      if (!unit) continue;
      take_unit(*frame, static_cast<uint32_t>(i));
      context_.on_lost(*unit, !frame->never_left);
    }
    MEMKV_ASSERT(!frame->on_link, "the link gave all frames back before it closed");
    free_frame(*frame);
  }
  MEMKV_ASSERT(credit_used_ == 0 && eager_used_ == 0 && ops_used_ == 0 && get_bytes_ == 0, "credit is left");
  UnitQueue queued;
  take_queued(queued);
  while (Unit* unit = queued.front()) context_.on_lost(*unit, false);
  Error error = why;
  if (goodbye_.status != Status::kOk) error.status = goodbye_.status;
  if (was == State::kWelcoming) return server_.on_connect_failed(*this, error, goodbye_.text);
  server_.on_lost(*this, error);
}

/// Hands over all that is queued, in no particular order between kinds.
void Connection::take_queued(UnitQueue& into) {
  for (UnitQueue* queue : {&exists_, &ops_, &gets_, &small_, &large_, &gpu_, &admin_}) {
    while (Unit* unit = queue->pop_front()) {
      unit->take_off();
      unit->queue = &into;
      into.push_back(*unit);
    }
  }
}

// Frames and units.

RequestFrame* Connection::frame_of(uint64_t request_id) {
  RequestFrame* frame = context_.frame_at(static_cast<uint32_t>(request_id & ((1u << kSlotBits) - 1)));
  if (!frame || frame->connection != this || frame->out.request_id != request_id || frame->unanswered == 0)
    return nullptr;
  return frame;
}

/// Null also when it asked something else, which ends the connection.
RequestFrame* Connection::frame_of(uint64_t request_id, Opcode asked) {
  RequestFrame* frame = frame_of(request_id);
  if (!frame || frame->out.opcode == asked) return frame;
  protocol_error("an answer to another question");
  return nullptr;
}

/// The unit at an index of the frame; null if it was given up. The caller checked the index.
Unit* Connection::take_unit(RequestFrame& frame, uint32_t index) {
  Unit* unit = std::exchange(frame.units[index], nullptr);
  if (!unit) return nullptr;
  if (is_large_get(*unit)) get_bytes_ -= unit->length;
  unit->frame = nullptr, unit->take_off();
  return unit;
}

void Connection::answered(RequestFrame& frame, uint32_t replies) {
  MEMKV_ASSERT(frame.unanswered >= replies);
  const auto waits = [](const Unit* unit) { return unit != nullptr; };
  if (frame.unanswered == replies && std::any_of(frame.units.begin(), frame.units.end(), waits)) {
    return protocol_error("an op was answered twice");  // the frame ends with the connection, as do those that wait
  }
  frame.unanswered -= replies;
  if (frame.counts_ops) ops_used_ -= replies;
  free_if_done(frame);
}

void Connection::free_if_done(RequestFrame& frame) {
  if (!frame.on_link && frame.unanswered == 0) free_frame(frame);
}

void Connection::free_frame(RequestFrame& frame) {
  MEMKV_ASSERT(credit_used_ >= frame.credit && eager_used_ >= frame.eager_bytes);
  if (base::rules().credit_returned) credit_used_ -= frame.credit;
  eager_used_ -= frame.eager_bytes;
  if (frame.counts_ops) ops_used_ -= frame.unanswered;
  if (frame.out.opcode == Opcode::kExists) exists_frames_--;
  frames_.remove(frame);
  frame.connection = nullptr;
  frame.units.clear();
  frame.holders.clear();
  for (FrameExposure& exposure : frame.exposures) let_go(exposure);
  frame.exposures.clear();
  frame.canceled.clear();
  frame.offered.release();
  frame.payload.clear();
  frame.unanswered = 0;
  frame.never_left = frame.counts_ops = false;
  frame.credit = frame.eager_bytes = 0;
  context_.give_back(frame);
}

void Connection::give_up(Unit& unit) {
  RequestFrame& frame = *unit.frame;
  const uint64_t request_id = frame.out.request_id;
  const uint16_t index = unit.index;
  take_unit(frame, index);
  // Its server may be waiting for room.
  const auto lives = [](const Unit* one) { return one != nullptr; };
  if (link_ && std::none_of(frame.units.begin(), frame.units.end(), lives)) link_->withdraw(frame.out);
  // A CANCEL would overtake a frame that is still in the link's hands.
  if (frame.on_link) {
    // What the server would hold for it: memory that it may write, or an upload.
    if (exposure_of(frame, nullptr, index) || unit.kind == wire::OpKind::kBegin) frame.canceled.push_back(index);
    return;
  }
  if (frame.out.opcode == Opcode::kOps) send_cancel(request_id, index);
}

void Connection::send_cancel(uint64_t request_id, uint16_t index) {
  std::array<std::byte, 64> body;
  const size_t bytes = wire::encode(wire::Cancel{request_id, index}, body);
  send_control(Opcode::kCancel, std::span(body).first(bytes));
}

bool Connection::holds_memory_of(const Op& op) const {
  for (const RequestFrame& frame : frames_) {
    if (std::find(frame.holders.begin(), frame.holders.end(), &op) != frame.holders.end()) return true;
    const auto mine = [&](const FrameExposure& exposure) { return exposure.holder == &op; };
    if (std::any_of(frame.exposures.begin(), frame.exposures.end(), mine)) return true;
  }
  return false;
}

void Connection::quiet(Op& op) {
  const auto mine = [&](const Arriving& a) { return a.unit->op == &op; };
  if (std::none_of(arriving_.begin(), arriving_.end(), mine) || !base::rules().quiet_memory) return;
  const bool quiet_now = link_->redirect();
  MEMKV_ASSERT(quiet_now, "the client's reactor cancels receives at once");
  // The others of this reply lose their bytes too, and ask again.
  for (Arriving& arriving : std::exchange(arriving_, {})) {
    arriving.staged.release();
    if (arriving.unit->op != &op) context_.retry_later(*arriving.unit);
  }
}

bool Connection::check_liveness(uint64_t now) {
  if (state_ == State::kWelcoming) return now - state_since_ns_ < kWelcomeNs;
  if (state_ != State::kOpen) return true;
  const uint64_t pong_ns = transport_ == Transport::kRdma ? kPongRdmaNs : kPongNs;
  if (pinged_ns_ != 0) return now - std::max({pinged_ns_, link_->last_sent_ns(), link_->last_received_ns()}) < pong_ns;
  if (frames_.empty() || now - heard_ns_ < kSilenceNs) return true;
  ping();
  pinged_ns_ = now;
  return true;
}

}  // namespace memkv::client
