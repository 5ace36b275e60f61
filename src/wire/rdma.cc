/// The messages by which two NICs learn of each other, and of each other's memory.

#include "wire/codec.h"
#include "wire/messages.h"

namespace memkv::wire {
namespace {

constexpr uint32_t kNumberMax = 0xffffff;  // numbers of queue pairs and packets have 24 bits
constexpr uint8_t kMtuMax = 5;
constexpr uint32_t kMessageBytesLeast = 1024, kMessageBytesMost = 1 << 20;
constexpr uint16_t kReceivesLeast = 4;
constexpr size_t kOfferHeadBytes = 4;

}  // namespace

void store(const RemotePiece& remote_piece, std::byte* at) {
  base::store_u64(at, remote_piece.address);
  base::store_u32(at + 8, remote_piece.length);
  base::store_u32(at + 12, remote_piece.key);
}

RemotePiece load_remote_piece(const std::byte* at) {
  return {base::load_u64(at), base::load_u32(at + 8), base::load_u32(at + 12)};
}

size_t encode(const RdmaEnd& end, std::span<std::byte> out) {
  Writer to(out);
  to.u16(end.rail);
  to.u16(end.receives);
  to.u32(end.queue_pair);
  to.u32(end.first_packet);
  to.u32(end.message_bytes);
  to.array(end.gid);
  to.u16(end.lid);
  to.u8(end.mtu);
  to.u8(end.ethernet);
  to.u32(end.reads);
  return to.size();
}

Result<RdmaEnd> decode_rdma_end(std::span<const std::byte> body) {
  Reader in(body);
  RdmaEnd end;
  end.rail = in.u16();
  end.receives = in.u16();
  end.queue_pair = in.u32();
  end.first_packet = in.u32();
  end.message_bytes = in.u32();
  in.array(end.gid);
  end.lid = in.u16();
  end.mtu = in.u8();
  end.ethernet = in.u8();
  const uint32_t reads = in.u32();
  end.reads = static_cast<uint8_t>(reads);
  const bool sane = in.at_end() && end.queue_pair <= kNumberMax && end.first_packet <= kNumberMax &&
                    end.receives >= kReceivesLeast && end.message_bytes >= kMessageBytesLeast &&
                    end.message_bytes <= kMessageBytesMost && end.mtu >= 1 && end.mtu <= kMtuMax && end.ethernet <= 1 &&
                    reads >= 1 && reads <= UINT8_MAX;
  if (!sane) return malformed("rdma: malformed");
  return end;
}

size_t encode(const Taken& taken, std::span<std::byte> out) {
  Writer to(out);
  to.u64(taken.offers);
  return to.size();
}

Result<Taken> decode_taken(std::span<const std::byte> body) {
  Reader in(body);
  const Taken taken{in.u64()};
  if (!in.at_end()) return malformed("taken: bad length");
  return taken;
}

size_t encode_offer(std::span<const RemotePiece> remote_pieces, std::span<std::byte> out) {
  const size_t bytes = kOfferHeadBytes + remote_pieces.size() * kRemotePieceBytes;
  if (remote_pieces.empty() || remote_pieces.size() > kRemotePiecesPerOfferMax || out.size() < bytes) return 0;
  base::store_u32(out.data(), static_cast<uint32_t>(remote_pieces.size()));
  std::byte* at = out.data() + kOfferHeadBytes;
  for (const RemotePiece& remote_piece : remote_pieces) store(remote_piece, at), at += kRemotePieceBytes;
  return bytes;
}

Result<uint16_t> decode_offer(std::span<const std::byte> body, std::span<RemotePiece, kRemotePiecesPerOfferMax> out) {
  if (body.size() < kOfferHeadBytes) return malformed("offer: truncated");
  const uint32_t count = base::load_u32(body.data());
  if (count == 0 || count > kRemotePiecesPerOfferMax) return malformed("offer: bad count");
  if (body.size() != kOfferHeadBytes + count * kRemotePieceBytes) return malformed("offer: bad length");
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count; ++i) {
    out[i] = load_remote_piece(body.data() + kOfferHeadBytes + i * kRemotePieceBytes);
    if (!sane(out[i])) return malformed("offer: bad remote piece");
    bytes += out[i].length;
  }
  if (bytes > kPayloadBytesMax) return malformed("offer: more than a payload");
  return static_cast<uint16_t>(count);
}

}  // namespace memkv::wire
