/// The sending side of a connection: frames made of queued units.

#include <algorithm>
#include <cstring>

#include "base/chunk_seed.h"
#include "client/connection.h"
#include "client/context.h"
#include "transport/rdma/devices.h"

namespace memkv::client {
namespace {

using wire::Opcode;

/// Payload in the link's hands at a time: hashed just before it leaves, and what is not there yet can still be taken
/// back.
constexpr uint64_t kLinkPayloadMax = 512 * 1024;
/// One-sided: the server fetches it, and what it has not fetched is in the link's hands.
constexpr uint64_t kLinkPayloadMaxRdma = 8u << 20;
constexpr size_t kPiecesMax = 64;  // of SendFrame::payload
constexpr size_t kSegmentBytesMax = wire::kRemotePiecesPerOpMax * wire::kRemotePieceBytes;

/// Body bytes of an op in an OPS frame, or of a key in an EXISTS frame, at most.
size_t body_bytes(const Unit& unit) {
  return 40 + unit.op->key.size() + (unit.kind == wire::OpKind::kGet ? kSegmentBytesMax : 0) +
         8 * (wire::has_payload(unit.kind) ? range_sum_count(in_chunk(unit.offset), unit.length) : 0);
}

RequestFrame* frame_in(transport::SendFrame& out) { return static_cast<RequestFrame*>(out.context); }

}  // namespace

void Connection::enqueue(Unit& unit) {
  MEMKV_ASSERT(unit.queue == nullptr && unit.frame == nullptr);
  const Kind kind = unit.op->spec->kind;
  UnitQueue* queue = &ops_;
  if (kind == Kind::kExists)
    queue = &exists_;
  else if (kind == Kind::kStatus || kind == Kind::kList)
    queue = &admin_;
  else if (unit.op->gpu && unit.length > 0)
    queue = &gpu_;
  else if (wire::has_payload(unit.kind))
    queue = unit.length > wire::kEagerPayloadMax ? &large_ : &small_;
  else if (is_large_get(unit))
    queue = &gets_;
  unit.queue = queue;
  queue->push_back(unit);
  // A begin stands for the chunks that will follow it here.
  const uint64_t bytes = unit.kind == wire::OpKind::kBegin ? unit.op->bytes : unit.length;
  unit.put_on(load_bytes_, bytes);
  if (unit.kind != wire::OpKind::kChunk) given_bytes_ += bytes;
}

bool Connection::may_send() const { return state_ == State::kOpen && pinged_ns_ == 0; }

void Connection::pump() {
  // A window that small ops fill belongs to the large gets that wait every second time.
  const bool gets_first = std::exchange(gets_first_, !gets_first_);
  while (may_send() && (send_exists() || (gets_first && send_gets()) || send_ops() || send_gets() || send_large() ||
                        send_gpu() || send_admin())) {
  }
}

RequestFrame& Connection::new_frame(size_t bytes) {
  RequestFrame& frame = context_.take_frame(bytes);
  frame.connection = this;
  return frame;
}

void Connection::add_unit(RequestFrame& frame, Unit& unit) {
  unit.queue->remove(unit);
  unit.queue = nullptr;
  unit.frame = &frame;
  unit.index = static_cast<uint16_t>(frame.units.size());
  frame.units.push_back(&unit);
}

/// False: no room, and nothing was added.
bool Connection::add_op(RequestFrame& frame, wire::OpsEncoder& encoder, Unit& unit) {
  const Op& op = *unit.op;
  const bool upload = unit.kind == wire::OpKind::kChunk || unit.kind == wire::OpKind::kCommit;
  const bool payload = wire::has_payload(unit.kind);
  const bool server_sums = op.gpu || context_.settings().put_checksum == PutChecksum::kServer;
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
  if (op.gpu && unit.kind == wire::OpKind::kGet) out.flags |= wire::kOpVerify;
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
  std::span<const wire::RemotePiece> remote_pieces;
  const bool exposed = op.gpu ? unit.exposure != 0 : expose(frame, unit);
  if (exposed) {
    const transport::Exposure& memory = frame.exposures.back().memory;
    remote_pieces = {memory.remote_pieces.data(), memory.count};
  }
  if (!encoder.add(out, {sums.data(), sum_count}, remote_pieces)) {
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
bool Connection::expose(RequestFrame& frame, Unit& unit) {
  unit.exposure = 0;
  if (transport_ != Transport::kRdma || unit.kind != wire::OpKind::kGet || unit.length <= wire::kEagerPayloadMax) {
    return false;
  }
  slices_.clear();
  slice(unit.op->pieces, unit.place, unit.length, slices_);
  transport::Exposure memory;
  if (!link_->expose(slices_, transport::Staging::kAllowed, memory)) return false;
  add_exposure(frame, unit, memory);
  return true;
}

void Connection::add_exposure(RequestFrame& frame, Unit& unit, const transport::Exposure& memory) {
  FrameExposure& exposure = frame.exposures.emplace_back();
  exposure.memory = memory;
  exposure.index = static_cast<uint16_t>(frame.units.size());
  if (exposure.memory.staging.empty()) {
    exposure.holder = unit.op;
    unit.op->holds++;
  }
  unit.exposure = static_cast<uint16_t>(frame.exposures.size());
}

/// Of an op of the frame, given up or not; null: nothing is exposed for it.
FrameExposure* Connection::exposure_of(RequestFrame& frame, const Unit* unit, uint32_t index) {
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

/// Large enough for what stands in these queues, or the largest.
RequestFrame& Connection::frame_for(std::initializer_list<const UnitQueue*> queues) {
  size_t bytes = wire::kOpsHeaderBytes;
  size_t count = 0;
  for (const UnitQueue* queue : queues) {
    for (Unit& unit : *queue) {
      if (++count > RequestFrame::kSmallUnits) break;
      bytes += body_bytes(unit);
    }
  }
  return new_frame(count > RequestFrame::kSmallUnits ? wire::kBodyBytesMax : bytes);
}

bool Connection::send_ops() {
  const uint32_t ops = ops_left();
  const auto small_fits = [&](uint32_t in_frame) {
    return !small_.empty() && eager_used_ + in_frame + small_.front()->length <= wire::kEagerBytesMax;
  };
  if (ops == 0 || (ops_.empty() && !small_fits(0))) return false;
  RequestFrame& frame = frame_for({&ops_, &small_});
  wire::OpsEncoder encoder = begin_ops(frame);
  while (!ops_.empty() && encoder.count() < ops && add_op(frame, encoder, *ops_.front())) {
  }
  while (encoder.count() < ops && small_fits(frame.eager_bytes)) {
    const uint32_t length = small_.front()->length;
    if (!add_op(frame, encoder, *small_.front())) break;
    frame.eager_bytes += length;
  }
  MEMKV_ASSERT(encoder.count() > 0);
  eager_used_ += frame.eager_bytes;
  send(frame, Opcode::kOps, encoder.finish());
  return true;
}

/// Gets whose bytes count: as many as the server keeps room for.
bool Connection::send_gets() {
  const uint32_t ops = ops_left();
  if (gets_.empty() || ops == 0 || !has_get_credit(gets_.front()->length)) return false;
  RequestFrame& frame = frame_for({&gets_});
  wire::OpsEncoder encoder = begin_ops(frame);
  while (!gets_.empty() && encoder.count() < ops && has_get_credit(gets_.front()->length)) {
    const uint32_t length = gets_.front()->length;
    if (!add_op(frame, encoder, *gets_.front())) break;
    get_bytes_ += length;
  }
  send(frame, Opcode::kOps, encoder.finish());
  return true;
}

bool Connection::send_large() {
  if (large_.empty() || ops_left() == 0 || link_payload_bytes_ >= link_payload_max()) return false;
  Unit& unit = *large_.front();
  const uint32_t credit = wire::credit_units(unit.length);
  if (!has_credit(credit)) return false;
  send_alone(new_frame(wire::kOpsHeaderBytes + body_bytes(unit)), unit, credit);
  return true;
}

/// The unit is all that the frame carries.
void Connection::send_alone(RequestFrame& frame, Unit& unit, uint32_t credit) {
  wire::OpsEncoder encoder = begin_ops(frame);
  const bool added = add_op(frame, encoder, unit);
  MEMKV_ASSERT(added);
  frame.credit = credit;
  credit_used_ += credit;
  send(frame, Opcode::kOps, encoder.finish());
}

/// A unit of GPU memory, in a frame of its own: the server writes or reads the memory, and nothing here touches it.
/// Where that cannot be, the op ends, so that its caller stages.
bool Connection::send_gpu() {
  if (gpu_.empty() || ops_left() == 0) return false;
  Unit& unit = *gpu_.front();
  const bool payload = wire::has_payload(unit.kind);
  const uint32_t credit = payload ? wire::credit_units(unit.length) : 0;
  if (payload && (link_payload_bytes_ >= link_payload_max() || !has_credit(credit))) return false;
  if (is_large_get(unit) && !has_get_credit(unit.length)) return false;
  slices_.clear();
  slice(unit.op->pieces, unit.place, unit.length, slices_);
  transport::Exposure memory;
  unit.exposure = 0;
  if (!link_->expose(slices_, transport::Staging::kNever, memory)) {
    context_.on_refused(unit, Status::kUnsupported);
    return true;
  }
  RequestFrame& frame = new_frame(wire::kOpsHeaderBytes + body_bytes(unit));
  if (payload)
    frame.offered = memory;
  else
    add_exposure(frame, unit, memory);
  if (is_large_get(unit)) get_bytes_ += unit.length;
  send_alone(frame, unit, credit);
  return true;
}

bool Connection::send_exists() {
  if (exists_.empty() || exists_frames_ == kExistsFramesMax) return false;
  size_t bytes = 8;
  size_t count = 0;
  for (const Unit& unit : exists_) {
    if (++count > RequestFrame::kSmallUnits) break;
    bytes += 2 + unit.op->key.size();
  }
  RequestFrame& frame = new_frame(count > RequestFrame::kSmallUnits ? wire::kBodyBytesMax : bytes);
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
  RequestFrame& frame = new_frame(RequestFrame::kSmallBody);
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
void Connection::stage_payload(RequestFrame& frame) {
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

void Connection::send(RequestFrame& frame, Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id) {
  if (frame.payload.size() > kPiecesMax) stage_payload(frame);
  const uint64_t now = context_.now_ns();
  if (frames_.empty()) heard_ns_ = now;  // silence counts from here
  frame.unanswered = static_cast<uint32_t>(frame.units.size());
  frame.counts_ops = opcode == Opcode::kOps;
  if (frame.counts_ops) ops_used_ += frame.unanswered;
  if (opcode == Opcode::kExists) exists_frames_++;
  frame.sent_ns = now;
  frames_.push_back(frame);
  transport::SendFrame& out = frame.out;
  out.context = &frame;
  out.on_done = [](transport::SendFrame& done, bool sent) {
    frame_in(done)->connection->on_sent(*frame_in(done), sent);
  };
  out.opcode = opcode;
  out.request_id = echoed_id != 0 ? echoed_id : (++request_counter_ << kSlotBits) | frame.slot;
  out.body = body;
  out.payload = frame.payload;
  out.offered = {frame.offered.remote_pieces.data(), frame.offered.count};
  if (transport_ == Transport::kRdma) {
    context_.rdma_host()->rail(rail_).counters.ops.fetch_add(frame.units.size(), std::memory_order_relaxed);
  }
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

void Connection::on_sent(RequestFrame& frame, bool sent) {
  if (!sent && state_ == State::kOpen) state_ = State::kClosing;
  frame.on_link = false;
  link_payload_bytes_ -= total_bytes(frame.payload);
  for (size_t i = 0; i < frame.holders.size(); i++) {
    frame.holders[i]->holds--;
    context_.on_released(*frame.holders[i]);
  }
  frame.holders.clear();
  frame.payload.clear();
  frame.offered.release();
  for (const uint16_t index : std::exchange(frame.canceled, {})) {
    if (sent) send_cancel(frame.out.request_id, index);
  }
  free_if_done(frame);
  pump();
}

/// The connection's first frame. The server answers it with WELCOME.
void Connection::introduce() {
  constexpr size_t kBytes = 64;
  RequestFrame& frame = new_frame(kBytes);
  const ClientIdentity& identity = context_.identity();
  const wire::Introduce introduce{.client_id = identity.id, .epoch = identity.epoch.load(std::memory_order_acquire)};
  const std::span<std::byte> body(frame.body.get(), kBytes);
  asked_ns_ = context_.now_ns();
  send(frame, Opcode::kIntroduce, body.first(wire::encode(introduce, body)));
}

/// Its answer says that the server lives, and what time it is there.
void Connection::ping() {
  asked_ns_ = context_.now_ns();
  clock_.on_asked(asked_ns_);
  asked_id_ = send_control(Opcode::kPing, {});
}

void Connection::answer_ping(uint64_t request_id) {
  std::array<std::byte, 8> body;
  const size_t bytes = wire::encode(wire::Pong{context_.now_ns()}, body);
  send_control(Opcode::kPong, std::span(body).first(bytes), request_id);
}

/// The frame's ops will belong to the client's present epoch, and their deadlines count from now.
wire::OpsEncoder Connection::begin_ops(RequestFrame& frame) {
  const uint64_t now = context_.now_ns();
  if (clock_.should_ask(now)) ping();
  frame.epoch = context_.identity().epoch.load(std::memory_order_acquire);
  const uint64_t made_us = std::min(clock_.on_server(now) / 1000, wire::kMadeUsMax);
  const wire::OpsHeader header{.made_us = made_us, .epoch = frame.epoch};
  return wire::OpsEncoder({frame.body.get(), frame.body_capacity}, header);
}

/// Returns its request id; 0: it cannot be sent.
uint64_t Connection::send_control(Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id) {
  if (state_ != State::kOpen) return 0;
  RequestFrame& frame = new_frame(body.size());
  if (!body.empty()) std::memcpy(frame.body.get(), body.data(), body.size());
  const uint64_t heard = frames_.empty() ? 0 : heard_ns_;
  send(frame, opcode, {frame.body.get(), body.size()}, echoed_id);
  if (heard != 0) heard_ns_ = heard;
  return frame.out.request_id;
}

void Connection::send_op_without_unit(const wire::Op& op) {
  if (state_ != State::kOpen) return;
  RequestFrame& frame = new_frame(wire::kOpsHeaderBytes + 40 + op.key.size());
  wire::OpsEncoder encoder = begin_ops(frame);
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

}  // namespace memkv::client
