/// Frames made of queued units.

#include <algorithm>
#include <cstring>

#include "base/chunk_seed.h"
#include "client/remote/sender.h"
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

bool Sender::may_send() const { return line_.open() && line_.peer.pinged_ns == 0; }

void Sender::pump() {
  // A window that small ops fill belongs to the large gets that wait every second time.
  const bool gets_first = std::exchange(gets_first_, !gets_first_);
  while (may_send() && (send_exists() || (gets_first && send_gets()) || send_ops() || send_gets() || send_large() ||
                        send_gpu() || send_admin() || send_hints())) {
  }
}

void Sender::add_unit(RequestFrame& frame, Unit& unit) {
  MEMKV_ASSERT(unit.queue != nullptr && unit.frame == nullptr, "it waits, and leaves once");
  unit.leave_queue();
  unit.frame = &frame;
  unit.index = static_cast<uint16_t>(frame.units.size());
  frame.units.push_back(&unit);
}

/// What the server is to do for the unit; its deadline counts from now.
wire::Op Sender::to_wire(const Unit& unit, uint16_t index) const {
  const Request& op = *unit.op;
  const bool chunk = unit.kind == wire::OpKind::kChunk;
  const bool upload = chunk || unit.kind == wire::OpKind::kCommit;  // its number says which key
  wire::Op out;
  out.kind = unit.kind;
  out.index = index;
  const uint64_t now = shared_.machine.now_ns();
  const uint64_t left_us = op.deadline_ns > now ? (op.deadline_ns - now) / 1000 : 0;
  out.deadline_us = static_cast<uint32_t>(std::clamp<uint64_t>(left_us, 1, UINT32_MAX));
  out.offset = chunk ? in_chunk(unit.offset) : unit.offset;
  out.length = unit.length;
  if (unit.kind == wire::OpKind::kGet) out.generation = op.demanded;
  if (upload) out.generation = op.upload;
  if (chunk) out.chunk_number = static_cast<uint32_t>(unit.offset / kChunkBytesMax);
  if (!upload && unit.kind != wire::OpKind::kFlush) out.key = op.key;
  if (op.spec->if_absent && !upload) out.flags |= wire::kOpIfAbsent;
  if (unit.kind == wire::OpKind::kBegin && op.spec->kind == Kind::kWrite) out.flags |= wire::kOpRangeWrite;
  if (wire::has_payload(unit.kind) && server_sums(op)) out.flags |= wire::kOpServerChecksum;
  if (op.gpu && unit.kind == wire::OpKind::kGet) out.flags |= wire::kOpVerify;
  return out;
}

/// Its checksums are made by the server.
bool Sender::server_sums(const Request& op) const {
  return op.gpu || shared_.machine.settings().put_checksum == PutChecksum::kServer;
}

/// Adds a unit to a frame of ops: what it asks for, its payload with the checksums, and the memory that the server may
/// write. False: no room, and nothing was added.
bool Sender::add_op(RequestFrame& frame, wire::OpsEncoder& encoder, Unit& unit) {
  const Request& op = *unit.op;
  const bool payload = wire::has_payload(unit.kind);
  std::array<uint64_t, wire::kSumsMax> sums;
  size_t sum_count = 0;
  const size_t before = frame.payload.size();
  if (payload) {
    slice(op.pieces, unit.place, unit.length, frame.payload);
    if (!server_sums(op)) {
      const auto chunk = static_cast<uint32_t>(unit.offset / kChunkBytesMax);
      sum_count = range_sums(std::span(frame.payload).subspan(before), in_chunk(unit.offset),
                             base::chunk_seed(line_.server.welcome.namespace_id, op.key, chunk), sums.data());
    }
  }
  std::span<const wire::RemotePiece> remote_pieces;
  const bool exposed = op.gpu ? unit.exposure != 0 : expose(frame, unit);
  if (exposed) {
    const transport::Exposure& memory = frame.exposures.back().memory;
    remote_pieces = {memory.remote_pieces.data(), memory.count};
  }
  const wire::Op out = to_wire(unit, static_cast<uint16_t>(frame.units.size()));
  if (!encoder.add(out, {sums.data(), sum_count}, remote_pieces)) {
    frame.payload.resize(before);
    if (exposed) frames_.take_back_exposure(frame, unit);
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
bool Sender::expose(RequestFrame& frame, Unit& unit) {
  unit.exposure = 0;
  if (!line_.is_one_sided() || unit.kind != wire::OpKind::kGet || unit.length <= wire::kEagerPayloadMax) {
    return false;
  }
  slices_.clear();
  slice(unit.op->pieces, unit.place, unit.length, slices_);
  transport::Exposure memory;
  if (!line_.link->expose(slices_, transport::Staging::kAllowed, memory)) return false;
  frames_.add_exposure(frame, unit, memory);
  return true;
}

uint64_t Sender::link_payload_max() const { return line_.is_one_sided() ? kLinkPayloadMaxRdma : kLinkPayloadMax; }

/// Large enough for what stands in these queues, or the largest.
RequestFrame& Sender::frame_for(std::initializer_list<const UnitQueue*> queues) {
  size_t bytes = wire::kOpsHeaderBytes;
  size_t count = 0;
  for (const UnitQueue* queue : queues) {
    for (Unit& unit : *queue) {
      if (++count > RequestFrame::kSmallUnits) break;
      bytes += body_bytes(unit);
    }
  }
  return frames_.make(count > RequestFrame::kSmallUnits ? wire::kBodyBytesMax : bytes);
}

bool Sender::send_ops() {
  const uint32_t ops = credits_.ops_left();
  const auto small_fits = [&](uint32_t in_frame) {
    return !queues_.small.empty() &&
           credits_.eager_bytes + in_frame + queues_.small.front()->length <= wire::kEagerBytesMax;
  };
  if (ops == 0 || (queues_.ops.empty() && !small_fits(0))) return false;
  RequestFrame& frame = frame_for({&queues_.ops, &queues_.small});
  wire::OpsEncoder encoder = begin_ops(frame);
  while (!queues_.ops.empty() && encoder.count() < ops && add_op(frame, encoder, *queues_.ops.front())) {
  }
  while (encoder.count() < ops && small_fits(frame.eager_bytes)) {
    const uint32_t length = queues_.small.front()->length;
    if (!add_op(frame, encoder, *queues_.small.front())) break;
    frame.eager_bytes += length;
  }
  MEMKV_ASSERT(encoder.count() > 0);
  credits_.eager_bytes += frame.eager_bytes;
  send(frame, Opcode::kOps, encoder.finish());
  return true;
}

/// Gets whose bytes count: as many as the server keeps room for.
bool Sender::send_gets() {
  const uint32_t ops = credits_.ops_left();
  if (queues_.gets.empty() || ops == 0 || !credits_.has_for_get(queues_.gets.front()->length)) return false;
  RequestFrame& frame = frame_for({&queues_.gets});
  wire::OpsEncoder encoder = begin_ops(frame);
  while (!queues_.gets.empty() && encoder.count() < ops && credits_.has_for_get(queues_.gets.front()->length)) {
    const uint32_t length = queues_.gets.front()->length;
    if (!add_op(frame, encoder, *queues_.gets.front())) break;
    credits_.get_bytes += length;
  }
  send(frame, Opcode::kOps, encoder.finish());
  return true;
}

bool Sender::send_large() {
  if (queues_.large.empty() || credits_.ops_left() == 0 || credits_.on_link_bytes >= link_payload_max()) return false;
  Unit& unit = *queues_.large.front();
  const uint32_t credit = wire::credit_grains(unit.length);
  if (!credits_.has_for_payload(credit)) return false;
  send_alone(frames_.make(wire::kOpsHeaderBytes + body_bytes(unit)), unit, credit);
  return true;
}

/// The unit is all that the frame carries.
void Sender::send_alone(RequestFrame& frame, Unit& unit, uint32_t credit) {
  wire::OpsEncoder encoder = begin_ops(frame);
  const bool added = add_op(frame, encoder, unit);
  MEMKV_ASSERT(added, "the frame was made for it");
  frame.credit = credit;
  credits_.payload_grains += credit;
  send(frame, Opcode::kOps, encoder.finish());
}

/// A unit of GPU memory, in a frame of its own: the server writes or reads the memory, and nothing here touches it.
/// Where that cannot be, the op ends, so that its caller stages.
bool Sender::send_gpu() {
  if (queues_.gpu.empty() || credits_.ops_left() == 0) return false;
  Unit& unit = *queues_.gpu.front();
  const bool payload = wire::has_payload(unit.kind);
  const uint32_t credit = payload ? wire::credit_grains(unit.length) : 0;
  if (payload && (credits_.on_link_bytes >= link_payload_max() || !credits_.has_for_payload(credit))) return false;
  if (is_large_get(unit) && !credits_.has_for_get(unit.length)) return false;
  slices_.clear();
  slice(unit.op->pieces, unit.place, unit.length, slices_);
  transport::Exposure memory;
  unit.exposure = 0;
  if (!line_.link->expose(slices_, transport::Staging::kNever, memory)) {
    shared_.units.on_refused(unit, Status::kUnsupported);
    return true;
  }
  RequestFrame& frame = frames_.make(wire::kOpsHeaderBytes + body_bytes(unit));
  if (payload)
    frame.offered = memory;
  else
    frames_.add_exposure(frame, unit, memory);
  if (is_large_get(unit)) credits_.get_bytes += unit.length;
  send_alone(frame, unit, credit);
  return true;
}

/// Prefetches leave when nothing else can, and leave a quarter of the credit for ops that somebody waits for. A server
/// of an older build would take them for a breach of the protocol.
bool Sender::send_hints() {
  const uint32_t ops = credits_.ops_left(), kept = credits_.limit.ops / 4u;
  if (queues_.hints.empty() || ops <= kept) return false;
  if ((line_.link->features() & wire::kFeaturePrefetch) == 0) {
    shared_.units.on_refused(*queues_.hints.front(), Status::kUnsupported);
    return true;
  }
  RequestFrame& frame = frame_for({&queues_.hints});
  wire::OpsEncoder encoder = begin_ops(frame);
  while (!queues_.hints.empty() && encoder.count() < ops - kept && add_op(frame, encoder, *queues_.hints.front())) {
  }
  send(frame, Opcode::kOps, encoder.finish());
  return true;
}

bool Sender::send_exists() {
  if (queues_.exists.empty() || !credits_.has_for_exists()) return false;
  size_t bytes = 8;
  size_t count = 0;
  for (const Unit& unit : queues_.exists) {
    if (++count > RequestFrame::kSmallUnits) break;
    bytes += 2 + unit.op->key.size();
  }
  RequestFrame& frame = frames_.make(count > RequestFrame::kSmallUnits ? wire::kBodyBytesMax : bytes);
  const bool touch = queues_.exists.front()->op->spec->touch;  // one frame asks for all or for none
  wire::ExistsEncoder encoder({frame.body.get(), frame.body_capacity}, touch);
  while (!queues_.exists.empty() && queues_.exists.front()->op->spec->touch == touch &&
         encoder.add(queues_.exists.front()->op->key)) {
    add_unit(frame, *queues_.exists.front());
  }
  send(frame, Opcode::kExists, encoder.finish());
  return true;
}

bool Sender::send_admin() {
  if (queues_.admin.empty()) return false;
  Unit& unit = *queues_.admin.front();
  const BatchOp& spec = *unit.op->spec;
  RequestFrame& frame = frames_.make(RequestFrame::kSmallBody);
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
void Sender::stage_payload(RequestFrame& frame) {
  if (!frame.stage) frame.stage = std::make_unique_for_overwrite<std::byte[]>(wire::kPayloadBytesMax);
  size_t at = 0;
  for (const iovec& piece : frame.payload) {
    std::memcpy(frame.stage.get() + at, piece.iov_base, piece.iov_len);
    at += piece.iov_len;
  }
  shared_.machine.counters().staged_bytes.add(at);
  frame.payload.assign(1, {frame.stage.get(), at});
  for (Request* op : frame.holders) op->holds--;
  frame.holders.clear();
}

/// Hands a frame to the link. Where the link is dying its units come back when it is closed.
void Sender::send(RequestFrame& frame, Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id) {
  if (frame.payload.size() > kPiecesMax) stage_payload(frame);
  if (frames_.empty()) line_.peer.heard_ns = shared_.machine.now_ns();  // silence counts from here
  frame.sender = this;
  frames_.add(frame, opcode);
  transport::SendFrame& out = frame.out;
  out.context = &frame;
  out.on_done = [](transport::SendFrame& done, bool sent) { frame_in(done)->sender->on_sent(*frame_in(done), sent); };
  out.opcode = opcode;
  out.request_id = echoed_id != 0 ? echoed_id : frames_.next_request_id(frame);
  out.body = body;
  out.payload = frame.payload;
  out.offered = {frame.offered.remote_pieces.data(), frame.offered.count};
  if (line_.is_one_sided()) {
    auto& counters = shared_.machine.rdma_host()->rail(line_.rail).counters;
    counters.ops.fetch_add(frame.units.size(), std::memory_order_relaxed);
  }
  shared_.watch.start();
  frame.step = RequestFrame::Step::kOnLink;
  credits_.on_link_bytes += total_bytes(frame.payload);
  if (line_.link->send(out)) return;
  frames_.on_never_left(frame);
  line_.close(Status::kUnavailable);
}

void Sender::on_sent(RequestFrame& frame, bool sent) {
  MEMKV_ASSERT(frame.sender == this);
  if (!sent && line_.open()) line_.state = Line::State::kClosing;
  frames_.on_left(frame);
  for (const uint16_t index : std::exchange(frame.canceled, {})) {
    if (sent) send_cancel(frame.out.request_id, index);
  }
  frames_.free_if_done(frame);
  pump();
}

void Sender::give_up(Unit& unit) {
  MEMKV_ASSERT(unit.frame && unit.frame->sender == this && unit.frame->units[unit.index] == &unit);
  RequestFrame& frame = *unit.frame;
  const uint64_t request_id = frame.out.request_id;
  const uint16_t index = unit.index;
  frames_.take_unit(frame, index);
  // Its server may be waiting for room.
  const auto lives = [](const Unit* one) { return one != nullptr; };
  if (line_.link && std::none_of(frame.units.begin(), frame.units.end(), lives)) line_.link->withdraw(frame.out);
  // A CANCEL would overtake a frame that is still in the link's hands.
  if (frame.step == RequestFrame::Step::kOnLink) {
    // What the server would hold for it: memory that it may write, or an upload.
    if (frames_.exposure_of(frame, nullptr, index) || unit.kind == wire::OpKind::kBegin)
      frame.canceled.push_back(index);
    return;
  }
  if (frame.out.opcode == Opcode::kOps) send_cancel(request_id, index);
}

void Sender::send_cancel(uint64_t request_id, uint16_t index) {
  std::array<std::byte, 64> body;
  const size_t bytes = wire::encode(wire::Cancel{request_id, index}, body);
  send_control(Opcode::kCancel, std::span(body).first(bytes));
}

/// The connection's first frame. The server answers it with WELCOME.
void Sender::introduce() {
  constexpr size_t kBytes = 64;
  RequestFrame& frame = frames_.make(kBytes);
  const ClientIdentity& identity = shared_.machine.identity();
  const wire::Introduce introduce{.client_id = identity.id, .epoch = identity.epoch.load(std::memory_order_acquire)};
  const std::span<std::byte> body(frame.body.get(), kBytes);
  line_.peer.asked_ns = shared_.machine.now_ns();
  send(frame, Opcode::kIntroduce, body.first(wire::encode(introduce, body)));
}

/// Its answer says that the server lives, and what time it is there.
void Sender::ping() {
  line_.peer.asked_ns = shared_.machine.now_ns();
  line_.peer.clock.on_asked(line_.peer.asked_ns);
  line_.peer.asked_id = send_control(Opcode::kPing, {});
}

void Sender::answer_ping(uint64_t request_id) {
  std::array<std::byte, 8> body;
  const size_t bytes = wire::encode(wire::Pong{shared_.machine.now_ns()}, body);
  send_control(Opcode::kPong, std::span(body).first(bytes), request_id);
}

/// The frame's ops will belong to the client's present epoch, and their deadlines count from now.
wire::OpsEncoder Sender::begin_ops(RequestFrame& frame) {
  const uint64_t now = shared_.machine.now_ns();
  if (line_.peer.clock.should_ask(now)) ping();
  frame.epoch = shared_.machine.identity().epoch.load(std::memory_order_acquire);
  const uint64_t made_us = std::min(line_.peer.clock.on_server(now) / 1000, wire::kMadeUsMax);
  const wire::OpsHeader header{.made_us = made_us, .epoch = frame.epoch};
  return wire::OpsEncoder({frame.body.get(), frame.body_capacity}, header);
}

/// Returns its request id; 0: it cannot be sent.
uint64_t Sender::send_control(Opcode opcode, std::span<const std::byte> body, uint64_t echoed_id) {
  if (!line_.open()) return 0;
  RequestFrame& frame = frames_.make(body.size());
  if (!body.empty()) std::memcpy(frame.body.get(), body.data(), body.size());
  const uint64_t heard = frames_.empty() ? 0 : line_.peer.heard_ns;
  send(frame, opcode, {frame.body.get(), body.size()}, echoed_id);
  if (heard != 0) line_.peer.heard_ns = heard;
  return frame.out.request_id;
}

void Sender::send_op_without_unit(const wire::Op& op) {
  if (!line_.open()) return;
  RequestFrame& frame = frames_.make(wire::kOpsHeaderBytes + 40 + op.key.size());
  wire::OpsEncoder encoder = begin_ops(frame);
  const bool added = encoder.add(op, {});
  MEMKV_ASSERT(added);
  frame.units.push_back(nullptr);  // its reply interests nobody
  send(frame, Opcode::kOps, encoder.finish());
}

void Sender::send_suspect(std::string_view key, uint64_t offset) {
  wire::Op op;
  op.kind = wire::OpKind::kSuspect;
  op.key = key;
  op.offset = offset;
  send_op_without_unit(op);
}

void Sender::send_abort(uint64_t upload) {
  wire::Op op;
  op.kind = wire::OpKind::kAbort;
  op.generation = upload;
  send_op_without_unit(op);
}

}  // namespace memkv::client
