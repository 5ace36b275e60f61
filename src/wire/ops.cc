/// OPS and REPLY: batches of ops and of replies. An OPS body starts with an OpsHeader, a REPLY body with a u16 count.

#include <bitset>

#include "base/assert.h"
#include "wire/codec.h"
#include "wire/messages.h"

namespace memkv::wire {
namespace {

using base::load_u16;
using base::load_u32;
using base::load_u64;
using base::store_u16;
using base::store_u32;
using base::store_u64;

constexpr size_t kCountBytes = 2;
constexpr size_t kOpBytes = 40;
constexpr size_t kReplyBytes = 32;
constexpr uint64_t kGrainBytes = 64 * 1024;
constexpr uint8_t kOpFlagsKnown = kOpIfAbsent | kOpChained | kOpVerify | kOpServerChecksum | kOpRangeWrite;
constexpr uint8_t kReplyFlagsKnown = kReplyWholeChunk | kReplyHasHoles | kReplyFenced;
using IndexSet = std::bitset<kOpsPerFrameMax>;

void store_sums(std::byte* at, std::span<const uint64_t> sums) {
  for (const uint64_t sum : sums) store_u64(at, sum), at += sizeof sum;
}

/// Reads one op. False: it reaches beyond the body.
bool read_op(base::Bytes body, size_t& at, Op& op) {
  if (body.size() - at < kOpBytes) return false;
  const std::byte* p = body.data() + at;
  op.kind = static_cast<OpKind>(p[0]);
  op.flags = static_cast<uint8_t>(p[1]);
  const size_t key_bytes = load_u16(p + 2);
  op.index = load_u16(p + 4);
  op.priority = static_cast<uint8_t>(p[6]);
  op.deadline_us = load_u32(p + 8);
  op.length = load_u32(p + 12);
  op.offset = load_u64(p + 16);
  op.generation = load_u64(p + 24);
  const bool is_chunk = op.kind == OpKind::kChunk;
  op.chunk_number = is_chunk ? load_u32(p + 32) : 0;
  op.expiry_s = is_chunk ? 0 : load_u32(p + 32);
  op.sum_count = load_u16(p + 36);
  op.remote_piece_count = static_cast<uint8_t>(p[38]);
  const size_t sum_bytes = size_t{op.sum_count} * sizeof(uint64_t);
  const size_t rest = key_bytes + sum_bytes + size_t{op.remote_piece_count} * kRemotePieceBytes;
  if (body.size() - at - kOpBytes < rest) return false;
  op.key = {reinterpret_cast<const char*>(p + kOpBytes), key_bytes};
  op.sums = p + kOpBytes + key_bytes;
  op.remote_pieces = op.sums + sum_bytes;
  at += kOpBytes + rest;
  return true;
}

bool read_reply(base::Bytes body, size_t& at, OpReply& reply) {
  if (body.size() - at < kReplyBytes) return false;
  const std::byte* p = body.data() + at;
  reply.index = load_u16(p);
  reply.status = status_of(p[2]);
  reply.flags = static_cast<uint8_t>(p[3]);
  reply.payload_bytes = load_u32(p + 4);
  reply.generation = load_u64(p + 8);
  reply.block_bytes = load_u64(p + 16);
  reply.sum_count = load_u16(p + 24);
  reply.expiry_s = load_u32(p + 28);
  const size_t rest = size_t{reply.sum_count} * sizeof(uint64_t);
  if (body.size() - at - kReplyBytes < rest) return false;
  reply.sums = p + kReplyBytes;
  at += kReplyBytes + rest;
  return true;
}

bool needs_key(OpKind kind) {
  return kind != OpKind::kChunk && kind != OpKind::kCommit && kind != OpKind::kAbort && kind != OpKind::kFlush;
}

/// How many pieces a range has when it is cut at the chunk's grain boundaries.
uint64_t piece_count(uint64_t offset_in_chunk, uint64_t length) {
  if (length == 0) return 0;
  return (offset_in_chunk + length - 1) / kGrainBytes - offset_in_chunk / kGrainBytes + 1;
}

/// What is wrong with the op's range; null if an op of this kind may have it. The range must lie inside one chunk.
const char* check_range(const Op& op) {
  // With this limit chunk numbers fit into 32 bits, and no sum of offset and length wraps.
  if (op.offset > kOffsetMax) return "ops: offset out of range";
  switch (op.kind) {
    case OpKind::kGet:
    case OpKind::kWrite:
      return op.length > kChunkBytesMax - op.offset % kChunkBytesMax ? "ops: range crosses a chunk" : nullptr;
    case OpKind::kChunk:
      if (op.offset > kChunkBytesMax || op.length > kChunkBytesMax - op.offset) return "ops: range crosses a chunk";
      return nullptr;
    case OpKind::kPut:
      return op.length > kChunkBytesMax ? "ops: more than a chunk" : nullptr;
    case OpKind::kPrefetch:
      return op.length > 0 || op.offset > 0 ? "ops: a range where none belongs" : nullptr;
    default:
      return op.length > 0 ? "ops: a length where none belongs" : nullptr;
  }
}

uint64_t sums_wanted(const Op& op) {
  if (!has_payload(op.kind) || (op.flags & kOpServerChecksum) != 0) return 0;
  return piece_count(op.kind == OpKind::kPut ? 0 : op.offset % kChunkBytesMax, op.length);
}

/// What is wrong with the remote pieces; null if there are none, or they take the whole range of a get.
const char* check_remote_pieces(const Op& op) {
  if (op.remote_piece_count == 0) return nullptr;
  if (op.kind != OpKind::kGet || op.remote_piece_count > kRemotePiecesPerOpMax)
    return "ops: remote pieces where none belong";
  uint64_t bytes = 0;
  for (size_t i = 0; i < op.remote_piece_count; ++i) {
    const RemotePiece remote_piece = op.remote_piece(i);
    if (!sane(remote_piece)) return "ops: bad remote piece";
    bytes += remote_piece.length;
  }
  return bytes == op.length ? nullptr : "ops: remote pieces of another length";
}

/// What is wrong with the op; null if the server may rely on it.
const char* check(const Op& op) {
  if (op.kind < OpKind::kGet || op.kind > OpKind::kPrefetch) return "ops: unknown kind";
  if ((op.flags & ~kOpFlagsKnown) != 0) return "ops: unknown flags";
  if (op.index >= kOpsPerFrameMax) return "ops: index out of range";
  if (op.key.empty() == needs_key(op.kind) || op.key.size() > kKeyBytesMax) return "ops: bad key length";
  if (const char* wrong = check_range(op)) return wrong;
  if (op.sum_count != sums_wanted(op)) return "ops: wrong number of sums";
  return check_remote_pieces(op);
}

const char* check(const OpReply& reply) {
  if (reply.index >= kOpsPerFrameMax) return "reply: index out of range";
  if ((reply.flags & ~kReplyFlagsKnown) != 0) return "reply: unknown flags";
  return reply.sum_count > kSumsMax ? "reply: too many sums" : nullptr;
}

/// What is wrong; null if the index was not seen before.
const char* check_unique(IndexSet& seen, uint16_t index) {
  if (seen[index]) return "an op index twice in a frame";
  seen[index] = true;
  return nullptr;
}

/// The count at the beginning of a batch; 0 if the body is too short.
uint16_t count_of(base::Bytes body) { return body.size() < kCountBytes ? uint16_t{0} : load_u16(body.data()); }
bool sane_count(uint16_t count) { return count > 0 && count <= kOpsPerFrameMax; }

}  // namespace

uint64_t Op::sum(size_t i) const {
  MEMKV_ASSERT(i < sum_count);
  return load_u64(sums + sizeof(uint64_t) * i);
}
RemotePiece Op::remote_piece(size_t i) const {
  MEMKV_ASSERT(i < remote_piece_count);
  return load_remote_piece(remote_pieces + kRemotePieceBytes * i);
}
uint64_t OpReply::sum(size_t i) const {
  MEMKV_ASSERT(i < sum_count);
  return load_u64(sums + sizeof(uint64_t) * i);
}

OpsEncoder::OpsEncoder(std::span<std::byte> body, const OpsHeader& header) : body_(body), used_(kOpsHeaderBytes) {
  MEMKV_ASSERT(body.size() >= kOpsHeaderBytes && header.made_us <= kMadeUsMax);
  store_u64(body.data(), header.made_us << 16);  // finish() adds the count
  store_u64(body.data() + 8, header.epoch);
}
uint16_t OpsEncoder::count() const { return count_; }
uint64_t OpsEncoder::payload_bytes() const { return payload_; }

/// Writes the op as the byte table of wire::Op says. False: the frame is full and nothing was written; send it and
/// begin another.
bool OpsEncoder::add(const Op& op, std::span<const uint64_t> sums, std::span<const RemotePiece> remote_pieces) {
  MEMKV_ASSERT(op.key.size() <= kKeyBytesMax && sums.size() <= kSumsMax && op.length <= kPayloadBytesMax);
  MEMKV_ASSERT(remote_pieces.size() <= kRemotePiecesPerOpMax);
  const size_t need = kOpBytes + op.key.size() + sums.size_bytes() + remote_pieces.size() * kRemotePieceBytes;
  const uint64_t payload = has_payload(op.kind) ? op.length : 0;
  if (count_ == kOpsPerFrameMax || body_.size() - used_ < need || payload_ + payload > kPayloadBytesMax) return false;
  std::byte* p = body_.data() + used_;
  p[0] = static_cast<std::byte>(op.kind);
  p[1] = static_cast<std::byte>(op.flags);
  store_u16(p + 2, static_cast<uint16_t>(op.key.size()));
  store_u16(p + 4, op.index);
  store_u16(p + 6, op.priority);
  store_u32(p + 8, op.deadline_us);
  store_u32(p + 12, op.length);
  store_u64(p + 16, op.offset);
  store_u64(p + 24, op.generation);
  store_u32(p + 32, op.kind == OpKind::kChunk ? op.chunk_number : op.expiry_s);
  store_u32(p + 36, static_cast<uint32_t>(sums.size() | remote_pieces.size() << 16));
  if (!op.key.empty()) std::memcpy(p + kOpBytes, op.key.data(), op.key.size());
  std::byte* behind = p + kOpBytes + op.key.size();
  store_sums(behind, sums);
  behind += sums.size_bytes();
  for (const RemotePiece& remote_piece : remote_pieces) store(remote_piece, behind), behind += kRemotePieceBytes;
  used_ += need;
  payload_ += payload;
  ++count_;
  return true;
}

std::span<const std::byte> OpsEncoder::finish() {
  store_u16(body_.data(), count_);
  return body_.first(used_);
}

ReplyEncoder::ReplyEncoder(std::span<std::byte> body) : body_(body), used_(kCountBytes) {
  MEMKV_ASSERT(body.size() >= kCountBytes);
}
uint16_t ReplyEncoder::count() const { return count_; }
uint64_t ReplyEncoder::payload_bytes() const { return payload_; }

bool ReplyEncoder::add(const OpReply& reply, std::span<const uint64_t> sums) {
  MEMKV_ASSERT(sums.size() <= kSumsMax && reply.payload_bytes <= kPayloadBytesMax);
  const size_t need = kReplyBytes + sums.size_bytes();
  if (count_ == kOpsPerFrameMax || body_.size() - used_ < need) return false;
  if (payload_ + reply.payload_bytes > kPayloadBytesMax) return false;
  std::byte* p = body_.data() + used_;
  store_u16(p, reply.index);
  p[2] = static_cast<std::byte>(reply.status);
  p[3] = static_cast<std::byte>(reply.flags);
  store_u32(p + 4, reply.payload_bytes);
  store_u64(p + 8, reply.generation);
  store_u64(p + 16, reply.block_bytes);
  store_u32(p + 24, static_cast<uint32_t>(sums.size()));
  store_u32(p + 28, reply.expiry_s);
  store_sums(p + kReplyBytes, sums);
  used_ += need;
  payload_ += reply.payload_bytes;
  ++count_;
  return true;
}

std::span<const std::byte> ReplyEncoder::finish() {
  store_u16(body_.data(), count_);
  return body_.first(used_);
}

OpsDecoder::OpsDecoder(std::span<const std::byte> body)
    : body_(body), left_(body.size() < kOpsHeaderBytes ? uint16_t{0} : count_of(body)) {}

OpsHeader OpsDecoder::header() const {
  MEMKV_ASSERT(body_.size() >= kOpsHeaderBytes, "only of a body that was found valid");
  return {.made_us = load_u64(body_.data()) >> 16, .epoch = load_u64(body_.data() + 8)};
}

Result<uint16_t> OpsDecoder::validate(uint32_t payload_bytes) const {
  if (body_.size() < kOpsHeaderBytes) return malformed("ops: truncated");
  const uint16_t count = count_of(body_);
  if (!sane_count(count)) return malformed("ops: bad count");
  IndexSet seen;
  uint64_t payload = 0;
  size_t at = kOpsHeaderBytes;
  for (uint16_t i = 0; i < count; ++i) {
    Op op;
    if (!read_op(body_, at, op)) return malformed("ops: truncated");
    if (const char* wrong = check(op)) return malformed(wrong);
    if (const char* wrong = check_unique(seen, op.index)) return malformed(wrong);
    if (has_payload(op.kind)) payload += op.length;
  }
  if (at != body_.size()) return malformed("ops: bytes behind the last op");
  if (payload != payload_bytes) return malformed("ops: payload lengths do not add up");
  return count;
}

bool OpsDecoder::next(Op& out) {
  if (left_ == 0 || !read_op(body_, at_, out)) return false;
  --left_;
  return true;
}

ReplyDecoder::ReplyDecoder(std::span<const std::byte> body) : body_(body), left_(count_of(body)) {}

Result<uint16_t> ReplyDecoder::validate(uint32_t payload_bytes) const {
  const uint16_t count = count_of(body_);
  if (!sane_count(count)) return malformed("reply: bad count");
  IndexSet seen;
  uint64_t payload = 0;
  size_t at = kCountBytes;
  for (uint16_t i = 0; i < count; ++i) {
    OpReply reply;
    if (!read_reply(body_, at, reply)) return malformed("reply: truncated");
    if (const char* wrong = check(reply)) return malformed(wrong);
    if (const char* wrong = check_unique(seen, reply.index)) return malformed(wrong);
    payload += reply.payload_bytes;
  }
  if (at != body_.size()) return malformed("reply: bytes behind the last one");
  if (payload != payload_bytes) return malformed("reply: payload lengths do not add up");
  return count;
}

bool ReplyDecoder::next(OpReply& out) {
  if (left_ == 0 || !read_reply(body_, at_, out)) return false;
  --left_;
  return true;
}

}  // namespace memkv::wire
