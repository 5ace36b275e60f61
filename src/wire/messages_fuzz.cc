/// Fuzzes the decoder of every frame's body; the opcode of the frame chooses it. What a decoder accepts is read to its
/// last byte, encoded anew, and must decode to the same.

#include <cstring>
#include <vector>

#include "base/assert.h"
#include "wire/messages.h"

using namespace memkv;
using namespace memkv::wire;

namespace {

using Body = std::span<const std::byte>;

uint64_t seen = 0;  // uses what was read, so that no read is optimized away
void see(uint64_t value) { seen ^= value; }
void see(std::string_view text) {
  for (const char c : text) see(static_cast<uint64_t>(c));
}

/// The ops of a valid body, encoded anew. Empty: the body is not valid.
std::vector<std::byte> rewrite_ops(Body body, uint32_t payload_bytes) {
  OpsDecoder decoder(body);
  const auto count = decoder.validate(payload_bytes);
  if (!count) return {};
  std::vector<std::byte> again(kBodyBytesMax);
  OpsEncoder encoder(again, decoder.header());
  Op op;
  while (decoder.next(op)) {
    std::vector<uint64_t> sums;
    for (size_t i = 0; i < op.sum_count; i++) sums.push_back(op.sum(i));
    std::vector<RemotePiece> remote_pieces;
    for (size_t i = 0; i < op.remote_piece_count; i++) remote_pieces.push_back(op.remote_piece(i));
    see(op.key);
    MEMKV_ASSERT(encoder.add(op, sums, remote_pieces), "what was decoded can be encoded");
  }
  MEMKV_ASSERT(encoder.count() == *count && encoder.payload_bytes() == payload_bytes);
  again.resize(encoder.finish().size());
  return again;
}

void see_ops(Body body, uint32_t payload_bytes) {
  const auto once = rewrite_ops(body, payload_bytes);
  if (!once.empty()) MEMKV_ASSERT(once == rewrite_ops(once, payload_bytes));
}

void see_replies(Body body, uint32_t payload_bytes) {
  ReplyDecoder decoder(body);
  const auto count = decoder.validate(payload_bytes);
  if (!count) return;
  OpReply reply;
  uint32_t replies = 0;
  while (decoder.next(reply)) {
    for (size_t i = 0; i < reply.sum_count; i++) see(reply.sum(i));
    replies++;
  }
  MEMKV_ASSERT(replies == *count);
}

void see_exists(Body body) {
  ExistsDecoder decoder(body);
  const auto count = decoder.validate();
  if (!count) return;
  std::string_view key;
  uint32_t keys = 0;
  for (; decoder.next(key); keys++) see(key);
  MEMKV_ASSERT(keys == *count);
}

void see_offer(Body body) {
  std::array<RemotePiece, kRemotePiecesPerOfferMax> remote_pieces;
  const auto count = decode_offer(body, remote_pieces);
  if (!count) return;
  std::vector<std::byte> again(body.size());
  MEMKV_ASSERT(encode_offer(std::span(remote_pieces).first(*count), again) == body.size());
  MEMKV_ASSERT(std::equal(again.begin(), again.begin() + 2, body.begin()));
}

void see_list_reply(Body body) {
  ListReplyDecoder decoder(body);
  const auto count = decoder.validate();
  if (!count) return;
  ListItem item;
  uint32_t items = 0;
  for (; decoder.next(item); items++) see(item.key);
  MEMKV_ASSERT(items == *count);
}

/// Messages of a fixed layout. A value that this version does not know (a status, say) may change when it is encoded
/// anew, but only the first time.
template <typename Decoded>
void see_plain(const Decoded& decoded, Decoded (*decode)(Body)) {
  if (!decoded) return;
  std::vector<std::byte> once(kBodyBytesMax), twice(kBodyBytesMax);
  once.resize(encode(*decoded, once));
  const Decoded again = decode(once);
  MEMKV_ASSERT(again.ok(), "what is encoded can be decoded");
  twice.resize(encode(*again, twice));
  MEMKV_ASSERT(once == twice);
}

void see_body(const FrameHeader& header, Body body) {
  switch (header.opcode) {
    case Opcode::kHello:
      return see_plain(decode_hello(body), decode_hello);
    case Opcode::kHelloReply:
      return see_plain(decode_hello_reply(body), decode_hello_reply);
    case Opcode::kProof:
      return see_plain(decode_proof(body), decode_proof);
    case Opcode::kIntroduce:
      return see_plain(decode_introduce(body), decode_introduce);
    case Opcode::kWelcome:
      return see_plain(decode_welcome(body), decode_welcome);
    case Opcode::kOps:
      return see_ops(body, header.payload_bytes);
    case Opcode::kReply:
      return see_replies(body, header.payload_bytes);
    case Opcode::kExists:
      return see_exists(body);
    case Opcode::kExistsReply:
      if (const auto reply = decode_exists_reply(body)) see(static_cast<uint64_t>(reply->bits.size()));
      return;
    case Opcode::kCredit:
      return see_plain(decode_credit(body), decode_credit);
    case Opcode::kPong:
      return see_plain(decode_pong(body), decode_pong);
    case Opcode::kConsumed:
      return see_plain(decode_consumed(body), decode_consumed);
    case Opcode::kCancel:
    case Opcode::kCanceled:
      return see_plain(decode_cancel(body), decode_cancel);
    case Opcode::kList:
      return see_plain(decode_list(body), decode_list);
    case Opcode::kListReply:
      return see_list_reply(body);
    case Opcode::kRdmaConnect:
    case Opcode::kRdmaAccept:
      return see_plain(decode_rdma_end(body), decode_rdma_end);
    case Opcode::kTaken:
      return see_plain(decode_taken(body), decode_taken);
    case Opcode::kOffer:
      return see_offer(body);
    case Opcode::kWindows:
      return see_plain(decode_windows(body), decode_windows);
    case Opcode::kWorkerMap:
      return see_plain(decode_worker_map(body), decode_worker_map);
    case Opcode::kGoodbye:
      return see_plain(decode_goodbye(body), decode_goodbye);
    default:
      return;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < kHeaderBytes || size > kHeaderBytes + kBodyBytesMax) return 0;
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  const auto header = decode_header(bytes.first<kHeaderBytes>());
  if (!header) return 0;
  std::array<std::byte, kHeaderBytes> again;
  encode(*header, again);
  MEMKV_ASSERT(std::memcmp(again.data(), data, kHeaderBytes) == 0, "a header that is accepted is written the same");
  // The body in memory of exactly its size, so that a sanitizer sees a read past the end.
  const std::vector<std::byte> body(bytes.begin() + kHeaderBytes, bytes.end());
  see_body(*header, body);
  return 0;
}
