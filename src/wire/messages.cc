/// Frame headers and the small messages. The order of fields in an encoder is the message's layout. Reserved bytes are
/// zero.

#include "wire/messages.h"

#include <algorithm>

#include "base/assert.h"
#include "base/chunk_seed.h"
#include "wire/codec.h"

namespace memkv::wire {
namespace {

constexpr size_t kMacOffset = 32;
constexpr size_t kNameBytesMax = 256;
constexpr uint16_t kWorkersMax = 32;
constexpr uint8_t kShardsMax = 32;

/// False for opcodes that this version does not have. It is a switch over the enum, so that the compiler reports a new
/// opcode that is missing here.
bool known(Opcode opcode) {
  switch (opcode) {
    case Opcode::kHello:
    case Opcode::kHelloReply:
    case Opcode::kProof:
    case Opcode::kWelcome:
    case Opcode::kIntroduce:
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
    case Opcode::kWindows:
    case Opcode::kNotReady:
    case Opcode::kReady:
    case Opcode::kGoodbye:
    case Opcode::kRdmaConnect:
    case Opcode::kRdmaAccept:
    case Opcode::kOffer:
    case Opcode::kTaken:
    case Opcode::kConsumed:
      return true;
  }
  return false;
}

bool sane_map(uint16_t worker_count, uint8_t shard_count, const std::array<uint8_t, 32>& worker_of_shard) {
  if (worker_count == 0 || worker_count > kWorkersMax) return false;
  if (shard_count > kShardsMax || !std::has_single_bit(shard_count)) return false;
  return std::all_of(worker_of_shard.begin(), worker_of_shard.begin() + shard_count,
                     [&](uint8_t worker) { return worker < worker_count; });
}

void put_name(Writer& to, std::string_view name) {
  MEMKV_ASSERT(name.size() <= kNameBytesMax);
  to.u16(static_cast<uint16_t>(name.size()));
  to.text(name);
}

/// Reads a name. False: it is too long or cut off.
bool get_name(Reader& in, std::string_view& name) {
  const uint16_t bytes = in.u16();
  name = in.text(bytes);
  return in.ok() && bytes <= kNameBytesMax;
}

}  // namespace

void encode(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out) {
  std::byte* p = out.data();
  base::store_u32(p, kMagic);
  p[4] = static_cast<std::byte>(header.version);
  p[5] = static_cast<std::byte>(header.opcode);
  base::store_u16(p + 6, header.flags);
  base::store_u32(p + 8, header.body_bytes);
  base::store_u32(p + 12, header.payload_bytes);
  base::store_u64(p + 16, header.request_id);
  base::store_u64(p + 24, header.sequence);
  std::memcpy(p + kMacOffset, header.mac.data(), header.mac.size());
}

Result<FrameHeader> decode_header(std::span<const std::byte, kHeaderBytes> bytes) {
  const std::byte* p = bytes.data();
  FrameHeader header;
  header.version = static_cast<uint8_t>(p[4]);
  header.opcode = static_cast<Opcode>(p[5]);
  header.flags = base::load_u16(p + 6);
  header.body_bytes = base::load_u32(p + 8);
  header.payload_bytes = base::load_u32(p + 12);
  header.request_id = base::load_u64(p + 16);
  header.sequence = base::load_u64(p + 24);
  std::memcpy(header.mac.data(), p + kMacOffset, header.mac.size());
  if (base::load_u32(p) != kMagic) return malformed("frame: not a MemKV frame");
  if (!known(header.opcode)) return malformed("frame: unknown opcode");
  if (header.body_bytes > kBodyBytesMax) return malformed("frame: body too large");
  if (header.payload_bytes > kPayloadBytesMax) return malformed("frame: payload too large");
  return header;
}

std::array<uint8_t, 16> make_mac(const base::SipKey& key, const FrameHeader& header, std::span<const std::byte> body) {
  std::array<std::byte, kHeaderBytes> bytes;
  encode(header, bytes);
  std::memset(bytes.data() + kMacOffset, 0, header.mac.size());
  base::SipStream sip(key);
  sip.update(bytes);
  sip.update(body);
  const base::Hash128 hash = sip.finish128();
  std::array<uint8_t, 16> mac;
  base::store_u64(mac.data(), hash.lo);
  base::store_u64(mac.data() + 8, hash.hi);
  return mac;
}

/// Compares in constant time: the two halves are compared as numbers, without a branch between them.
bool check_mac(const base::SipKey& key, const FrameHeader& header, std::span<const std::byte> body) {
  const auto expected = make_mac(key, header, body);
  const uint64_t low = base::load_u64(expected.data()) ^ base::load_u64(header.mac.data());
  const uint64_t high = base::load_u64(expected.data() + 8) ^ base::load_u64(header.mac.data() + 8);
  return (low | high) == 0;
}

size_t encode(const Hello& hello, std::span<std::byte> out) {
  Writer to(out);
  to.u16(hello.version_min);
  to.u16(hello.version_max);
  to.u32(hello.features);
  to.u8(hello.transport);
  to.u8(0);
  to.u16(hello.wanted_worker);
  to.array(hello.key_id);
  to.array(hello.nonce);
  put_name(to, hello.client_name);
  return to.size();
}

Result<Hello> decode_hello(std::span<const std::byte> body) {
  Reader in(body);
  Hello hello;
  hello.version_min = in.u16();
  hello.version_max = in.u16();
  hello.features = in.u32();
  hello.transport = in.u8();
  (void)in.u8();
  hello.wanted_worker = in.u16();
  in.array(hello.key_id);
  in.array(hello.nonce);
  if (!get_name(in, hello.client_name) || !in.at_end()) return malformed("hello: bad length");
  if (hello.version_min > hello.version_max) return malformed("hello: versions upside down");
  return hello;
}

size_t encode(const HelloReply& reply, std::span<std::byte> out) {
  Writer to(out);
  to.u16(reply.version);
  to.u16(0);
  to.u32(reply.features);
  to.array(reply.nonce);
  put_name(to, reply.server_name);
  to.array(reply.proof);
  return to.size();
}

Result<HelloReply> decode_hello_reply(std::span<const std::byte> body) {
  Reader in(body);
  HelloReply reply;
  reply.version = in.u16();
  (void)in.u16();
  reply.features = in.u32();
  in.array(reply.nonce);
  const bool named = get_name(in, reply.server_name);
  in.array(reply.proof);
  if (!named || !in.at_end()) return malformed("hello reply: bad length");
  return reply;
}

size_t encode(const Proof& proof, std::span<std::byte> out) {
  Writer to(out);
  to.array(proof.proof);
  return to.size();
}

Result<Proof> decode_proof(std::span<const std::byte> body) {
  Reader in(body);
  Proof proof;
  in.array(proof.proof);
  if (!in.at_end()) return malformed("proof: bad length");
  return proof;
}

size_t encode(const Introduce& introduce, std::span<std::byte> out) {
  Writer to(out);
  to.array(introduce.client_id);
  to.u64(introduce.epoch);
  return to.size();
}

Result<Introduce> decode_introduce(std::span<const std::byte> body) {
  Reader in(body);
  Introduce introduce;
  in.array(introduce.client_id);
  introduce.epoch = in.u64();
  if (!in.at_end()) return malformed("introduce: bad length");
  return introduce;
}

namespace {

void put(Writer& to, const Credit& credit) {
  to.u16(credit.puts);
  to.u16(credit.gets);
  to.u16(credit.ops);
}

Credit take_credit(Reader& in) {
  Credit credit;
  credit.puts = in.u16();
  credit.gets = in.u16();
  credit.ops = in.u16();
  return credit;
}

/// A client with a limit of 0 could never send. The server never lets a limit fall below 1.
bool sane(const Credit& credit) { return credit.puts > 0 && credit.gets > 0 && credit.ops > 0; }

}  // namespace

size_t encode(const Welcome& welcome, std::span<std::byte> out) {
  Writer to(out);
  to.array(welcome.boot_id);
  to.array(welcome.store_id);
  to.u64(welcome.namespace_id);
  to.u64(welcome.shard_seed);
  to.u64(welcome.block_bytes_max);
  to.u16(welcome.worker);
  to.u16(welcome.worker_count);
  put(to, welcome.credit);
  to.u8(welcome.ready);
  to.u8(welcome.shard_count);
  to.array(welcome.worker_of_shard);
  to.u64(welcome.now_ns);
  return to.size();
}

Result<Welcome> decode_welcome(std::span<const std::byte> body) {
  Reader in(body);
  Welcome welcome;
  in.array(welcome.boot_id);
  in.array(welcome.store_id);
  welcome.namespace_id = in.u64();
  welcome.shard_seed = in.u64();
  welcome.block_bytes_max = in.u64();
  welcome.worker = in.u16();
  welcome.worker_count = in.u16();
  welcome.credit = take_credit(in);
  welcome.ready = in.u8();
  welcome.shard_count = in.u8();
  in.array(welcome.worker_of_shard);
  welcome.now_ns = in.u64();
  if (!in.at_end()) return malformed("welcome: bad length");
  if (!sane_map(welcome.worker_count, welcome.shard_count, welcome.worker_of_shard)) {
    return malformed("welcome: bad worker map");
  }
  if (welcome.worker >= welcome.worker_count || !sane(welcome.credit) || welcome.ready > 1) {
    return malformed("welcome: out of range");
  }
  return welcome;
}

size_t encode(const Pong& pong, std::span<std::byte> out) {
  Writer to(out);
  to.u64(pong.now_ns);
  return to.size();
}

Result<Pong> decode_pong(std::span<const std::byte> body) {
  Reader in(body);
  Pong pong;
  pong.now_ns = in.u64();
  if (!in.at_end()) return malformed("pong: bad length");
  return pong;
}

size_t encode(const Consumed& consumed, std::span<std::byte> out) {
  Writer to(out);
  to.u64(consumed.payload_bytes);
  return to.size();
}

Result<Consumed> decode_consumed(std::span<const std::byte> body) {
  Reader in(body);
  const Consumed consumed{in.u64()};
  if (!in.at_end()) return malformed("consumed: malformed");
  return consumed;
}

size_t encode(const Cancel& cancel, std::span<std::byte> out) {
  Writer to(out);
  to.u64(cancel.request_id);
  to.u16(cancel.op_index);
  return to.size();
}

Result<Cancel> decode_cancel(std::span<const std::byte> body) {
  Reader in(body);
  Cancel cancel;
  cancel.request_id = in.u64();
  cancel.op_index = in.u16();
  if (!in.at_end() || cancel.op_index >= kOpsPerFrameMax) return malformed("cancel: malformed");
  return cancel;
}

size_t encode(const Credit& credit, std::span<std::byte> out) {
  Writer to(out);
  put(to, credit);
  return to.size();
}

Result<Credit> decode_credit(std::span<const std::byte> body) {
  Reader in(body);
  const Credit credit = take_credit(in);
  if (!in.at_end() || !sane(credit)) return malformed("credit: malformed");
  return credit;
}

size_t encode(const Windows& windows, std::span<std::byte> out) {
  Writer to(out);
  to.u64(windows.get_ring_bytes);
  to.u64(windows.put_ring_bytes);
  return to.size();
}

Result<Windows> decode_windows(std::span<const std::byte> body) {
  Reader in(body);
  Windows windows;
  windows.get_ring_bytes = in.u64();
  windows.put_ring_bytes = in.u64();
  const auto sane = [](uint64_t bytes) {
    return std::has_single_bit(bytes) && bytes >= kRingBytesMin && bytes <= kRingBytesMax;
  };
  if (!in.at_end() || !sane(windows.get_ring_bytes) || !sane(windows.put_ring_bytes)) {
    return malformed("windows: malformed");
  }
  return windows;
}

size_t encode(const WorkerMap& map, std::span<std::byte> out) {
  Writer to(out);
  to.u16(map.worker_count);
  to.u8(map.shard_count);
  to.array(map.worker_of_shard);
  return to.size();
}

Result<WorkerMap> decode_worker_map(std::span<const std::byte> body) {
  Reader in(body);
  WorkerMap map;
  map.worker_count = in.u16();
  map.shard_count = in.u8();
  in.array(map.worker_of_shard);
  if (!in.at_end() || !sane_map(map.worker_count, map.shard_count, map.worker_of_shard)) {
    return malformed("worker map: malformed");
  }
  return map;
}

size_t encode(const Goodbye& goodbye, std::span<std::byte> out) {
  Writer to(out);
  to.u8(static_cast<uint8_t>(goodbye.status));
  to.text(goodbye.text);
  return to.size();
}

Result<Goodbye> decode_goodbye(std::span<const std::byte> body) {
  if (body.empty()) return malformed("goodbye: malformed");
  const base::Bytes text = body.subspan(1);
  return Goodbye{status_of(body[0]), {reinterpret_cast<const char*>(text.data()), text.size()}};
}

size_t encode(const List& list, std::span<std::byte> out) {
  Writer to(out);
  to.u64(list.cursor);
  to.u32(list.limit);
  return to.size();
}

Result<List> decode_list(std::span<const std::byte> body) {
  Reader in(body);
  List list;
  list.cursor = in.u64();
  list.limit = in.u32();
  if (!in.at_end()) return malformed("list: bad length");
  return list;
}

uint32_t shard_of(std::string_view key, uint64_t shard_seed, uint64_t namespace_id, uint32_t shard_count) {
  MEMKV_ASSERT(std::has_single_bit(shard_count));
  return static_cast<uint32_t>(base::xxh3(base::as_bytes(key), shard_seed ^ namespace_id) & (shard_count - 1));
}

}  // namespace memkv::wire
