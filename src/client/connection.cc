#include "client/connection.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "base/chunk_seed.h"
#include "base/log.h"
#include "client/context.h"
#include "transport/rdma/control.h"

namespace memkv::client {
namespace {

using transport::PayloadTarget;
using wire::Opcode;

constexpr uint32_t kSlotBits = 20;
/// Payload in the link's hands at a time: hashed just before it leaves, and what is not there yet can still be taken
/// back.
constexpr uint64_t kLinkPayloadMax = 512 * 1024;
/// One-sided: the server fetches it, and what it has not fetched is in the link's hands.
constexpr uint64_t kLinkPayloadMaxRdma = 8u << 20;
constexpr uint64_t kSilenceNs = 250'000'000;  // then a ping
constexpr uint64_t kPongNs = 500'000'000;     // then it is dead
constexpr uint64_t kWelcomeNs = 1'000'000'000;
constexpr size_t kPiecesMax = 64;  // of OutFrame::payload

uint32_t in_chunk(uint64_t offset) { return static_cast<uint32_t>(offset % kChunkBytesMax); }

constexpr size_t kSegmentBytesMax = wire::kSegmentsPerOpMax * wire::kSegmentBytes;

/// Body bytes of an op in an OPS frame, or of a key in an EXISTS frame, at most.
size_t body_bytes(const Unit& unit) {
  return 40 + unit.op->key.size() + (unit.kind == wire::OpKind::kGet ? kSegmentBytesMax : 0) +
         8 * (wire::has_payload(unit.kind) ? range_sum_count(in_chunk(unit.offset), unit.length) : 0);
}

Frame* frame_in(transport::OutFrame& out) { return static_cast<Frame*>(out.context); }

}  // namespace

Connection::Connection(Context& context, Server& server, Transport transport, uint16_t wanted_worker, size_t rail)
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
  credit_used_ = eager_used_ = 0;
  context_.watch();
  if (!server_.accept_name(server_name)) {
    goodbye_ = {Status::kInvalid, "it calls itself '" + std::string(server_name) + "', not '" + server_.name() + "'"};
    link_->close(Status::kInvalid);
  }
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
  const auto link = std::move(link_);
  const State was = state_;
  state_ = State::kIdle;
  pinged_ns_ = 0;
  for (Arriving& arriving : std::exchange(arriving_, {})) {
    arriving.staged.release();
    context_.on_lost(*arriving.unit, true);
  }
  while (Frame* frame = frames_.front()) {
    for (FrameExposure& exposure : frame->exposures) let_go(exposure);  // the link writes nothing any more
    for (size_t i = 0; i < frame->units.size(); i++) {
      Unit* unit = frame->units[i];
      if (!unit) continue;
      frame->units[i] = nullptr;
      unit->frame = nullptr;
      context_.on_lost(*unit, !frame->never_left);
    }
    MEMKV_ASSERT(!frame->on_link, "the link gave all frames back before it closed");
    free_frame(*frame);
  }
  credit_used_ = eager_used_ = 0;
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
  for (UnitQueue* queue : {&exists_, &ops_, &small_, &large_, &admin_}) {
    while (Unit* unit = queue->pop_front()) {
      unit->take_off();
      unit->queue = &into;
      into.push_back(*unit);
    }
  }
}

// Sending.

void Connection::enqueue(Unit& unit) {
  MEMKV_ASSERT(unit.queue == nullptr && unit.frame == nullptr);
  const Kind kind = unit.op->spec->kind;
  UnitQueue* queue = &ops_;
  if (kind == Kind::kExists)
    queue = &exists_;
  else if (kind == Kind::kStatus || kind == Kind::kList)
    queue = &admin_;
  else if (wire::has_payload(unit.kind))
    queue = unit.length > wire::kEagerPayloadMax ? &large_ : &small_;
  unit.queue = queue;
  queue->push_back(unit);
  // A begin stands for the chunks that will follow it here.
  const uint64_t bytes = unit.kind == wire::OpKind::kBegin ? unit.op->bytes : unit.length;
  unit.put_on(load_bytes_, bytes);
  if (unit.kind != wire::OpKind::kChunk) given_bytes_ += bytes;
}

bool Connection::may_send() const { return state_ == State::kOpen && pinged_ns_ == 0; }

void Connection::pump() {
  while (may_send() && (send_exists() || send_ops() || send_large() || send_admin())) {
  }
}

Frame& Connection::new_frame(size_t bytes) {
  Frame& frame = context_.take_frame(bytes);
  frame.connection = this;
  return frame;
}

void Connection::add_unit(Frame& frame, Unit& unit) {
  unit.queue->remove(unit);
  unit.queue = nullptr;
  unit.frame = &frame;
  unit.index = static_cast<uint16_t>(frame.units.size());
  frame.units.push_back(&unit);
}

/// False: no room, and nothing was added.
bool Connection::add_op(Frame& frame, wire::OpsEncoder& encoder, Unit& unit) {
  const Op& op = *unit.op;
  const bool upload = unit.kind == wire::OpKind::kChunk || unit.kind == wire::OpKind::kCommit;
  const bool payload = wire::has_payload(unit.kind);
  const bool server_sums = context_.settings().put_checksum == PutChecksum::kServer;
  wire::Op out;
  out.kind = unit.kind;
  out.index = static_cast<uint16_t>(frame.units.size());
  const uint64_t now = context_.now_ns();
  const uint64_t left_us = op.deadline_ns > now ? (op.deadline_ns - now) / 1000 : 0;
  out.deadline_us = static_cast<uint32_t>(std::clamp<uint64_t>(left_us, 1, UINT32_MAX));
  out.offset = unit.kind == wire::OpKind::kChunk ? in_chunk(unit.offset) : unit.offset;
  out.length = unit.length;
  if (unit.kind == wire::OpKind::kGet) out.generation = op.demanded;
  if (upload) out.generation = op.upload;
  if (unit.kind == wire::OpKind::kChunk) out.chunk_number = static_cast<uint32_t>(unit.offset / kChunkBytesMax);
  if (!upload && unit.kind != wire::OpKind::kFlush) out.key = op.key;
  if (op.spec->if_absent && !upload) out.flags |= wire::kOpIfAbsent;
  if (unit.kind == wire::OpKind::kBegin && op.spec->kind == Kind::kWrite) out.flags |= wire::kOpRangeWrite;
  if (payload && server_sums) out.flags |= wire::kOpServerChecksum;
  std::array<uint64_t, wire::kSumsMax> sums;
  size_t sum_count = 0;
  const size_t before = frame.payload.size();
  if (payload) {
    slice(op.pieces, unit.place, unit.length, frame.payload);
    if (!server_sums) {
      const auto chunk = static_cast<uint32_t>(unit.offset / kChunkBytesMax);
      sum_count = range_sums(std::span(frame.payload).subspan(before), in_chunk(unit.offset),
                             base::chunk_seed(server_.namespace_id(), op.key, chunk), sums.data());
    }
  }
  std::span<const wire::Segment> segments;
  const bool exposed = expose(frame, unit);
  if (exposed) {
    const transport::Exposure& memory = frame.exposures.back().memory;
    segments = {memory.segments.data(), memory.count};
  }
  if (!encoder.add(out, {sums.data(), sum_count}, segments)) {
    frame.payload.resize(before);
    if (exposed) {
      let_go(frame.exposures.back());
      frame.exposures.pop_back();
      unit.exposure = 0;
    }
    return false;
  }
  add_unit(frame, unit);
  if (payload && unit.length > 0) {
    frame.holders.push_back(unit.op);
    unit.op->holds++;
  }
  return true;
}

/// A large get over a one-sided link names where its bytes go. False: they come behind the reply.
bool Connection::expose(Frame& frame, Unit& unit) {
  unit.exposure = 0;
  if (transport_ != Transport::kRdma || unit.kind != wire::OpKind::kGet || unit.length <= wire::kEagerPayloadMax) {
    return false;
  }
  Op& op = *unit.op;
  slices_.clear();
  slice(op.pieces, unit.place, unit.length, slices_);
  FrameExposure& exposure = frame.exposures.emplace_back();
  if (!link_->expose(slices_, exposure.memory)) {
    frame.exposures.pop_back();
    return false;
  }
  exposure.index = static_cast<uint16_t>(frame.units.size());
  if (exposure.memory.staging.empty()) {
    exposure.holder = &op;
    op.holds++;
  }
  unit.exposure = static_cast<uint16_t>(frame.exposures.size());
  return true;
}

/// Of an op of the frame, given up or not; null: nothing is exposed for it.
FrameExposure* Connection::exposure_of(Frame& frame, const Unit* unit, uint32_t index) {
  if (unit) return unit->exposure == 0 ? nullptr : &frame.exposures[unit->exposure - 1];
  for (FrameExposure& exposure : frame.exposures) {
    if (exposure.index == index) return &exposure;
  }
  return nullptr;
}

/// The server writes there no more.
void Connection::let_go(FrameExposure& exposure) {
  exposure.memory.release();
  Op* op = std::exchange(exposure.holder, nullptr);
  if (!op) return;
  op->holds--;
  context_.on_released(*op);
}

uint64_t Connection::link_payload_max() const {
  return transport_ == Transport::kRdma ? kLinkPayloadMaxRdma : kLinkPayloadMax;
}

bool Connection::send_ops() {
  const auto small_fits = [&](uint32_t in_frame) {
    return !small_.empty() && eager_used_ + in_frame + small_.front()->length <= wire::kEagerBytesMax;
  };
  if (ops_.empty() && !small_fits(0)) return false;
  size_t bytes = 2;
  size_t count = 0;
  for (const UnitQueue* queue : {&ops_, &small_}) {
    for (Unit& unit : *queue) {
      if (++count > Frame::kSmallUnits) break;
      bytes += body_bytes(unit);
    }
  }
  Frame& frame = new_frame(count > Frame::kSmallUnits ? wire::kBodyBytesMax : bytes);
  wire::OpsEncoder encoder({frame.body.get(), frame.body_capacity});
  while (!ops_.empty() && add_op(frame, encoder, *ops_.front())) {
  }
  while (small_fits(frame.eager_bytes)) {
    const uint32_t length = small_.front()->length;
    if (!add_op(frame, encoder, *small_.front())) break;
    frame.eager_bytes += length;
  }
  MEMKV_ASSERT(encoder.count() > 0);
  eager_used_ += frame.eager_bytes;
  send(frame, Opcode::kOps, encoder.finish());
  return true;
}

bool Connection::send_large() {
  if (large_.empty() || link_payload_bytes_ >= link_payload_max()) return false;
  Unit& unit = *large_.front();
  const uint32_t credit = wire::credit_units(unit.length);
  if (credit_used_ > 0 && credit_used_ + credit > credit_limit_) return false;
  Frame& frame = new_frame(2 + body_bytes(unit));
  wire::OpsEncoder encoder({frame.body.get(), frame.body_capacity});
  const bool added = add_op(frame, encoder, unit);
  MEMKV_ASSERT(added);
  frame.credit = credit;
  credit_used_ += credit;
  send(frame, Opcode::kOps, encoder.finish());
  return true;
}

bool Connection::send_exists() {
  if (exists_.empty()) return false;
  size_t bytes = 8;
  size_t count = 0;
  for (const Unit& unit : exists_) {
    if (++count > Frame::kSmallUnits) break;
    bytes += 2 + unit.op->key.size();
  }
  Frame& frame = new_frame(count > Frame::kSmallUnits ? wire::kBodyBytesMax : bytes);
  const bool touch = exists_.front()->op->spec->touch;  // one frame asks for all or for none
  wire::ExistsEncoder encoder({frame.body.get(), frame.body_capacity}, touch);
  while (!exists_.empty() && exists_.front()->op->spec->touch == touch && encoder.add(exists_.front()->op->key)) {
    add_unit(frame, *exists_.front());
  }
  send(frame, Opcode::kExists, encoder.finish());
  return true;
}

bool Connection::send_admin() {
  if (admin_.empty()) return false;
  Unit& unit = *admin_.front();
  const BatchOp& spec = *unit.op->spec;
  Frame& frame = new_frame(Frame::kSmallBody);
  add_unit(frame, unit);
  if (spec.kind == Kind::kStatus) {
    send(frame, Opcode::kStatus, {});
  } else {
    const std::span<std::byte> body(frame.body.get(), frame.body_capacity);
    const size_t bytes = wire::encode(wire::List{spec.admin->cursor, spec.admin->limit}, body);
    send(frame, Opcode::kList, body.first(bytes));
  }
  return true;
}

/// More pieces than a frame takes: they are copied, and the caller's memory is free at once.
void Connection::stage_payload(Frame& frame) {
  if (!frame.stage) frame.stage = std::make_unique_for_overwrite<std::byte[]>(wire::kPayloadBytesMax);
  size_t at = 0;
  for (const iovec& piece : frame.payload) {
    std::memcpy(frame.stage.get() + at, piece.iov_base, piece.iov_len);
    at += piece.iov_len;
  }
  context_.counters().staged_bytes.add(at);
  frame.payload.assign(1, {frame.stage.get(), at});
  for (Op* op : frame.holders) op->holds--;
  frame.holders.clear();
}

void Connection::send(Frame& frame, Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id) {
  if (frame.payload.size() > kPiecesMax) stage_payload(frame);
  const uint64_t now = context_.now_ns();
  if (frames_.empty()) heard_ns_ = now;  // silence counts from here
  frame.unanswered = static_cast<uint32_t>(frame.units.size());
  frame.sent_ns = now;
  frames_.push_back(frame);
  transport::OutFrame& out = frame.out;
  out.context = &frame;
  out.on_done = [](transport::OutFrame& done, bool sent) {
    frame_in(done)->connection->on_sent(*frame_in(done), sent);
  };
  out.opcode = opcode;
  out.request_id = echoed_id != 0 ? echoed_id : (++request_counter_ << kSlotBits) | frame.slot;
  out.body = body;
  out.payload = frame.payload;
  const uint64_t bytes = total_bytes(frame.payload);
  context_.watch();
  frame.on_link = true;
  link_payload_bytes_ += bytes;
  if (link_->send(out)) return;
  // The link is dying: on_closed follows and gives the units back.
  frame.on_link = false;
  link_payload_bytes_ -= bytes;
  for (Op* op : std::exchange(frame.holders, {})) op->holds--;
  frame.never_left = true;
  close(Status::kUnavailable);
}

void Connection::on_sent(Frame& frame, bool sent) {
  if (!sent && state_ == State::kOpen) state_ = State::kClosing;
  frame.on_link = false;
  link_payload_bytes_ -= total_bytes(frame.payload);
  for (size_t i = 0; i < frame.holders.size(); i++) {
    frame.holders[i]->holds--;
    context_.on_released(*frame.holders[i]);
  }
  frame.holders.clear();
  frame.payload.clear();
  for (FrameExposure& exposure : frame.exposures) {
    if (sent && std::exchange(exposure.canceled, false)) send_cancel(frame.out.request_id, exposure.index);
  }
  free_if_done(frame);
  pump();
}

void Connection::send_control(Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id) {
  if (state_ != State::kOpen) return;
  Frame& frame = new_frame(body.size());
  if (!body.empty()) std::memcpy(frame.body.get(), body.data(), body.size());
  const uint64_t heard = frames_.empty() ? 0 : heard_ns_;
  send(frame, opcode, {frame.body.get(), body.size()}, echoed_id);
  if (heard != 0) heard_ns_ = heard;
}

void Connection::send_op_without_unit(const wire::Op& op) {
  if (state_ != State::kOpen) return;
  Frame& frame = new_frame(2 + 40 + op.key.size());
  wire::OpsEncoder encoder({frame.body.get(), frame.body_capacity});
  const bool added = encoder.add(op, {});
  MEMKV_ASSERT(added);
  frame.units.push_back(nullptr);  // its reply interests nobody
  send(frame, Opcode::kOps, encoder.finish());
}

void Connection::send_suspect(std::string_view key, uint64_t offset) {
  wire::Op op;
  op.kind = wire::OpKind::kSuspect;
  op.key = key;
  op.offset = offset;
  send_op_without_unit(op);
}

void Connection::send_abort(uint64_t upload) {
  wire::Op op;
  op.kind = wire::OpKind::kAbort;
  op.generation = upload;
  send_op_without_unit(op);
}

// Frames and units.

Frame* Connection::frame_of(uint64_t request_id) {
  Frame* frame = context_.frame_at(static_cast<uint32_t>(request_id & ((1u << kSlotBits) - 1)));
  if (!frame || frame->connection != this || frame->out.request_id != request_id || frame->unanswered == 0)
    return nullptr;
  return frame;
}

/// The unit at an index of the frame; null if it was given up. The caller checked the index.
Unit* Connection::take_unit(Frame& frame, uint32_t index) {
  Unit* unit = std::exchange(frame.units[index], nullptr);
  if (unit) unit->frame = nullptr, unit->take_off();
  return unit;
}

void Connection::answered(Frame& frame, uint32_t replies) {
  MEMKV_ASSERT(frame.unanswered >= replies);
  frame.unanswered -= replies;
  free_if_done(frame);
}

void Connection::free_if_done(Frame& frame) {
  if (!frame.on_link && frame.unanswered == 0) free_frame(frame);
}

void Connection::free_frame(Frame& frame) {
  credit_used_ -= std::min(credit_used_, frame.credit);
  eager_used_ -= std::min(eager_used_, frame.eager_bytes);
  frames_.remove(frame);
  frame.connection = nullptr;
  frame.units.clear();
  frame.holders.clear();
  for (FrameExposure& exposure : frame.exposures) let_go(exposure);
  frame.exposures.clear();
  frame.payload.clear();
  frame.unanswered = 0;
  frame.never_left = false;
  frame.credit = frame.eager_bytes = 0;
  context_.give_back(frame);
}

void Connection::give_up(Unit& unit) {
  Frame& frame = *unit.frame;
  const uint64_t request_id = frame.out.request_id;
  const uint16_t index = unit.index;
  take_unit(frame, index);
  // A CANCEL would overtake a frame that is still in the link's hands.
  if (frame.on_link) {
    if (FrameExposure* exposure = exposure_of(frame, nullptr, index)) exposure->canceled = true;
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
  for (const Frame& frame : frames_) {
    if (std::find(frame.holders.begin(), frame.holders.end(), &op) != frame.holders.end()) return true;
    const auto mine = [&](const FrameExposure& exposure) { return exposure.holder == &op; };
    if (std::any_of(frame.exposures.begin(), frame.exposures.end(), mine)) return true;
  }
  return false;
}

void Connection::quiet(Op& op) {
  const auto mine = [&](const Arriving& a) { return a.unit->op == &op; };
  if (std::none_of(arriving_.begin(), arriving_.end(), mine)) return;
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
  if (pinged_ns_ != 0) return now - std::max(pinged_ns_, link_->last_progress_ns()) < kPongNs;
  if (frames_.empty() || now - heard_ns_ < kSilenceNs) return true;
  send_control(Opcode::kPing, {});
  pinged_ns_ = now;
  return true;
}

// Receiving.

PayloadTarget Connection::on_frame(transport::Link&, const wire::FrameHeader& header, std::span<const std::byte> body) {
  heard_ns_ = context_.now_ns();
  pinged_ns_ = 0;
  if (state_ == State::kClosing) return PayloadTarget::sink();
  if (state_ == State::kWelcoming && header.opcode != Opcode::kWelcome && header.opcode != Opcode::kGoodbye) {
    protocol_error("something came before WELCOME");
    return PayloadTarget::sink();
  }
  PayloadTarget target = PayloadTarget::sink();
  switch (header.opcode) {
    case Opcode::kReply:
      target = on_reply(header, body);
      break;
    case Opcode::kExistsReply:
      on_exists_reply(header, body);
      break;
    case Opcode::kCanceled:
      on_canceled(header, body);
      break;
    case Opcode::kStatusReply:
      on_status_reply(header, body);
      break;
    case Opcode::kListReply:
      on_list_reply(header, body);
      break;
    case Opcode::kWelcome:
      on_welcome(body);
      break;
    case Opcode::kWorkerMap:
      on_worker_map(body);
      break;
    case Opcode::kGoodbye:
      on_goodbye(body);
      break;
    case Opcode::kCredit:
      if (auto credit = wire::decode_credit(body))
        credit_limit_ = credit->limit;
      else
        protocol_error(credit.error().what);
      break;
    case Opcode::kPing:
      send_control(Opcode::kPong, {}, header.request_id);
      break;
    case Opcode::kPong:
    case Opcode::kReady:
    case Opcode::kNotReady:
      break;  // ops are told by kNotReady, and try again
    default:
      protocol_error("a frame that no server sends");
  }
  pump();
  return target;
}

void Connection::on_welcome(std::span<const std::byte> body) {
  auto welcome = wire::decode_welcome(body);
  if (!welcome || state_ != State::kWelcoming) return protocol_error("bad WELCOME");
  state_ = State::kOpen;
  credit_limit_ = welcome->credit;
  worker_ = welcome->worker;
  server_.on_welcome(*this, *welcome);
}

void Connection::on_worker_map(std::span<const std::byte> body) {
  auto map = wire::decode_worker_map(body);
  if (!map) return protocol_error(map.error().what);
  server_.on_map(*map);
}

void Connection::on_goodbye(std::span<const std::byte> body) {
  auto goodbye = wire::decode_goodbye(body);
  if (!goodbye) return protocol_error(goodbye.error().what);
  goodbye_ = {is_failure(goodbye->status) ? goodbye->status : Status::kUnavailable, std::string(goodbye->text)};
  MEMKV_LOG(kInfo, "server {} says goodbye: {}", server_.name(), goodbye_.text);
  close(goodbye_.status);
}

/// `placed`: the payload is there already, in the op's memory or in a slot of ours.
void Connection::expect(Unit& unit, const wire::OpReply& reply, size_t payload_at, FrameExposure* placed) {
  Arriving& arriving = arriving_.emplace_back();
  arriving.unit = &unit;
  arriving.reply = reply;
  arriving.reply.sums = nullptr;  // lies in the body, which is valid during on_frame only
  for (size_t i = 0; i < reply.sum_count; i++) arriving.expected[i] = reply.sum(i);
  arriving.payload_at = payload_at;
  const auto chunk = static_cast<uint32_t>(unit.offset / kChunkBytesMax);
  arriving.seed = base::chunk_seed(server_.namespace_id(), unit.op->key, chunk);
  arriving.hasher = RangeHasher(in_chunk(unit.offset), reply.payload_bytes, arriving.seed);
  arriving.slices_at = targets_.size();
  if (placed && !placed->memory.staging.empty()) {
    arriving.staged = std::exchange(placed->memory, {});
    targets_.push_back({arriving.staged.staging.data(), reply.payload_bytes});
  } else {
    arriving.staged = {};
    slice(unit.op->pieces, unit.place, reply.payload_bytes, targets_);
  }
  arriving.slices = targets_.size() - arriving.slices_at;
}

/// Payload of an op that was given up, in the middle of others.
void Connection::expect_nothing(uint32_t bytes) { targets_.push_back({context_.sink().data(), bytes}); }

PayloadTarget Connection::on_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  MEMKV_ASSERT(arriving_.empty(), "one payload at a time");
  wire::ReplyDecoder decoder(body);
  auto count = decoder.validate(header.payload_bytes);
  if (!count) return protocol_error(count.error().what), PayloadTarget::sink();
  Frame* frame = frame_of(header.request_id);
  if (!frame) return PayloadTarget::sink();  // all of its ops were given up
  if (frame->out.opcode == Opcode::kExists) return on_exists_failed(*frame, decoder), PayloadTarget::sink();
  if (*count > frame->unanswered) return protocol_error("more replies than ops"), PayloadTarget::sink();
  targets_.clear();
  const bool placed = (header.flags & wire::kFramePlaced) != 0;
  bool wanted = false;
  size_t payload_at = 0;
  wire::OpReply reply;
  while (decoder.next(reply)) {
    if (reply.index >= frame->units.size()) return protocol_error("a reply to no op"), PayloadTarget::sink();
    Unit* unit = take_unit(*frame, reply.index);
    FrameExposure* exposure = exposure_of(*frame, unit, reply.index);
    const bool get = unit && unit->kind == wire::OpKind::kGet && reply.status == Status::kOk;
    const bool unasked = unit && (!get || reply.payload_bytes > unit->length || (placed && !exposure));
    if (reply.payload_bytes > 0 && unasked) {
      frame->units[reply.index] = unit;  // lost with the connection
      unit->frame = frame;
      return protocol_error("a payload that nobody asked for"), PayloadTarget::sink();
    }
    if (!unit) {
      if (reply.payload_bytes > 0) expect_nothing(reply.payload_bytes);
    } else if (reply.payload_bytes > 0) {
      expect(*unit, reply, payload_at, placed ? exposure : nullptr);
      wanted = true;
    }
    if (exposure) let_go(*exposure);  // may end an op that was given up
    if (unit && reply.payload_bytes == 0) context_.on_reply(*unit, *this, reply);
    payload_at += reply.payload_bytes;
  }
  answered(*frame, *count);
  return wanted ? PayloadTarget::into(targets_) : PayloadTarget::sink();
}

void Connection::on_payload_part(transport::Link&, size_t arrived) {
  if (!context_.settings().verify) return;
  for (Arriving& arriving : arriving_) {
    if (arriving.payload_at >= arrived) break;
    hash(arriving, arrived - arriving.payload_at);
  }
}

void Connection::on_payload(transport::Link&) {
  heard_ns_ = context_.now_ns();
  pinged_ns_ = 0;
  std::vector<Arriving> complete;
  complete.swap(arriving_);
  for (Arriving& arriving : complete) {
    const bool good = !context_.settings().verify || verified(arriving);
    if (good) deliver(arriving);
    arriving.staged.release();
    if (good)
      context_.on_reply(*arriving.unit, *this, arriving.reply);
    else
      context_.on_mismatch(*arriving.unit, *this);
  }
  complete.clear();
  if (arriving_.empty()) arriving_.swap(complete);  // keeps its room
  pump();
}

/// Out of the slot that it arrived in, if it did.
void Connection::deliver(Arriving& arriving) {
  if (arriving.staged.staging.empty()) return;
  const Unit& unit = *arriving.unit;
  slices_.clear();
  slice(unit.op->pieces, unit.place, arriving.reply.payload_bytes, slices_);
  const std::byte* from = arriving.staged.staging.data();
  for (const iovec& piece : slices_) {
    std::memcpy(piece.iov_base, from, piece.iov_len);
    from += piece.iov_len;
  }
  context_.counters().staged_bytes.add(arriving.reply.payload_bytes);
}

size_t Connection::hash(Arriving& arriving, size_t arrived) {
  return arriving.hasher.hash(std::span(targets_).subspan(arriving.slices_at, arriving.slices), arrived,
                              arriving.sums.data());
}

bool Connection::verified(Arriving& arriving) {
  const wire::OpReply& reply = arriving.reply;
  const uint64_t* sums = arriving.sums.data();
  const size_t count = hash(arriving, reply.payload_bytes);
  if ((reply.flags & wire::kReplyWholeChunk) != 0) {
    return in_chunk(arriving.unit->offset) == 0 && reply.sum_count == 1 &&
           base::chunk_checksum(sums, count, reply.payload_bytes, arriving.seed) == arriving.expected[0];
  }
  return reply.sum_count == count && std::equal(sums, sums + count, arriving.expected.begin());
}

void Connection::on_exists_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  auto reply = wire::decode_exists_reply(body);
  if (!reply) return protocol_error(reply.error().what);
  Frame* frame = frame_of(header.request_id);
  if (!frame) return;
  if (reply->count != frame->units.size() || frame->unanswered != reply->count)
    return protocol_error("EXISTS_REPLY does not fit");
  for (uint32_t i = 0; i < reply->count; i++) {
    const bool there = ((static_cast<uint8_t>(reply->bits[i / 8]) >> (i % 8)) & 1) != 0;
    if (Unit* unit = take_unit(*frame, i)) context_.on_exists(*unit, there);
  }
  answered(*frame, reply->count);
}

/// One reply that stands for all keys.
void Connection::on_exists_failed(Frame& frame, wire::ReplyDecoder& decoder) {
  wire::OpReply reply;
  if (!decoder.next(reply) || reply.payload_bytes != 0 || reply.status == Status::kOk)
    return protocol_error("bad reply to EXISTS");
  for (uint32_t i = 0; i < frame.units.size(); i++) {
    if (Unit* unit = take_unit(frame, i)) context_.on_reply(*unit, *this, reply);
  }
  answered(frame, frame.unanswered);
}

void Connection::on_canceled(const wire::FrameHeader&, std::span<const std::byte> body) {
  auto canceled = wire::decode_cancel(body);
  if (!canceled) return protocol_error(canceled.error().what);
  Frame* frame = frame_of(canceled->request_id);
  if (!frame) return;
  if (canceled->op_index >= frame->units.size()) return protocol_error("CANCELED names no op");
  Unit* unit = take_unit(*frame, canceled->op_index);
  if (FrameExposure* exposure = exposure_of(*frame, unit, canceled->op_index)) let_go(*exposure);
  if (unit) context_.on_lost(*unit, true);
  answered(*frame, 1);
}

void Connection::on_status_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  Frame* frame = frame_of(header.request_id);
  if (!frame) return;
  if (Unit* unit = take_unit(*frame, 0)) {
    AdminSlot& slot = *unit->op->spec->admin;
    slot.text.assign(reinterpret_cast<const char*>(body.data()), body.size());
    context_.on_admin_done(*unit);
  }
  answered(*frame, 1);
}

void Connection::on_list_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  wire::ListReplyDecoder decoder(body);
  if (auto count = decoder.validate(); !count) return protocol_error(count.error().what);
  Frame* frame = frame_of(header.request_id);
  if (!frame) return;
  if (Unit* unit = take_unit(*frame, 0)) {
    AdminSlot& slot = *unit->op->spec->admin;
    slot.cursor = decoder.next_cursor();
    wire::ListItem item;
    while (decoder.next(item)) slot.blocks.push_back({std::string(item.key), item.block_bytes, item.generation});
    context_.on_admin_done(*unit);
  }
  answered(*frame, 1);
}

}  // namespace memkv::client
