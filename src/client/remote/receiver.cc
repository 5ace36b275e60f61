#include "client/remote/receiver.h"

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "base/chunk_seed.h"
#include "base/log.h"
#include "base/test_rules.h"

namespace memkv::client {

using transport::PayloadTarget;
using wire::Opcode;

/// `placed`: the payload is there already, in the op's memory or in a slot of ours.
void Receiver::expect(Unit& unit, const wire::OpReply& reply, size_t payload_at, FrameExposure* placed) {
  MEMKV_ASSERT(unit.frame == nullptr && unit.queue == nullptr && reply.payload_bytes <= unit.length);
  Arriving& arriving = arriving_.emplace_back();
  arriving.unit = &unit;
  arriving.reply = reply;
  arriving.reply.sums = nullptr;  // lies in the body, which is valid during on_frame only
  for (size_t i = 0; i < reply.sum_count; i++) arriving.expected[i] = reply.sum(i);
  arriving.payload_at = payload_at;
  const auto chunk = static_cast<uint32_t>(unit.offset / kChunkBytesMax);
  arriving.seed = base::chunk_seed(line_.server.welcome.namespace_id, unit.op->key, chunk);
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
void Receiver::expect_nothing(uint32_t bytes) { targets_.push_back({shared_.frames.sink().data(), bytes}); }

/// Replies to the ops of one frame, in any order. Those without payload go to their units at once; the payloads of the
/// others follow, one behind the other, and each goes where its unit wants it, or into the sink.
PayloadTarget Receiver::on_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  MEMKV_ASSERT(arriving_.empty(), "one payload at a time");
  wire::ReplyDecoder decoder(body);
  auto count = decoder.validate(header.payload_bytes);
  if (!count) return line_.end_for_error(count.error().what), PayloadTarget::sink();
  RequestFrame* frame = frames_.find(header.request_id);
  if (!frame) return PayloadTarget::sink();  // all of its ops were given up
  if (frame->out.opcode == Opcode::kExists) return on_exists_failed(*frame, decoder), PayloadTarget::sink();
  if (*count > frame->unanswered) return line_.end_for_error("more replies than ops"), PayloadTarget::sink();
  targets_.clear();
  const bool placed = (header.flags & wire::kFramePlaced) != 0;
  bool wanted = false;
  size_t payload_at = 0;
  wire::OpReply reply;
  while (decoder.next(reply)) {
    if (reply.index >= frame->units.size()) return line_.end_for_error("a reply to no op"), PayloadTarget::sink();
    Unit* unit = frames_.take_unit(*frame, reply.index);
    FrameExposure* exposure = frames_.exposure_of(*frame, unit, reply.index);
    const bool get = unit && unit->kind == wire::OpKind::kGet && reply.status == Status::kOk;
    const bool unasked = unit && (!get || reply.payload_bytes > unit->length || (placed && !exposure));
    if (reply.payload_bytes > 0 && unasked) {
      frames_.put_back(*frame, *unit);
      return line_.end_for_error("a payload that nobody asked for"), PayloadTarget::sink();
    }
    if (!unit) {
      if (reply.payload_bytes > 0) expect_nothing(reply.payload_bytes);
    } else if (reply.payload_bytes > 0 && unit->op->gpu && !placed) {
      expect_nothing(reply.payload_bytes);  // nobody here can put it there
      shared_.units.on_refused(*unit, Status::kUnsupported);
    } else if (reply.payload_bytes > 0) {
      expect(*unit, reply, payload_at, placed ? exposure : nullptr);
      wanted = true;
    }
    if (exposure) frames_.let_go(*exposure);  // may end an op that was given up
    if (unit && reply.payload_bytes == 0) shared_.units.on_reply(*unit, reply, path());
    payload_at += reply.payload_bytes;
  }
  answered(*frame, *count);
  return wanted ? PayloadTarget::into(targets_) : PayloadTarget::sink();
}

void Receiver::on_payload_part(size_t arrived) {
  if (!shared_.machine.settings().verify) return;
  for (Arriving& arriving : arriving_) {
    if (arriving.payload_at >= arrived) break;
    if (arriving.unit->op->gpu) continue;
    hash(arriving, arrived - arriving.payload_at);
  }
}

void Receiver::on_payload() {
  line_.peer.on_heard(shared_.machine.now_ns());
  std::vector<Arriving> complete;
  complete.swap(arriving_);
  for (Arriving& arriving : complete) {
    // GPU memory cannot be looked at: the server has verified what it wrote there.
    const bool good = arriving.unit->op->gpu || !shared_.machine.settings().verify || verified(arriving);
    if (good) deliver(arriving);
    arriving.staged.release();
    if (good)
      shared_.units.on_reply(*arriving.unit, arriving.reply, path());
    else
      on_mismatch(*arriving.unit);
  }
  complete.clear();
  if (arriving_.empty()) arriving_.swap(complete);  // keeps its room
}

/// The server looks at its drive; here the unit is tried again.
void Receiver::on_mismatch(Unit& unit) {
  shared_.machine.counters().corrupt.add();
  MEMKV_LOG_EVERY(1, kError, "server {}: {} bytes at {} of a block do not match their checksum; reported to it",
                  line_.server.name(), unit.length, unit.offset);
  sender_.send_suspect(unit.op->key, unit.offset);
  shared_.units.on_mismatch(unit);
}

/// For what has an answer of its own on the wire.
void Receiver::answer(Unit& unit, Status status) {
  wire::OpReply reply;
  reply.status = status;
  shared_.units.on_reply(unit, reply, path());
}

/// Out of the slot that it arrived in, if it did.
void Receiver::deliver(Arriving& arriving) {
  if (arriving.staged.staging.empty()) return;
  MEMKV_ASSERT(arriving.reply.payload_bytes <= arriving.staged.staging.size());
  const Unit& unit = *arriving.unit;
  slices_.clear();
  slice(unit.op->pieces, unit.place, arriving.reply.payload_bytes, slices_);
  const std::byte* from = arriving.staged.staging.data();
  for (const iovec& piece : slices_) {
    std::memcpy(piece.iov_base, from, piece.iov_len);
    from += piece.iov_len;
  }
  shared_.machine.counters().staged_bytes.add(arriving.reply.payload_bytes);
}

size_t Receiver::hash(Arriving& arriving, size_t arrived) {
  return arriving.hasher.hash(std::span(targets_).subspan(arriving.slices_at, arriving.slices), arrived,
                              arriving.sums.data());
}

bool Receiver::verified(Arriving& arriving) {
  const wire::OpReply& reply = arriving.reply;
  const uint64_t* sums = arriving.sums.data();
  const size_t count = hash(arriving, reply.payload_bytes);
  if ((reply.flags & wire::kReplyWholeChunk) != 0) {
    return in_chunk(arriving.unit->offset) == 0 && reply.sum_count == 1 &&
           base::chunk_checksum(sums, count, reply.payload_bytes, arriving.seed) == arriving.expected[0];
  }
  return reply.sum_count == count && std::equal(sums, sums + count, arriving.expected.begin());
}

void Receiver::quiet(const Request& op) {
  const auto mine = [&](const Arriving& a) { return a.unit->op == &op; };
  if (std::none_of(arriving_.begin(), arriving_.end(), mine) || !base::rules().quiet_memory) return;
  const bool quiet_now = line_.link->redirect();
  MEMKV_ASSERT(quiet_now, "the client's reactor cancels receives at once");
  // The others of this reply lose their bytes too, and ask again.
  for (Arriving& arriving : std::exchange(arriving_, {})) {
    arriving.staged.release();
    if (arriving.unit->op != &op) shared_.units.on_delayed(*arriving.unit);
  }
}

/// The link is gone, and writes nothing any more.
void Receiver::lose_all() {
  UnitQueue units;  // the end of one may be the end of its op, and of the op's others
  for (Arriving& arriving : std::exchange(arriving_, {})) {
    arriving.staged.release();
    add_to(units, *arriving.unit);
  }
  while (Unit* unit = units.front()) shared_.units.on_lost(*unit, true);
}

// Answers.

/// Null also when it asked something else, which ends the connection.
RequestFrame* Receiver::frame_of(uint64_t request_id, Opcode asked) {
  RequestFrame* frame = frames_.find(request_id);
  if (!frame || frame->out.opcode == asked) return frame;
  line_.end_for_error("an answer to another question");
  return nullptr;
}

void Receiver::answered(RequestFrame& frame, uint32_t replies) {
  if (!frames_.answered(frame, replies)) line_.end_for_error("an op was answered twice");
}

void Receiver::on_exists_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  auto reply = wire::decode_exists_reply(body);
  if (!reply) return line_.end_for_error(reply.error().what);
  RequestFrame* frame = frame_of(header.request_id, Opcode::kExists);
  if (!frame) return;
  if (reply->count != frame->units.size() || frame->unanswered != reply->count)
    return line_.end_for_error("EXISTS_REPLY does not fit");
  for (uint32_t i = 0; i < reply->count; i++) {
    const bool there = ((static_cast<uint8_t>(reply->bits[i / 8]) >> (i % 8)) & 1) != 0;
    if (Unit* unit = frames_.take_unit(*frame, i)) answer(*unit, there ? Status::kOk : Status::kMiss);
  }
  answered(*frame, reply->count);
}

/// One reply that stands for all keys.
void Receiver::on_exists_failed(RequestFrame& frame, wire::ReplyDecoder& decoder) {
  wire::OpReply reply;
  if (!decoder.next(reply) || reply.payload_bytes != 0 || reply.status == Status::kOk)
    return line_.end_for_error("bad reply to EXISTS");
  for (uint32_t i = 0; i < frame.units.size(); i++) {
    if (Unit* unit = frames_.take_unit(frame, i)) shared_.units.on_reply(*unit, reply, path());
  }
  answered(frame, frame.unanswered);
}

void Receiver::on_canceled(const wire::FrameHeader&, std::span<const std::byte> body) {
  auto canceled = wire::decode_cancel(body);
  if (!canceled) return line_.end_for_error(canceled.error().what);
  RequestFrame* frame = frame_of(canceled->request_id, Opcode::kOps);
  if (!frame) return;
  if (canceled->op_index >= frame->units.size()) return line_.end_for_error("CANCELED names no op");
  Unit* unit = frames_.take_unit(*frame, canceled->op_index);
  if (FrameExposure* exposure = frames_.exposure_of(*frame, unit, canceled->op_index)) frames_.let_go(*exposure);
  if (unit) shared_.units.on_lost(*unit, true);
  answered(*frame, 1);
}

void Receiver::on_status_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  RequestFrame* frame = frame_of(header.request_id, Opcode::kStatus);
  if (!frame) return;
  if (Unit* unit = frames_.take_unit(*frame, 0)) {
    AdminSlot& slot = *unit->op->spec->admin;
    slot.text.assign(reinterpret_cast<const char*>(body.data()), body.size());
    answer(*unit, Status::kOk);
  }
  answered(*frame, 1);
}

void Receiver::on_list_reply(const wire::FrameHeader& header, std::span<const std::byte> body) {
  wire::ListReplyDecoder decoder(body);
  if (auto count = decoder.validate(); !count) return line_.end_for_error(count.error().what);
  RequestFrame* frame = frame_of(header.request_id, Opcode::kList);
  if (!frame) return;
  if (Unit* unit = frames_.take_unit(*frame, 0)) {
    AdminSlot& slot = *unit->op->spec->admin;
    slot.cursor = decoder.next_cursor();
    wire::ListItem item;
    while (decoder.next(item)) slot.blocks.push_back({std::string(item.key), item.block_bytes, item.generation});
    answer(*unit, Status::kOk);
  }
  answered(*frame, 1);
}

}  // namespace memkv::client
