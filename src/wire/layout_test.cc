/// Checks the offsets that stand in front of the fields in messages.h. Each field in turn is filled with ones; the
/// bytes that change in the encoded message must be those of the field.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "wire/messages.h"

namespace memkv::wire {
namespace {

using Bytes = std::vector<std::byte>;

/// Where two encodings differ: the first byte that differs, and how many bytes there are from it to the last one.
struct Place {
  size_t offset = 0;
  size_t bytes = 0;
  bool operator==(const Place&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Place& place) {
  return out << place.bytes << " bytes at " << place.offset;
}

Place difference(const Bytes& a, const Bytes& b) {
  EXPECT_EQ(a.size(), b.size());
  const auto first = std::mismatch(a.begin(), a.end(), b.begin()).first;
  const auto last = std::mismatch(a.rbegin(), a.rend(), b.rbegin()).first.base();
  return {static_cast<size_t>(first - a.begin()), static_cast<size_t>(last - first)};
}

template <typename Message>
Bytes encoded(const Message& message) {
  Bytes out(kBodyBytesMax);
  out.resize(encode(message, out));
  return out;
}

Bytes encoded(const FrameHeader& header) {
  Bytes out(kHeaderBytes);
  encode(header, std::span<std::byte, kHeaderBytes>(out));
  return out;
}

Bytes encoded(const RemotePiece& piece) {
  Bytes out(kRemotePieceBytes);
  store(piece, out.data());
  return out;
}

Bytes encoded(const OpsHeader& header) {
  Bytes out(kOpsHeaderBytes);
  OpsEncoder encoder(out, header);
  encoder.finish();
  return out;
}

/// The encoded op, without the header of the body.
Bytes encoded(const Op& op) {
  Bytes out(kBodyBytesMax);
  OpsEncoder encoder(out);
  EXPECT_TRUE(encoder.add(op, {}));
  const auto body = encoder.finish();
  return {body.begin() + kOpsHeaderBytes, body.end()};
}

Bytes encoded(const OpReply& reply) {
  Bytes out(kBodyBytesMax);
  ReplyEncoder encoder(out);
  EXPECT_TRUE(encoder.add(reply, {}));
  const auto body = encoder.finish();
  return {body.begin() + 2, body.end()};
}

/// Where a field lies: in one message all of its bytes are zero, in the other none is.
template <typename Message, typename Field>
Place place_of(Field Message::*field, uint64_t ones = ~uint64_t{0}) {
  Message low{}, high{};
  std::memset(static_cast<void*>(&(low.*field)), 0, sizeof(Field));
  if constexpr (sizeof(Field) > sizeof ones)
    std::memset(static_cast<void*>(&(high.*field)), 0xff, sizeof(Field));
  else
    std::memcpy(static_cast<void*>(&(high.*field)), &ones, sizeof(Field));
  return difference(encoded(low), encoded(high));
}

TEST(WireLayout, FrameHeader) {
  EXPECT_EQ(place_of(&FrameHeader::version), (Place{4, 1}));
  EXPECT_EQ(place_of(&FrameHeader::opcode), (Place{5, 1}));
  EXPECT_EQ(place_of(&FrameHeader::flags), (Place{6, 2}));
  EXPECT_EQ(place_of(&FrameHeader::body_bytes), (Place{8, 4}));
  EXPECT_EQ(place_of(&FrameHeader::payload_bytes), (Place{12, 4}));
  EXPECT_EQ(place_of(&FrameHeader::request_id), (Place{16, 8}));
  EXPECT_EQ(place_of(&FrameHeader::sequence), (Place{24, 8}));
  EXPECT_EQ(place_of(&FrameHeader::mac), (Place{32, 16}));
}

TEST(WireLayout, Ops) {
  EXPECT_EQ(place_of(&OpsHeader::made_us, kMadeUsMax), (Place{2, 6}));
  EXPECT_EQ(place_of(&OpsHeader::epoch), (Place{8, 8}));
  EXPECT_EQ(place_of(&Op::kind), (Place{0, 1}));
  EXPECT_EQ(place_of(&Op::flags), (Place{1, 1}));
  EXPECT_EQ(place_of(&Op::index), (Place{4, 2}));
  EXPECT_EQ(place_of(&Op::priority), (Place{6, 1}));
  EXPECT_EQ(place_of(&Op::deadline_us), (Place{8, 4}));
  EXPECT_EQ(place_of(&Op::length, 0x010101), (Place{12, 3})) << "at most a payload";
  EXPECT_EQ(place_of(&Op::offset), (Place{16, 8}));
  EXPECT_EQ(place_of(&Op::generation), (Place{24, 8}));
  EXPECT_EQ(place_of(&Op::expiry_s), (Place{32, 4}));
  EXPECT_EQ(place_of(&RemotePiece::address), (Place{0, 8}));
  EXPECT_EQ(place_of(&RemotePiece::length), (Place{8, 4}));
  EXPECT_EQ(place_of(&RemotePiece::key), (Place{12, 4}));
}

TEST(WireLayout, WhatAnOpIsFollowedBy) {
  const std::array<uint64_t, 1> sum = {~uint64_t{0}};
  const std::array<RemotePiece, 1> piece = {RemotePiece{~uint64_t{0}, ~uint32_t{0}, ~uint32_t{0}}};
  Bytes out(4096);
  OpsEncoder encoder(out);
  ASSERT_TRUE(encoder.add({.kind = OpKind::kChunk, .chunk_number = ~uint32_t{0}, .key = "key"}, sum, piece));
  const Bytes body(out.begin() + kOpsHeaderBytes, out.begin() + static_cast<ptrdiff_t>(encoder.finish().size()));
  ASSERT_EQ(body.size(), 40u + 3 + 8 + 16);
  EXPECT_EQ(body[2], std::byte{3}) << "length of the key";
  EXPECT_EQ(body[32], std::byte{0xff}) << "the chunk's number";
  EXPECT_EQ(body[36], std::byte{1}) << "number of sums";
  EXPECT_EQ(body[38], std::byte{1}) << "number of remote pieces";
  EXPECT_EQ(std::memcmp(body.data() + 40, "key", 3), 0);
  EXPECT_TRUE(std::all_of(body.begin() + 43, body.end(), [](std::byte b) { return b == std::byte{0xff}; }));
}

TEST(WireLayout, Reply) {
  EXPECT_EQ(place_of(&OpReply::index), (Place{0, 2}));
  EXPECT_EQ(place_of(&OpReply::status), (Place{2, 1}));
  EXPECT_EQ(place_of(&OpReply::flags), (Place{3, 1}));
  EXPECT_EQ(place_of(&OpReply::payload_bytes, 0x010101), (Place{4, 3})) << "at most a payload";
  EXPECT_EQ(place_of(&OpReply::generation), (Place{8, 8}));
  EXPECT_EQ(place_of(&OpReply::block_bytes), (Place{16, 8}));
  EXPECT_EQ(place_of(&OpReply::expiry_s), (Place{28, 4}));

  const std::array<uint64_t, 1> sum = {~uint64_t{0}};
  Bytes out(4096);
  ReplyEncoder encoder(out);
  ASSERT_TRUE(encoder.add(OpReply{}, sum));
  ASSERT_EQ(encoder.finish().size(), 2u + 32 + 8);
  EXPECT_EQ(out[2 + 24], std::byte{1}) << "number of sums";
  EXPECT_EQ(out[2 + 32], std::byte{0xff}) << "the sum";
}

TEST(WireLayout, OpeningAConnection) {
  EXPECT_EQ(place_of(&Hello::version_min), (Place{0, 2}));
  EXPECT_EQ(place_of(&Hello::version_max), (Place{2, 2}));
  EXPECT_EQ(place_of(&Hello::features), (Place{4, 4}));
  EXPECT_EQ(place_of(&Hello::transport), (Place{8, 1}));
  EXPECT_EQ(place_of(&Hello::wanted_worker), (Place{10, 2}));
  EXPECT_EQ(place_of(&Hello::key_id), (Place{12, 8}));
  EXPECT_EQ(place_of(&Hello::nonce), (Place{20, 32}));
  EXPECT_EQ(encoded(Hello{}).size(), 52u + 2);
  EXPECT_EQ(place_of(&HelloReply::version), (Place{0, 2}));
  EXPECT_EQ(place_of(&HelloReply::features), (Place{4, 4}));
  EXPECT_EQ(place_of(&HelloReply::nonce), (Place{8, 32}));
  EXPECT_EQ(place_of(&HelloReply::proof), (Place{40 + 2, 32})) << "behind a name of no bytes";
  EXPECT_EQ(place_of(&Proof::proof), (Place{0, 32}));
  EXPECT_EQ(place_of(&Introduce::client_id), (Place{0, 16}));
  EXPECT_EQ(place_of(&Introduce::epoch), (Place{16, 8}));
}

TEST(WireLayout, Welcome) {
  EXPECT_EQ(place_of(&Welcome::boot_id), (Place{0, 16}));
  EXPECT_EQ(place_of(&Welcome::store_id), (Place{16, 16}));
  EXPECT_EQ(place_of(&Welcome::namespace_id), (Place{32, 8}));
  EXPECT_EQ(place_of(&Welcome::shard_seed), (Place{40, 8}));
  EXPECT_EQ(place_of(&Welcome::block_bytes_max), (Place{48, 8}));
  EXPECT_EQ(place_of(&Welcome::worker), (Place{56, 2}));
  EXPECT_EQ(place_of(&Welcome::worker_count), (Place{58, 2}));
  EXPECT_EQ(place_of(&Welcome::credit), (Place{60, 6}));
  EXPECT_EQ(place_of(&Welcome::ready), (Place{66, 1}));
  EXPECT_EQ(place_of(&Welcome::shard_count), (Place{67, 1}));
  EXPECT_EQ(place_of(&Welcome::worker_of_shard), (Place{68, 32}));
  EXPECT_EQ(place_of(&Welcome::now_ns), (Place{100, 8}));
  EXPECT_EQ(place_of(&Credit::puts), (Place{0, 2}));
  EXPECT_EQ(place_of(&Credit::gets), (Place{2, 2}));
  EXPECT_EQ(place_of(&Credit::ops), (Place{4, 2}));
}

TEST(WireLayout, SmallMessages) {
  EXPECT_EQ(place_of(&Pong::now_ns), (Place{0, 8}));
  EXPECT_EQ(place_of(&Consumed::payload_bytes), (Place{0, 8}));
  EXPECT_EQ(place_of(&Cancel::request_id), (Place{0, 8}));
  EXPECT_EQ(place_of(&Cancel::op_index), (Place{8, 2}));
  EXPECT_EQ(place_of(&Windows::get_ring_bytes), (Place{0, 8}));
  EXPECT_EQ(place_of(&Windows::put_ring_bytes), (Place{8, 8}));
  EXPECT_EQ(place_of(&WorkerMap::worker_count), (Place{0, 2}));
  EXPECT_EQ(place_of(&WorkerMap::shard_count), (Place{2, 1}));
  EXPECT_EQ(place_of(&WorkerMap::worker_of_shard), (Place{3, 32}));
  EXPECT_EQ(place_of(&Goodbye::status), (Place{0, 1}));
  EXPECT_EQ(encoded(Goodbye{.text = "text"}).size(), 1u + 4);
  EXPECT_EQ(place_of(&Taken::offers), (Place{0, 8}));
  EXPECT_EQ(place_of(&List::cursor), (Place{0, 8}));
  EXPECT_EQ(place_of(&List::limit), (Place{8, 4}));
}

TEST(WireLayout, Rdma) {
  EXPECT_EQ(place_of(&RdmaEnd::rail), (Place{0, 2}));
  EXPECT_EQ(place_of(&RdmaEnd::receives), (Place{2, 2}));
  EXPECT_EQ(place_of(&RdmaEnd::queue_pair), (Place{4, 4}));
  EXPECT_EQ(place_of(&RdmaEnd::first_packet), (Place{8, 4}));
  EXPECT_EQ(place_of(&RdmaEnd::message_bytes), (Place{12, 4}));
  EXPECT_EQ(place_of(&RdmaEnd::gid), (Place{16, 16}));
  EXPECT_EQ(place_of(&RdmaEnd::lid), (Place{32, 2}));
  EXPECT_EQ(place_of(&RdmaEnd::mtu), (Place{34, 1}));
  EXPECT_EQ(place_of(&RdmaEnd::ethernet), (Place{35, 1}));
  EXPECT_EQ(place_of(&RdmaEnd::reads), (Place{36, 1}));
  EXPECT_EQ(encoded(RdmaEnd{}).size(), 40u);
}

TEST(WireLayout, Listed) {
  Bytes out(4096);
  ListReplyEncoder encoder(out);
  ASSERT_TRUE(encoder.add({.generation = 1, .block_bytes = 2, .key = "key"}));
  const Bytes body(out.begin(), out.begin() + static_cast<ptrdiff_t>(encoder.finish(3).size()));
  ASSERT_EQ(body.size(), 12u + 16 + 2 + 3);
  EXPECT_EQ(body[0], std::byte{3}) << "the next cursor";
  EXPECT_EQ(body[8], std::byte{1}) << "number of items";
  EXPECT_EQ(body[12], std::byte{1}) << "generation";
  EXPECT_EQ(body[20], std::byte{2}) << "bytes of the block";
  EXPECT_EQ(body[28], std::byte{3}) << "length of the key";
}

}  // namespace
}  // namespace memkv::wire
