#pragma once
/// One frame of every message, with fixed contents: for golden files, for tests of the decoders, and as seeds of the
/// fuzzers.

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "wire/handshake.h"
#include "wire/messages.h"

namespace memkv::wire {

struct Sample {
  std::string name;
  std::vector<std::byte> frame;  ///< header and body, without payload
  std::span<const std::byte> body() const { return std::span(frame).subspan(kHeaderBytes); }
};

template <size_t N>
constexpr std::array<uint8_t, N> counting(uint8_t first) {
  std::array<uint8_t, N> bytes{};
  for (size_t i = 0; i < N; ++i) bytes[i] = static_cast<uint8_t>(first + i);
  return bytes;
}

inline constexpr base::SipKey kSampleKey{0x0706050403020100, 0x0f0e0d0c0b0a0908};
inline constexpr Secret kSampleSecret = counting<32>(0x40);

inline Sample make_sample(std::string name, FrameHeader header, std::span<const std::byte> body) {
  header.body_bytes = static_cast<uint32_t>(body.size());
  if (header.version != 0) header.mac = make_mac(kSampleKey, header, body);
  Sample sample{std::move(name), std::vector<std::byte>(kHeaderBytes)};
  encode(header, std::span(sample.frame).first<kHeaderBytes>());
  sample.frame.insert(sample.frame.end(), body.begin(), body.end());
  return sample;
}

/// One op of each kind.
inline std::vector<std::byte> sample_ops(uint64_t& payload_bytes) {
  constexpr std::array<uint64_t, 2> kSums = {0x1111111111111111, 0x2222222222222222};
  std::vector<std::byte> body(4096);
  OpsEncoder encoder(body, {.made_us = 0x0102030405, .epoch = 0x77});
  const auto add = [&](Op op, size_t sums) {
    op.index = encoder.count();
    (void)encoder.add(op, std::span(kSums).first(sums));
  };
  add({.kind = OpKind::kGet, .deadline_us = 2'000'000, .length = 65536, .offset = 4096, .generation = 7, .key = "a"},
      0);
  add({.kind = OpKind::kPut, .flags = kOpIfAbsent, .priority = 3, .length = 100, .expiry_s = 60, .key = "bb"}, 1);
  add({.kind = OpKind::kWrite, .length = 10, .offset = (2u << 20) + 65530, .key = "ccc"}, 2);
  add({.kind = OpKind::kBegin, .flags = kOpRangeWrite, .offset = 5'000'000, .key = "d"}, 0);
  add({.kind = OpKind::kChunk, .flags = kOpServerChecksum, .length = 8, .generation = 9, .chunk_number = 2}, 0);
  add({.kind = OpKind::kCommit, .flags = kOpChained, .generation = 9}, 0);
  add({.kind = OpKind::kAbort, .generation = 10}, 0);
  add({.kind = OpKind::kRemove, .key = "e"}, 0);
  add({.kind = OpKind::kTouch, .key = "f"}, 0);
  add({.kind = OpKind::kStat, .key = "g"}, 0);
  add({.kind = OpKind::kFlush}, 0);
  add({.kind = OpKind::kSuspect, .offset = 1 << 20, .key = "h"}, 0);
  add({.kind = OpKind::kPin, .key = "i"}, 0);
  add({.kind = OpKind::kPrefetch, .key = "j"}, 0);
  payload_bytes = encoder.payload_bytes();
  body.resize(encoder.finish().size());
  return body;
}

inline std::vector<std::byte> sample_reply(uint64_t& payload_bytes) {
  constexpr std::array<uint64_t, 2> kSums = {0x3333333333333333, 0x4444444444444444};
  std::vector<std::byte> body(4096);
  ReplyEncoder encoder(body);
  OpReply hit{.index = 0, .status = Status::kOk, .flags = kReplyWholeChunk, .payload_bytes = 1000};
  hit.generation = 77, hit.block_bytes = 1000, hit.expiry_s = 5;
  (void)encoder.add(hit, std::span(kSums).first(1));
  (void)encoder.add({.index = 1, .status = Status::kMiss}, {});
  (void)encoder.add({.index = 2, .status = Status::kBusy, .flags = kReplyFenced}, {});
  (void)encoder.add({.index = 511, .status = Status::kOk, .flags = kReplyHasHoles, .payload_bytes = 70000}, kSums);
  payload_bytes = encoder.payload_bytes();
  body.resize(encoder.finish().size());
  return body;
}

inline Hello sample_hello() {
  Hello hello{.version_min = 1, .version_max = 3, .features = 5, .wanted_worker = 2};
  hello.key_id = key_id_of(kSampleSecret);
  hello.nonce = counting<32>(0x80);
  hello.client_name = "engine-0";
  return hello;
}

inline HelloReply sample_hello_reply() {
  HelloReply reply{.version = 2, .features = 1};
  reply.nonce = counting<32>(0xa0);
  reply.server_name = "kv-a";
  return reply;
}

inline Welcome sample_welcome() {
  Welcome welcome;
  welcome.boot_id = counting<16>(0x10);
  welcome.store_id = counting<16>(0x20);
  welcome.namespace_id = 0x5555555555555555;
  welcome.shard_seed = 0x6666666666666666;
  welcome.block_bytes_max = uint64_t{1} << 30;
  welcome.worker = 1, welcome.worker_count = 2, welcome.credit = {16, 24, 32}, welcome.ready = 1,
  welcome.shard_count = 4;
  welcome.worker_of_shard = {0, 1, 0, 1};
  welcome.now_ns = 0x123456789a;
  return welcome;
}

/// The bytes of a message, in a buffer of their own.
template <typename Message>
std::vector<std::byte> encoded(const Message& message) {
  std::vector<std::byte> body(4096);
  body.resize(encode(message, body));
  return body;
}

/// What both sides compute from the sample HELLO and HELLO_REPLY.
inline Agreement sample_agreement() {
  const auto reply = encoded(sample_hello_reply());
  return agree(kSampleSecret, encoded(sample_hello()), std::span(reply).first(reply.size() - 32));
}

inline void add_handshake_samples(std::vector<Sample>& all) {
  const Agreement agreement = sample_agreement();
  HelloReply reply = sample_hello_reply();
  reply.proof = agreement.server_proof;
  const auto frozen = [](Opcode opcode) { return FrameHeader{.version = 0, .opcode = opcode}; };
  all.push_back(make_sample("hello", frozen(Opcode::kHello), encoded(sample_hello())));
  all.push_back(make_sample("hello_reply", frozen(Opcode::kHelloReply), encoded(reply)));
  all.push_back(make_sample("proof", frozen(Opcode::kProof), encoded(Proof{agreement.client_proof})));
}

inline void add_list_samples(std::vector<Sample>& all) {
  std::vector<std::byte> body(4096);
  ExistsEncoder exists(body, true);
  for (const std::string_view key : {"one", "two", "three"}) (void)exists.add(key);
  all.push_back(make_sample("exists", {.opcode = Opcode::kExists, .request_id = 21, .sequence = 3}, exists.finish()));
  std::array<std::byte, 8> reply;
  const size_t bytes = encode_exists_reply(std::array<uint8_t, 2>{0b101, 1}, 9, reply);
  all.push_back(
      make_sample("exists_reply", {.opcode = Opcode::kExistsReply, .request_id = 21}, std::span(reply).first(bytes)));
  ListReplyEncoder list(body);
  (void)list.add({.generation = 8, .block_bytes = 4096, .key = "one"});
  (void)list.add({.generation = 9, .block_bytes = 1 << 24, .key = "three"});
  all.push_back(make_sample("list_reply", {.opcode = Opcode::kListReply, .request_id = 23}, list.finish(0xabcdef)));
  all.push_back(make_sample("list", {.opcode = Opcode::kList, .request_id = 23}, encoded(List{17, 100})));
}

inline RdmaEnd sample_rdma_end() {
  RdmaEnd end{.rail = 1, .receives = 32, .queue_pair = 0x123456, .first_packet = 0xabcdef, .message_bytes = 9216};
  end.gid = counting<16>(0x30);
  end.lid = 7, end.mtu = 5, end.ethernet = 1, end.reads = 16;
  return end;
}

inline constexpr std::array<RemotePiece, 2> kSampleRemotePieces = {
    RemotePiece{.address = 0x7f0011223344, .length = 65536, .key = 0x8899aabb},
    RemotePiece{.address = 0x7f0055667788, .length = 4464, .key = 0xccddeeff}};

/// A frame with two gets: one says where its bytes go, the other does not.
inline std::vector<std::byte> sample_placed_ops() {
  std::vector<std::byte> body(4096);
  OpsEncoder encoder(body, {.made_us = kMadeUsMax, .epoch = 1});
  (void)encoder.add({.kind = OpKind::kGet, .index = 0, .deadline_us = 1000, .length = 70000, .key = "far"}, {},
                    kSampleRemotePieces);
  (void)encoder.add({.kind = OpKind::kGet, .index = 1, .length = 100, .key = "near"}, {});
  body.resize(encoder.finish().size());
  return body;
}

inline void add_rdma_samples(std::vector<Sample>& all) {
  const auto add = [&](const char* name, FrameHeader header, std::span<const std::byte> body) {
    header.request_id = 27;
    all.push_back(make_sample(name, header, body));
  };
  add("rdma_connect", {.opcode = Opcode::kRdmaConnect}, encoded(sample_rdma_end()));
  add("rdma_accept", {.opcode = Opcode::kRdmaAccept}, encoded(sample_rdma_end()));
  add("taken", {.opcode = Opcode::kTaken, .sequence = 9}, encoded(Taken{12}));
  std::vector<std::byte> offer(64);
  offer.resize(encode_offer(kSampleRemotePieces, offer));
  add("offer", {.opcode = Opcode::kOffer, .sequence = 8}, offer);
  add("ops_placed", {.opcode = Opcode::kOps, .sequence = 2}, sample_placed_ops());
  uint64_t payload = 0;
  const auto reply = sample_reply(payload);
  add("reply_placed",
      {.opcode = Opcode::kReply, .flags = kFramePlaced, .payload_bytes = static_cast<uint32_t>(payload), .sequence = 3},
      reply);
}

inline std::vector<Sample> samples() {
  std::vector<Sample> all;
  add_handshake_samples(all);
  add_list_samples(all);
  add_rdma_samples(all);
  const auto add = [&](const char* name, Opcode opcode, uint64_t request_id, std::span<const std::byte> body,
                       uint64_t payload_bytes = 0) {
    const FrameHeader header{.opcode = opcode,
                             .payload_bytes = static_cast<uint32_t>(payload_bytes),
                             .request_id = request_id,
                             .sequence = 1};
    all.push_back(make_sample(name, header, body));
  };
  uint64_t payload = 0;
  const auto ops = sample_ops(payload);
  add("ops", Opcode::kOps, 20, ops, payload);
  const auto reply = sample_reply(payload);
  add("reply", Opcode::kReply, 20, reply, payload);
  add("introduce", Opcode::kIntroduce, 0, encoded(Introduce{counting<16>(0x50), 3}));
  add("welcome", Opcode::kWelcome, 0, encoded(sample_welcome()));
  add("credit", Opcode::kCredit, 0, encoded(Credit{12, 18, 256}));
  add("cancel", Opcode::kCancel, 24, encoded(Cancel{20, 3}));
  add("canceled", Opcode::kCanceled, 24, encoded(Cancel{20, 3}));
  add("ping", Opcode::kPing, 25, {});
  add("pong", Opcode::kPong, 25, encoded(Pong{0x123456789b}));
  add("consumed", Opcode::kConsumed, 0, encoded(Consumed{0x9876543210}));
  add("status", Opcode::kStatus, 26, {});
  add("status_reply", Opcode::kStatusReply, 26, std::as_bytes(std::span(std::string_view(R"({"ready":true})"))));
  add("worker_map", Opcode::kWorkerMap, 0, encoded(WorkerMap{2, 4, {1, 0, 1, 0}}));
  add("windows", Opcode::kWindows, 0, encoded(Windows{1 << 20, 1 << 19}));
  add("not_ready", Opcode::kNotReady, 0, {});
  add("ready", Opcode::kReady, 0, {});
  add("goodbye", Opcode::kGoodbye, 0, encoded(Goodbye{Status::kBusy, "too many connections"}));
  return all;
}

}  // namespace memkv::wire
