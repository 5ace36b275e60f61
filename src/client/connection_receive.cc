/// The receiving side of a connection: replies, where their payloads go, and what the server says of itself.

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "base/chunk_seed.h"
#include "base/log.h"
#include "client/connection.h"
#include "client/context.h"

namespace memkv::client {
namespace {

using transport::PayloadTarget;
using wire::Opcode;

}  // namespace

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
        limit_ = *credit;
      else
        protocol_error(credit.error().what);
      break;
    case Opcode::kPing:
      answer_ping(header.request_id);
      break;
    case Opcode::kPong:
      on_pong(header, body);
      break;
    case Opcode::kReady:
    case Opcode::kNotReady:
      break;  // ops are told by kNotReady, and try again
    default:
      protocol_error("a frame that no server sends");
  }
  server_.on_room(*this);
  return target;
}

void Connection::on_welcome(std::span<const std::byte> body) {
  auto welcome = wire::decode_welcome(body);
  if (!welcome || state_ != State::kWelcoming) return protocol_error("bad WELCOME");
  if (worker_ != wire::kAnyWorker && worker_ < welcome->worker_count && worker_ != welcome->worker) {
    return protocol_error("another worker than was asked for");
  }
  state_ = State::kOpen;
  clock_.heard(welcome->now_ns, asked_ns_, context_.now_ns());
  limit_ = welcome->credit;
  worker_ = welcome->worker;
  server_.on_welcome(*this, *welcome);
}

/// The server's clock, late by the way here.
void Connection::on_pong(const wire::FrameHeader& header, std::span<const std::byte> body) {
  const auto pong = wire::decode_pong(body);
  if (!pong) return protocol_error(pong.error().what);
  clock_.heard(pong->now_ns, header.request_id == asked_id_ ? asked_ns_ : 0, context_.now_ns());
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
  MEMKV_LOG_EVERY(1, kInfo, "server {} says goodbye: {}", server_.name(), goodbye_.text);
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
  RequestFrame* frame = frame_of(header.request_id);
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
      if (is_large_get(*unit)) get_bytes_ += unit->length;
      return protocol_error("a payload that nobody asked for"), PayloadTarget::sink();
    }
    if (!unit) {
      if (reply.payload_bytes > 0) expect_nothing(reply.payload_bytes);
    } else if (reply.payload_bytes > 0 && unit->op->gpu && !placed) {
      expect_nothing(reply.payload_bytes);  // nobody here can put it there
      context_.on_refused(*unit, Status::kUnsupported);
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
    if (arriving.unit->op->gpu) continue;
    hash(arriving, arrived - arriving.payload_at);
  }
}

void Connection::on_payload(transport::Link&) {
  heard_ns_ = context_.now_ns();
  pinged_ns_ = 0;
  std::vector<Arriving> complete;
  complete.swap(arriving_);
  for (Arriving& arriving : complete) {
    // GPU memory cannot be looked at: the server has verified what it wrote there.
    const bool good = arriving.unit->op->gpu || !context_.settings().verify || verified(arriving);
    if (good) deliver(arriving);
    arriving.staged.release();
    if (good)
      context_.on_reply(*arriving.unit, *this, arriving.reply);
    else
      context_.on_mismatch(*arriving.unit, *this);
  }
  complete.clear();
  if (arriving_.empty()) arriving_.swap(complete);  // keeps its room
  server_.on_room(*this);
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
  RequestFrame* frame = frame_of(header.request_id, Opcode::kExists);
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
void Connection::on_exists_failed(RequestFrame& frame, wire::ReplyDecoder& decoder) {
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
  RequestFrame* frame = frame_of(canceled->request_id, Opcode::kOps);
  if (!frame) return;
  if (canceled->op_index >= frame->units.size()) return protocol_error("CANCELED names no op");
  Unit* unit = take_unit(*frame, canceled->op_index);
  if (FrameExposure* exposure = exposure_of(*frame, unit, canceled->op_index)) let_go(*exposure);
  if (unit) context_.on_lost(*unit, true);
  answered(*frame, 1);
}

void Connection::on_status_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  RequestFrame* frame = frame_of(header.request_id, Opcode::kStatus);
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
  RequestFrame* frame = frame_of(header.request_id, Opcode::kList);
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
