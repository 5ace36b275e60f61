#include "wire/messages.h"

#include <algorithm>
#include <bitset>
#include <cstring>

#include "base/bytes.h"
#include "base/chunk_seed.h"
#include "base/hash.h"

namespace memkv::wire {
namespace {

using base::load_u16;
using base::load_u32;
using base::load_u64;
using base::store_u16;
using base::store_u32;
using base::store_u64;

constexpr size_t kMacOffset = 32;
constexpr size_t kOpBytes = 40;
constexpr size_t kReplyBytes = 32;
constexpr uint32_t kGrainBytes = 64 * 1024;

Error bad(const char* what) { return Error{Status::kInvalid, 0, what}; }

bool known(uint8_t opcode) {
  switch (static_cast<Opcode>(opcode)) {
    case Opcode::kHello:
    case Opcode::kHelloReply:
    case Opcode::kProof:
    case Opcode::kWelcome:
    case Opcode::kOps:
    case Opcode::kReply:
    case Opcode::kExists:
    case Opcode::kExistsReply:
    case Opcode::kCredit:
    case Opcode::kCancel:
    case Opcode::kCanceled:
    case Opcode::kPing:
    case Opcode::kPong:
    case Opcode::kStatus:
    case Opcode::kStatusReply:
    case Opcode::kRegionAdd:
    case Opcode::kRegionDrop:
    case Opcode::kList:
    case Opcode::kListReply:
    case Opcode::kWorkerMap:
    case Opcode::kNotReady:
    case Opcode::kReady:
    case Opcode::kGoodbye: return true;
  }
  return false;
}

/// Reads fields in order; every read past the end makes it bad for good and gives zeros.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && at_ == bytes_.size(); }
  const std::byte* take(size_t n) {
    static constexpr std::byte kZeros[64] = {};
    if (!ok_ || bytes_.size() - at_ < n) {
      ok_ = false;
      return n <= sizeof kZeros ? kZeros : nullptr;
    }
    at_ += n;
    return bytes_.data() + at_ - n;
  }
  uint8_t u8() { return static_cast<uint8_t>(*take(1)); }
  uint16_t u16() { return load_u16(take(2)); }
  uint32_t u32() { return load_u32(take(4)); }
  uint64_t u64() { return load_u64(take(8)); }
  template <size_t N>
  void array(std::array<uint8_t, N>& out) {
    std::memcpy(out.data(), take(N), N);
  }
  std::string_view text(size_t n) {
    const std::byte* p = take(n);
    return ok_ ? std::string_view(reinterpret_cast<const char*>(p), n) : std::string_view();
  }

 private:
  std::span<const std::byte> bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

/// Writes fields in order into a buffer that the caller made large enough (size() == 0 if it was not).
class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : out_(out) {}
  void bytes(const void* p, size_t n) {
    if (out_.size() - at_ < n) {
      ok_ = false;
      return;
    }
    if (n != 0) std::memcpy(out_.data() + at_, p, n);
    at_ += n;
  }
  void u8(uint8_t v) { bytes(&v, 1); }
  void u16(uint16_t v) { number<2>(v, store_u16); }
  void u32(uint32_t v) { number<4>(v, store_u32); }
  void u64(uint64_t v) { number<8>(v, store_u64); }
  void text(std::string_view s) { bytes(s.data(), s.size()); }
  size_t size() const { return ok_ ? at_ : 0; }

 private:
  template <size_t N, typename V>
  void number(V v, void (*store)(void*, V)) {
    std::byte b[N];
    store(b, v);
    bytes(b, N);
  }
  std::span<std::byte> out_;
  size_t at_ = 0;
  bool ok_ = true;
};

bool read_op(std::span<const std::byte> body, size_t& at, Op& op) {
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
  op.expiry_s = load_u32(p + 32);
  op.sum_count = load_u16(p + 36);
  op.chunk_number = op.kind == OpKind::kChunk ? op.expiry_s : 0;
  if (op.kind == OpKind::kChunk) op.expiry_s = 0;
  const size_t rest = key_bytes + size_t{op.sum_count} * 8;
  if (body.size() - at - kOpBytes < rest) return false;
  op.key = {reinterpret_cast<const char*>(p + kOpBytes), key_bytes};
  op.sums = p + kOpBytes + key_bytes;
  at += kOpBytes + rest;
  return true;
}

bool read_reply(std::span<const std::byte> body, size_t& at, OpReply& reply) {
  if (body.size() - at < kReplyBytes) return false;
  const std::byte* p = body.data() + at;
  reply.index = load_u16(p);
  reply.status = static_cast<Status>(p[2]);
  reply.flags = static_cast<uint8_t>(p[3]);
  reply.payload_bytes = load_u32(p + 4);
  reply.generation = load_u64(p + 8);
  reply.block_bytes = load_u64(p + 16);
  reply.sum_count = load_u16(p + 24);
  reply.expiry_s = load_u32(p + 28);
  const size_t rest = size_t{reply.sum_count} * 8;
  if (body.size() - at - kReplyBytes < rest) return false;
  reply.sums = p + kReplyBytes;
  at += kReplyBytes + rest;
  return true;
}

/// Pieces of a range cut at the chunk's grain boundaries.
uint64_t piece_count(uint64_t offset_in_chunk, uint64_t length) {
  if (length == 0) return 0;
  return (offset_in_chunk + length - 1) / kGrainBytes - offset_in_chunk / kGrainBytes + 1;
}

bool needs_key(OpKind k) { return k != OpKind::kChunk && k != OpKind::kCommit && k != OpKind::kAbort && k != OpKind::kFlush; }

const char* check_sums(const Op& op) {
  const bool summed = has_payload(op.kind) && (op.flags & kOpServerChecksum) == 0;
  const uint64_t at = op.kind == OpKind::kPut ? 0 : op.offset % kChunkBytesMax;
  if (op.sum_count != (summed ? piece_count(at, op.length) : 0)) return "ops: wrong number of sums";
  return nullptr;
}

/// What the server relies on for one op; null = fine.
const char* check(const Op& op) {
  if (op.kind < OpKind::kGet || op.kind > OpKind::kPin) return "ops: unknown kind";
  if (op.flags > 31) return "ops: unknown flags";
  if (needs_key(op.kind) != !op.key.empty() || op.key.size() > kKeyBytesMax) return "ops: bad key length";
  if (op.index >= kOpsPerFrameMax) return "ops: index out of range";
  const uint64_t in_chunk = op.offset % kChunkBytesMax;
  switch (op.kind) {
    case OpKind::kGet:
    case OpKind::kWrite:
      if (op.length > kChunkBytesMax - in_chunk) return "ops: range crosses a chunk";
      break;
    case OpKind::kChunk:
      if (op.offset > kChunkBytesMax || op.length > kChunkBytesMax - op.offset) return "ops: range crosses a chunk";
      break;
    case OpKind::kPut:
      if (op.length > kChunkBytesMax) return "ops: payload over a chunk";
      break;
    default:
      if (op.length != 0) return "ops: length without payload";
  }
  return check_sums(op);
}

}  // namespace

void encode(const FrameHeader& h, std::span<std::byte, kHeaderBytes> out) {
  std::byte* p = out.data();
  store_u32(p, kMagic);
  p[4] = static_cast<std::byte>(h.version);
  p[5] = static_cast<std::byte>(h.opcode);
  store_u16(p + 6, h.flags);
  store_u32(p + 8, h.body_bytes);
  store_u32(p + 12, h.payload_bytes);
  store_u64(p + 16, h.request_id);
  store_u64(p + 24, h.sequence);
  std::memcpy(p + kMacOffset, h.mac.data(), h.mac.size());
}

Result<FrameHeader> decode_header(std::span<const std::byte, kHeaderBytes> bytes) {
  const std::byte* p = bytes.data();
  if (load_u32(p) != kMagic) return bad("frame: not a MemKV frame");
  if (!known(static_cast<uint8_t>(p[5]))) return bad("frame: unknown opcode");
  FrameHeader h;
  h.version = static_cast<uint8_t>(p[4]);
  h.opcode = static_cast<Opcode>(p[5]);
  h.flags = load_u16(p + 6);
  h.body_bytes = load_u32(p + 8);
  h.payload_bytes = load_u32(p + 12);
  h.request_id = load_u64(p + 16);
  h.sequence = load_u64(p + 24);
  std::memcpy(h.mac.data(), p + kMacOffset, h.mac.size());
  if (h.body_bytes > kBodyBytesMax) return bad("frame: body too large");
  if (h.payload_bytes > kPayloadBytesMax) return bad("frame: payload too large");
  return h;
}

std::array<uint8_t, 16> make_mac(const base::SipKey& key, const FrameHeader& header, std::span<const std::byte> body) {
  FrameHeader unsigned_header = header;
  unsigned_header.mac = {};
  std::array<std::byte, kHeaderBytes> bytes;
  encode(unsigned_header, bytes);
  base::SipStream sip(key);
  sip.update(bytes);
  sip.update(body);
  const base::Hash128 hash = sip.finish128();
  std::array<uint8_t, 16> mac;
  store_u64(mac.data(), hash.lo);
  store_u64(mac.data() + 8, hash.hi);
  return mac;
}

bool check_mac(const base::SipKey& key, const FrameHeader& header, std::span<const std::byte> body) {
  const auto expected = make_mac(key, header, body);
  uint8_t difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) difference = static_cast<uint8_t>(difference | (expected[i] ^ header.mac[i]));
  return difference == 0;
}

uint64_t Op::sum(size_t i) const { return load_u64(sums + 8 * i); }
uint64_t OpReply::sum(size_t i) const { return load_u64(sums + 8 * i); }

OpsEncoder::OpsEncoder(std::span<std::byte> body) : body_(body), used_(2) {}
uint16_t OpsEncoder::count() const { return count_; }
uint64_t OpsEncoder::payload_bytes() const { return payload_; }

bool OpsEncoder::add(const Op& op, std::span<const uint64_t> sums) {
  const size_t need = kOpBytes + op.key.size() + sums.size() * 8;
  if (count_ == kOpsPerFrameMax || body_.size() - used_ < need) return false;
  Writer w(body_.subspan(used_));
  w.u8(static_cast<uint8_t>(op.kind));
  w.u8(op.flags);
  w.u16(static_cast<uint16_t>(op.key.size()));
  w.u16(op.index);
  w.u8(op.priority);
  w.u8(0);
  w.u32(op.deadline_us);
  w.u32(op.length);
  w.u64(op.offset);
  w.u64(op.generation);
  w.u32(op.kind == OpKind::kChunk ? op.chunk_number : op.expiry_s);
  w.u16(static_cast<uint16_t>(sums.size()));
  w.u16(0);
  w.text(op.key);
  for (const uint64_t sum : sums) w.u64(sum);
  used_ += need;
  ++count_;
  if (has_payload(op.kind)) payload_ += op.length;
  return true;
}

std::span<const std::byte> OpsEncoder::finish() {
  store_u16(body_.data(), count_);
  return body_.first(used_);
}

ReplyEncoder::ReplyEncoder(std::span<std::byte> body) : body_(body), used_(2) {}
uint16_t ReplyEncoder::count() const { return count_; }
uint64_t ReplyEncoder::payload_bytes() const { return payload_; }

bool ReplyEncoder::add(const OpReply& reply, std::span<const uint64_t> sums) {
  const size_t need = kReplyBytes + sums.size() * 8;
  if (count_ == kOpsPerFrameMax || body_.size() - used_ < need) return false;
  Writer w(body_.subspan(used_));
  w.u16(reply.index);
  w.u8(static_cast<uint8_t>(reply.status));
  w.u8(reply.flags);
  w.u32(reply.payload_bytes);
  w.u64(reply.generation);
  w.u64(reply.block_bytes);
  w.u16(static_cast<uint16_t>(sums.size()));
  w.u16(0);
  w.u32(reply.expiry_s);
  for (const uint64_t sum : sums) w.u64(sum);
  used_ += need;
  ++count_;
  payload_ += reply.payload_bytes;
  return true;
}

std::span<const std::byte> ReplyEncoder::finish() {
  store_u16(body_.data(), count_);
  return body_.first(used_);
}

OpsDecoder::OpsDecoder(std::span<const std::byte> body) : body_(body) {
  if (body.size() >= 2) left_ = load_u16(body.data());
}

Result<uint16_t> OpsDecoder::validate(uint32_t payload_bytes) const {
  if (body_.size() < 2 || left_ == 0 || left_ > kOpsPerFrameMax) return bad("ops: bad count");
  std::bitset<kOpsPerFrameMax> seen;
  uint64_t payload = 0;
  size_t at = 2;
  for (uint16_t i = 0; i < left_; ++i) {
    Op op;
    if (!read_op(body_, at, op)) return bad("ops: truncated");
    if (const char* wrong = check(op)) return bad(wrong);
    if (seen[op.index]) return bad("ops: index used twice");
    seen[op.index] = true;
    if (has_payload(op.kind)) payload += op.length;
  }
  if (at != body_.size()) return bad("ops: bytes behind the last op");
  if (payload != payload_bytes) return bad("ops: payload lengths do not add up");
  return left_;
}

bool OpsDecoder::next(Op& out) {
  if (left_ == 0 || !read_op(body_, at_, out)) return false;
  --left_;
  return true;
}

ReplyDecoder::ReplyDecoder(std::span<const std::byte> body) : body_(body) {
  if (body.size() >= 2) left_ = load_u16(body.data());
}

Result<uint16_t> ReplyDecoder::validate(uint32_t payload_bytes) const {
  if (body_.size() < 2 || left_ == 0 || left_ > kOpsPerFrameMax) return bad("reply: bad count");
  uint64_t payload = 0;
  size_t at = 2;
  for (uint16_t i = 0; i < left_; ++i) {
    OpReply reply;
    if (!read_reply(body_, at, reply)) return bad("reply: truncated");
    if (reply.index >= kOpsPerFrameMax || reply.sum_count > kSumsMax) return bad("reply: out of range");
    payload += reply.payload_bytes;
  }
  if (at != body_.size()) return bad("reply: bytes behind the last one");
  if (payload != payload_bytes) return bad("reply: payload lengths do not add up");
  return left_;
}

bool ReplyDecoder::next(OpReply& out) {
  if (left_ == 0 || !read_reply(body_, at_, out)) return false;
  --left_;
  return true;
}

ExistsEncoder::ExistsEncoder(std::span<std::byte> body, bool touch) : body_(body), used_(8) {
  std::memset(body_.data(), 0, 8);
  body_[0] = static_cast<std::byte>(touch ? 1 : 0);
}
uint32_t ExistsEncoder::count() const { return count_; }

bool ExistsEncoder::add(std::string_view key) {
  if (count_ == kKeysPerExistsMax || body_.size() - used_ < 2 + key.size()) return false;
  Writer w(body_.subspan(used_));
  w.u16(static_cast<uint16_t>(key.size()));
  w.text(key);
  used_ += w.size();
  ++count_;
  return true;
}

std::span<const std::byte> ExistsEncoder::finish() {
  store_u32(body_.data() + 4, count_);
  return body_.first(used_);
}

ExistsDecoder::ExistsDecoder(std::span<const std::byte> body) : body_(body) {
  if (body.size() >= 8) left_ = load_u32(body.data() + 4);
}

Result<uint32_t> ExistsDecoder::validate() const {
  Reader r(body_);
  if (r.u8() > 1) return bad("exists: bad flag");
  (void)r.take(3);
  const uint32_t count = r.u32();
  if (!r.ok() || count == 0 || count > kKeysPerExistsMax) return bad("exists: bad count");
  for (uint32_t i = 0; i < count && r.ok(); ++i) {
    const uint16_t n = r.u16();
    if (n == 0 || n > kKeyBytesMax) return bad("exists: bad key length");
    (void)r.text(n);
  }
  if (!r.at_end()) return bad("exists: length");
  return count;
}

bool ExistsDecoder::touch() const { return !body_.empty() && body_[0] == std::byte{1}; }

bool ExistsDecoder::next(std::string_view& key) {
  if (left_ == 0 || body_.size() - at_ < 2) return false;
  const size_t n = load_u16(body_.data() + at_);
  if (body_.size() - at_ - 2 < n) return false;
  key = {reinterpret_cast<const char*>(body_.data() + at_ + 2), n};
  at_ += 2 + n;
  --left_;
  return true;
}

size_t encode_exists_reply(std::span<const uint8_t> bits, uint32_t count, std::span<std::byte> out) {
  Writer w(out);
  w.u32(count);
  w.bytes(bits.data(), (size_t{count} + 7) / 8);
  return w.size();
}

Result<ExistsReply> decode_exists_reply(std::span<const std::byte> body) {
  Reader r(body);
  const uint32_t count = r.u32();
  if (!r.ok() || count > kKeysPerExistsMax || body.size() != 4 + (size_t{count} + 7) / 8) return bad("exists reply: length");
  return ExistsReply{count, body.subspan(4)};
}

size_t encode(const Hello& m, std::span<std::byte> out) {
  Writer w(out);
  w.u16(m.version_min);
  w.u16(m.version_max);
  w.u32(m.features);
  w.u8(m.transport);
  w.u8(0);
  w.u16(m.wanted_worker);
  w.bytes(m.key_id.data(), m.key_id.size());
  w.bytes(m.nonce.data(), m.nonce.size());
  w.u16(static_cast<uint16_t>(m.client_name.size()));
  w.text(m.client_name);
  return w.size();
}

size_t encode(const HelloReply& m, std::span<std::byte> out) {
  Writer w(out);
  w.u16(m.version);
  w.u16(0);
  w.u32(m.features);
  w.bytes(m.nonce.data(), m.nonce.size());
  w.u16(static_cast<uint16_t>(m.server_name.size()));
  w.text(m.server_name);
  w.bytes(m.proof.data(), m.proof.size());
  return w.size();
}

size_t encode(const Proof& m, std::span<std::byte> out) {
  Writer w(out);
  w.bytes(m.proof.data(), m.proof.size());
  return w.size();
}

size_t encode(const Welcome& m, std::span<std::byte> out) {
  Writer w(out);
  w.bytes(m.boot_id.data(), m.boot_id.size());
  w.bytes(m.store_id.data(), m.store_id.size());
  w.u64(m.namespace_id);
  w.u64(m.shard_seed);
  w.u64(m.block_bytes_max);
  w.u16(m.worker);
  w.u16(m.worker_count);
  w.u16(m.credit);
  w.u8(m.ready);
  w.u8(m.shard_count);
  w.bytes(m.worker_of_shard.data(), m.worker_of_shard.size());
  return w.size();
}

size_t encode(const Cancel& m, std::span<std::byte> out) {
  Writer w(out);
  w.u64(m.request_id);
  w.u16(m.op_index);
  return w.size();
}

size_t encode(const Credit& m, std::span<std::byte> out) {
  Writer w(out);
  w.u16(m.limit);
  return w.size();
}

size_t encode(const WorkerMap& m, std::span<std::byte> out) {
  Writer w(out);
  w.u16(m.worker_count);
  w.u8(m.shard_count);
  w.bytes(m.worker_of_shard.data(), m.worker_of_shard.size());
  return w.size();
}

size_t encode(const Goodbye& m, std::span<std::byte> out) {
  Writer w(out);
  w.u8(static_cast<uint8_t>(m.status));
  w.text(m.text);
  return w.size();
}

size_t encode(const List& m, std::span<std::byte> out) {
  Writer w(out);
  w.u64(m.cursor);
  w.u32(m.limit);
  return w.size();
}

Result<Hello> decode_hello(std::span<const std::byte> body) {
  Reader r(body);
  Hello m;
  m.version_min = r.u16();
  m.version_max = r.u16();
  m.features = r.u32();
  m.transport = r.u8();
  (void)r.u8();
  m.wanted_worker = r.u16();
  r.array(m.key_id);
  r.array(m.nonce);
  const uint16_t n = r.u16();
  if (n > 256) return bad("hello: name too long");
  m.client_name = r.text(n);
  if (!r.at_end() || m.version_min > m.version_max) return bad("hello: malformed");
  return m;
}

Result<HelloReply> decode_hello_reply(std::span<const std::byte> body) {
  Reader r(body);
  HelloReply m;
  m.version = r.u16();
  (void)r.u16();
  m.features = r.u32();
  r.array(m.nonce);
  const uint16_t n = r.u16();
  if (n > 256) return bad("hello reply: name too long");
  m.server_name = r.text(n);
  r.array(m.proof);
  if (!r.at_end()) return bad("hello reply: malformed");
  return m;
}

Result<Proof> decode_proof(std::span<const std::byte> body) {
  Reader r(body);
  Proof m;
  r.array(m.proof);
  if (!r.at_end()) return bad("proof: malformed");
  return m;
}

namespace {
bool sane_map(uint16_t worker_count, uint8_t shard_count, const std::array<uint8_t, 32>& worker_of_shard) {
  if (worker_count == 0 || worker_count > 32 || shard_count == 0 || shard_count > 32 || (shard_count & (shard_count - 1)) != 0) return false;
  return std::all_of(worker_of_shard.begin(), worker_of_shard.begin() + shard_count, [&](uint8_t w) { return w < worker_count; });
}
}  // namespace

Result<Welcome> decode_welcome(std::span<const std::byte> body) {
  Reader r(body);
  Welcome m;
  r.array(m.boot_id);
  r.array(m.store_id);
  m.namespace_id = r.u64();
  m.shard_seed = r.u64();
  m.block_bytes_max = r.u64();
  m.worker = r.u16();
  m.worker_count = r.u16();
  m.credit = r.u16();
  m.ready = r.u8();
  m.shard_count = r.u8();
  r.array(m.worker_of_shard);
  if (!r.at_end() || !sane_map(m.worker_count, m.shard_count, m.worker_of_shard) || m.credit == 0) return bad("welcome: malformed");
  return m;
}

Result<Cancel> decode_cancel(std::span<const std::byte> body) {
  Reader r(body);
  Cancel m;
  m.request_id = r.u64();
  m.op_index = r.u16();
  if (!r.at_end()) return bad("cancel: malformed");
  return m;
}

Result<Credit> decode_credit(std::span<const std::byte> body) {
  Reader r(body);
  Credit m;
  m.limit = r.u16();
  if (!r.at_end() || m.limit == 0) return bad("credit: malformed");
  return m;
}

Result<WorkerMap> decode_worker_map(std::span<const std::byte> body) {
  Reader r(body);
  WorkerMap m;
  m.worker_count = r.u16();
  m.shard_count = r.u8();
  r.array(m.worker_of_shard);
  if (!r.at_end() || !sane_map(m.worker_count, m.shard_count, m.worker_of_shard)) return bad("worker map: malformed");
  return m;
}

Result<Goodbye> decode_goodbye(std::span<const std::byte> body) {
  if (body.empty()) return bad("goodbye: malformed");
  Goodbye m;
  m.status = static_cast<Status>(body[0]);
  m.text = {reinterpret_cast<const char*>(body.data()) + 1, body.size() - 1};
  return m;
}

Result<List> decode_list(std::span<const std::byte> body) {
  Reader r(body);
  List m;
  m.cursor = r.u64();
  m.limit = r.u32();
  if (!r.at_end()) return bad("list: malformed");
  return m;
}

ListReplyEncoder::ListReplyEncoder(std::span<std::byte> body) : body_(body), used_(12) {}

bool ListReplyEncoder::add(const ListItem& item) {
  const size_t need = 18 + item.key.size();
  if (body_.size() - used_ < need) return false;
  Writer w(body_.subspan(used_));
  w.u64(item.generation);
  w.u64(item.block_bytes);
  w.u16(static_cast<uint16_t>(item.key.size()));
  w.text(item.key);
  used_ += need;
  ++count_;
  return true;
}

std::span<const std::byte> ListReplyEncoder::finish(uint64_t next_cursor) {
  store_u64(body_.data(), next_cursor);
  store_u32(body_.data() + 8, count_);
  return body_.first(used_);
}

ListReplyDecoder::ListReplyDecoder(std::span<const std::byte> body) : body_(body) {
  if (body.size() >= 12) left_ = load_u32(body.data() + 8);
}

Result<uint32_t> ListReplyDecoder::validate() const {
  Reader r(body_);
  (void)r.u64();
  const uint32_t count = r.u32();
  for (uint32_t i = 0; i < count && r.ok(); ++i) {
    (void)r.u64();
    (void)r.u64();
    (void)r.text(r.u16());
  }
  if (!r.at_end()) return bad("list reply: malformed");
  return count;
}

uint64_t ListReplyDecoder::next_cursor() const { return body_.size() >= 8 ? load_u64(body_.data()) : 0; }

bool ListReplyDecoder::next(ListItem& out) {
  if (left_ == 0) return false;
  Reader r(body_.subspan(at_));
  out.generation = r.u64();
  out.block_bytes = r.u64();
  const uint16_t n = r.u16();
  out.key = r.text(n);
  if (!r.ok()) return false;
  at_ += 18 + size_t{n};
  --left_;
  return true;
}

uint32_t shard_of(std::string_view key, uint64_t shard_seed, uint64_t namespace_id, uint32_t shard_count) {
  return static_cast<uint32_t>(base::xxh3(base::as_bytes(key), shard_seed ^ namespace_id) & (shard_count - 1));
}

uint64_t checksum_seed(uint64_t namespace_id, std::string_view key, uint32_t chunk_number) {
  return base::chunk_seed(namespace_id, key, chunk_number);
}

}  // namespace memkv::wire
