#pragma once
/// Messages of the wire protocol (docs/wire-protocol.md): plain structs, encode and decode as pure functions over
/// bytes.
///
/// The number in front of a field is its offset in the message; layout_test.cc checks each. Bytes between two fields are
/// zero. Text is a length of 2 bytes and then its bytes, unless it is said otherwise.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/siphash.h"
#include "base/sizes.h"
#include "memkv/error.h"
#include "memkv/types.h"

namespace memkv::wire {

inline constexpr uint32_t kMagic = 0x31564b4d;  // "MKV1"
inline constexpr uint8_t kVersionMin = 2, kVersionMax = 2;
inline constexpr uint32_t kHeaderBytes = 48;
inline constexpr uint32_t kBodyBytesMax = 256 * 1024;
inline constexpr uint32_t kPayloadBytesMax = 2 * 1024 * 1024;
inline constexpr uint32_t kHelloBytesMax = 4096;  ///< whole frame, before WELCOME
inline constexpr uint32_t kOpsPerFrameMax = 512;
inline constexpr uint32_t kKeysPerExistsMax = 16384;    ///< and what fits kBodyBytesMax
inline constexpr uint32_t kEagerBytesMax = 64 * 1024;   ///< put payloads without credit in flight on a connection
inline constexpr uint32_t kEagerPayloadMax = 8 * 1024;  ///< payloads up to here need no credit, but for their op
/// What a payload takes of the credit, which is counted in grains: as many as it begins.
constexpr uint32_t credit_grains(uint32_t payload_bytes) {
  return static_cast<uint32_t>((payload_bytes + base::kGrainBytes - 1) / base::kGrainBytes);
}
inline constexpr uint16_t kAnyWorker = 0xffff;
inline constexpr uint32_t kSumsMax = 33;  ///< a 2 MiB range that starts inside a grain touches 33
inline constexpr uint64_t kOffsetMax = UINT32_MAX * kChunkBytesMax;  ///< in a block: chunk numbers are 32 bits

enum class Opcode : uint8_t {
  kHello = 1,
  kHelloReply = 2,
  kProof = 3,
  kWelcome = 4,
  kIntroduce = 5,
  kOps = 16,
  kReply = 17,
  kExists = 18,
  kExistsReply = 19,
  kCredit = 20,
  kCancel = 24,
  kCanceled = 25,
  kPing = 26,
  kPong = 27,
  kStatus = 28,
  kStatusReply = 29,
  kRegionAdd = 30,
  kRegionDrop = 31,
  kList = 32,
  kListReply = 33,
  kWorkerMap = 34,
  kWindows = 36,
  kNotReady = 40,
  kReady = 41,
  kGoodbye = 42,
  kRdmaConnect = 50,
  kRdmaAccept = 51,
  kOffer = 52,
  kTaken = 53,
  kConsumed = 54,
};
/// What an end can do beyond the version: it offers these in HELLO, and what both have is used.
enum Features : uint32_t {
  /// Over tcp it says what it has received (CONSUMED), and understands it when the peer says so.
  kFeatureConsumed = 1,
};
inline constexpr uint32_t kFeatures = kFeatureConsumed;  ///< all of this build
/// A peer with kFeatureConsumed tells of a payload of this size or more at the latest when it is complete.
inline constexpr uint32_t kReportedPayloadMin = 32 * 1024;
enum FrameFlags : uint16_t {
  /// REPLY over rdma: the payload was written where the ops' remote pieces said, and does not follow.
  kFramePlaced = 1,
};

/// In front of every frame, 48 bytes: at 0 the magic, 4 bytes.
struct FrameHeader {
  /*  4 */ uint8_t version = kVersionMax;
  /*  5 */ Opcode opcode{};
  /*  6 */ uint16_t flags = 0;
  /*  8 */ uint32_t body_bytes = 0;
  /* 12 */ uint32_t payload_bytes = 0;
  /* 16 */ uint64_t request_id = 0;
  /* 24 */ uint64_t sequence = 0;
  /* 32 */ std::array<uint8_t, 16> mac{};
};

void encode(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out);
/// kInvalid: bad magic, unknown opcode, lengths over the limits. Nothing is trusted before its MAC.
Result<FrameHeader> decode_header(std::span<const std::byte, kHeaderBytes> bytes);
/// MAC over the header (MAC field zero) and the body.
std::array<uint8_t, 16> make_mac(const base::SipKey& key, const FrameHeader& header, std::span<const std::byte> body);
bool check_mac(const base::SipKey& key, const FrameHeader& header, std::span<const std::byte> body);

enum class OpKind : uint8_t {
  kGet = 1,
  kPut = 2,
  kWrite = 3,
  kBegin = 4,
  kChunk = 5,
  kCommit = 6,
  kAbort = 7,
  kRemove = 8,
  kTouch = 9,
  kStat = 10,
  kFlush = 11,
  kSuspect = 12,
  kPin = 13,
};
enum OpFlags : uint8_t {
  kOpIfAbsent = 1,
  kOpChained = 2,  ///< starts after the previous op of the frame is done (and fails with kCanceled if that failed)
  kOpVerify = 4,   ///< get: the server verifies all bytes itself
  kOpServerChecksum = 8,  ///< put, chunk, write: carries no sums
  kOpRangeWrite = 16,     ///< begin: a range write, chunks may be partial
};
/// True for kinds whose `length` bytes follow as payload.
constexpr bool has_payload(OpKind k) { return k == OpKind::kPut || k == OpKind::kWrite || k == OpKind::kChunk; }
/// True for kinds that change what gets are answered with. (The chunks of an upload do not, its commit does.)
constexpr bool is_change(OpKind k) {
  return k == OpKind::kPut || k == OpKind::kWrite || k == OpKind::kCommit || k == OpKind::kRemove ||
         k == OpKind::kFlush;
}

inline constexpr uint32_t kRemotePiecesPerOpMax = 8;
inline constexpr uint32_t kRemotePiecesPerOfferMax = 64;
inline constexpr uint32_t kRemotePieceBytes = 16;
/// A piece of the sender's memory that the receiver's NIC may read (OFFER) or write (get). 16 bytes.
struct RemotePiece {
  /*  0 */ uint64_t address = 0;
  /*  8 */ uint32_t length = 0;
  /* 12 */ uint32_t key = 0;
};

inline constexpr size_t kOpsHeaderBytes = 16;
/// What an OPS body begins with, 16 bytes: at 0 the op count, 2 bytes; made_us has 6.
struct OpsHeader {
  /// When the frame was made, on the *server's* clock as the client knows it: never later than it really was (WELCOME
  /// and PONG tell the client). The deadlines of the ops count from here, however long the frame is on its way.
  /*  2 */ uint64_t made_us = 0;
  /// Of the client: raised whenever it gives up a change that a server may still have before it. A server that has
  /// seen a higher one does no change of a lower one any more; it answers kBusy with kReplyFenced.
  /*  8 */ uint64_t epoch = 0;
};
inline constexpr uint64_t kMadeUsMax = (uint64_t{1} << 48) - 1;

/// One op of an OPS frame: 40 bytes, then the key, the sums and the remote pieces. At 2 the length of the key, 2 bytes.
struct Op {
  /*  0 */ OpKind kind{};
  /*  1 */ uint8_t flags = 0;
  /*  4 */ uint16_t index = 0;  ///< names the op in replies; unique in its frame
  /*  6 */ uint8_t priority = 0;
  /// Time left when the frame was made; 0 = the server's own limit, from its arrival.
  /*  8 */ uint32_t deadline_us = 0;
  /* 12 */ uint32_t length = 0;  ///< payload bytes, or the range's length of a get
  /// get, write, suspect: in the block. begin: block bytes (put), or the end of the range (write). chunk: in the chunk.
  /* 16 */ uint64_t offset = 0;
  /* 24 */ uint64_t generation = 0;    ///< get: if_generation; chunk, commit, abort: upload id
  /* 32 */ uint32_t chunk_number = 0;  ///< chunk
  /* 32 */ uint32_t expiry_s = 0;      ///< put, begin: reserved
  std::string_view key;                ///< borrowed from the frame's body; empty for chunk, commit, abort, flush
  /* 36 */ uint16_t sum_count = 0;
  const std::byte* sums = nullptr;          ///< sum_count * 8 bytes, unaligned, borrowed from the body
  /* 38 */ uint8_t remote_piece_count = 0;  ///< get over rdma: where its bytes go; together as long as the range
  const std::byte* remote_pieces = nullptr;
  uint64_t sum(size_t i) const;
  RemotePiece remote_piece(size_t i) const;
};

/// One reply of a REPLY frame: 32 bytes, then the sums. The body begins with the number of replies, 2 bytes.
struct OpReply {
  /*  0 */ uint16_t index = 0;
  /*  2 */ Status status = Status::kInternal;
  /*  3 */ uint8_t flags = 0;  ///< ReplyFlags
  /*  4 */ uint32_t payload_bytes = 0;
  /*  8 */ uint64_t generation = 0;  ///< begin: the upload id
  /* 16 */ uint64_t block_bytes = 0;
  /* 28 */ uint32_t expiry_s = 0;
  /* 24 */ uint16_t sum_count = 0;
  const std::byte* sums = nullptr;
  uint64_t sum(size_t i) const;
};
enum ReplyFlags : uint8_t {
  kReplyWholeChunk = 1,
  kReplyHasHoles = 2,
  kReplyFenced = 4,  ///< with kBusy: not done, since the client has begun a newer epoch meanwhile
};

/// Appends to a caller's buffer; false: no room left, of ops, bytes or payload (the frame is full: send it and start
/// another).
class OpsEncoder {
 public:
  explicit OpsEncoder(std::span<std::byte> body, const OpsHeader& header = {});
  bool add(const Op& op, std::span<const uint64_t> sums, std::span<const RemotePiece> remote_pieces = {});
  uint16_t count() const;
  std::span<const std::byte> finish();  ///< the body
  uint64_t payload_bytes() const;       ///< sum of payloads of the ops added
 private:
  std::span<std::byte> body_;
  size_t used_;
  uint16_t count_ = 0;
  uint64_t payload_ = 0;
};
/// The same for replies.
class ReplyEncoder {
 public:
  explicit ReplyEncoder(std::span<std::byte> body);
  bool add(const OpReply& reply, std::span<const uint64_t> sums);
  uint16_t count() const;
  std::span<const std::byte> finish();
  uint64_t payload_bytes() const;

 private:
  std::span<std::byte> body_;
  size_t used_;
  uint16_t count_ = 0;
  uint64_t payload_ = 0;
};
/// Walks a body: next() gives ops until the end. What they hold may be relied upon only after validate().
class OpsDecoder {
 public:
  explicit OpsDecoder(std::span<const std::byte> body);
  /// The op count, or kInvalid. Looks at the whole body: known kinds and flags, unique indexes below kOpsPerFrameMax,
  /// keys of 1..1024 bytes where the kind has one, ranges inside one chunk, as many sums as the range has grain pieces
  /// (none with kOpServerChecksum), payload lengths that add up to the frame's.
  Result<uint16_t> validate(uint32_t payload_bytes) const;
  OpsHeader header() const;
  bool next(Op& out);

 private:
  std::span<const std::byte> body_;
  size_t at_ = kOpsHeaderBytes;
  uint16_t left_ = 0;
};
class ReplyDecoder {
 public:
  explicit ReplyDecoder(std::span<const std::byte> body);
  /// The reply count, or kInvalid: indexes unique and below kOpsPerFrameMax, payload lengths that add up to the
  /// frame's. That an op was asked for, and its number of sums, is the caller's to check.
  Result<uint16_t> validate(uint32_t payload_bytes) const;
  bool next(OpReply& out);

 private:
  std::span<const std::byte> body_;
  size_t at_ = 2;
  uint16_t left_ = 0;
};

/// EXISTS: u8 touch, 3 zero, u32 count, then per key u16 length and bytes. Its reply: u32 count, then the bits (i is in
/// byte i / 8).
class ExistsEncoder {
 public:
  ExistsEncoder(std::span<std::byte> body, bool touch);
  bool add(std::string_view key);
  uint32_t count() const;
  std::span<const std::byte> finish();

 private:
  std::span<std::byte> body_;
  size_t used_;
  uint32_t count_ = 0;
};
class ExistsDecoder {
 public:
  explicit ExistsDecoder(std::span<const std::byte> body);
  Result<uint32_t> validate() const;
  bool touch() const;
  bool next(std::string_view& key);

 private:
  std::span<const std::byte> body_;
  size_t at_ = 8;
  uint32_t left_ = 0;
};
size_t encode_exists_reply(std::span<const uint8_t> bits, uint32_t count, std::span<std::byte> out);
struct ExistsReply {
  uint32_t count = 0;
  std::span<const std::byte> bits;
};
Result<ExistsReply> decode_exists_reply(std::span<const std::byte> body);

inline constexpr uint8_t kTransportTcp = 0, kTransportShm = 1, kTransportRdma = 2;
struct Hello {
  /*  0 */ uint16_t version_min = kVersionMin;
  /*  2 */ uint16_t version_max = kVersionMax;
  /*  4 */ uint32_t features = 0;
  /*  8 */ uint8_t transport = kTransportTcp;
  /* 10 */ uint16_t wanted_worker = kAnyWorker;
  /* 12 */ std::array<uint8_t, 8> key_id{};
  /* 20 */ std::array<uint8_t, 32> nonce{};
  /* 52 */ std::string_view client_name;  ///< at most 256 bytes
};
struct HelloReply {
  /*  0 */ uint16_t version = kVersionMax;
  /*  4 */ uint32_t features = 0;
  /*  8 */ std::array<uint8_t, 32> nonce{};
  /* 40 */ std::string_view server_name;  ///< at most 256 bytes; may be empty
  std::array<uint8_t, 32> proof{};        ///< last 32 bytes of the body
};
struct Proof {
  /*  0 */ std::array<uint8_t, 32> proof{};
};
/// INTRODUCE: which client this connection belongs to, before the server welcomes it.
struct Introduce {
  /*  0 */ std::array<uint8_t, 16> client_id{};  ///< random, one for each client process
  /* 16 */ uint64_t epoch = 0;                   ///< the client's present one (OpsHeader)
};
/// What a client may have under way on a connection, each at least 1.
struct Credit {
  /*  0 */ uint16_t puts = 1;  ///< payloads of puts without a reply, in grains
                               /// Bytes that gets above kEagerPayloadMax without a reply ask for, in grains.
  /*  2 */ uint16_t gets = 1;
  /*  4 */ uint16_t ops = 1;  ///< ops of OPS frames without a reply
  bool operator==(const Credit&) const = default;
};
struct Welcome {
  /*  0 */ std::array<uint8_t, 16> boot_id{};
  /* 16 */ std::array<uint8_t, 16> store_id{};
  /* 32 */ uint64_t namespace_id = 0;
  /* 40 */ uint64_t shard_seed = 0;
  /* 48 */ uint64_t block_bytes_max = 0;
  /* 56 */ uint16_t worker = 0;  ///< the one that this connection belongs to
  /* 58 */ uint16_t worker_count = 1;
  /* 60 */ Credit credit;
  /* 66 */ uint8_t ready = 0;
  /* 67 */ uint8_t shard_count = 1;  ///< 1..32
  /* 68 */ std::array<uint8_t, 32> worker_of_shard{};
  /* 100 */ uint64_t now_ns = 0;  ///< the server's clock, read after INTRODUCE had come
};
/// CONSUMED: all payload bytes that have been copied out of the socket since the connection began. Never less than was
/// said before, never more than was sent.
struct Consumed {
  /*  0 */ uint64_t payload_bytes = 0;
};
/// PONG.
struct Pong {
  /*  0 */ uint64_t now_ns = 0;  ///< the sender's clock, read after the PING that it answers had come
};
/// CANCEL and CANCELED.
struct Cancel {
  /*  0 */ uint64_t request_id = 0;
  /*  8 */ uint16_t op_index = 0;
};
/// WINDOWS: the rings of a shm connection (docs/shm.md). Comes with their two descriptors.
struct Windows {
  /*  0 */ uint64_t get_ring_bytes = 0;  ///< server to client; a power of two
  /*  8 */ uint64_t put_ring_bytes = 0;  ///< client to server; a power of two
};
inline constexpr uint64_t kRingBytesMin = 4096, kRingBytesMax = 1u << 30;
struct WorkerMap {
  /*  0 */ uint16_t worker_count = 1;
  /*  2 */ uint8_t shard_count = 1;
  /*  3 */ std::array<uint8_t, 32> worker_of_shard{};
};
struct Goodbye {
  /*  0 */ Status status = Status::kOk;
  /*  1 */ std::string_view text;  ///< up to the body's end; any bytes: clean before it is shown
};
/// RDMA_CONNECT and RDMA_ACCEPT: one end of a queue pair. 40 bytes.
struct RdmaEnd {
  /*  0 */ uint16_t rail = 0;      ///< the client's number of it
  /*  2 */ uint16_t receives = 0;  ///< posted at once, each of message_bytes
  /*  4 */ uint32_t queue_pair = 0;
  /*  8 */ uint32_t first_packet = 0;  ///< sequence number, 24 bits, random
  /* 12 */ uint32_t message_bytes = 0;
  /* 16 */ std::array<uint8_t, 16> gid{};
  /* 32 */ uint16_t lid = 0;
  /* 34 */ uint8_t mtu = 1;  ///< 1 = 256 bytes ... 5 = 4096
  /* 35 */ uint8_t ethernet = 1;
  /* 36 */ uint8_t reads = 1;  ///< that may be under way at a time
};
/// TAKEN: how many OFFERs since the beginning need their memory no more.
struct Taken {
  /*  0 */ uint64_t offers = 0;
};
struct List {
  /*  0 */ uint64_t cursor = 0;
  /*  8 */ uint32_t limit = 0;
};
struct ListItem {
  /*  0 */ uint64_t generation = 0;
  /*  8 */ uint64_t block_bytes = 0;
  /* 16 */ std::string_view key;
};

/// Bytes written; 0 if `out` is too small.
size_t encode(const Hello&, std::span<std::byte> out);
size_t encode(const HelloReply&, std::span<std::byte> out);
size_t encode(const Proof&, std::span<std::byte> out);
size_t encode(const Introduce&, std::span<std::byte> out);
size_t encode(const Welcome&, std::span<std::byte> out);
size_t encode(const Pong&, std::span<std::byte> out);
size_t encode(const Consumed&, std::span<std::byte> out);
size_t encode(const Cancel&, std::span<std::byte> out);
size_t encode(const Credit&, std::span<std::byte> out);
size_t encode(const Windows&, std::span<std::byte> out);
size_t encode(const WorkerMap&, std::span<std::byte> out);
size_t encode(const Goodbye&, std::span<std::byte> out);
size_t encode(const List&, std::span<std::byte> out);
size_t encode(const RdmaEnd&, std::span<std::byte> out);
size_t encode(const Taken&, std::span<std::byte> out);
/// OFFER: u32 count, then remote pieces: where the payload of the next frame lies.
size_t encode_offer(std::span<const RemotePiece> remote_pieces, std::span<std::byte> out);
void store(const RemotePiece& remote_piece, std::byte* at);
RemotePiece load_remote_piece(const std::byte* at);
Result<Hello> decode_hello(std::span<const std::byte> body);
Result<HelloReply> decode_hello_reply(std::span<const std::byte> body);
Result<Proof> decode_proof(std::span<const std::byte> body);
Result<Introduce> decode_introduce(std::span<const std::byte> body);
Result<Welcome> decode_welcome(std::span<const std::byte> body);
Result<Pong> decode_pong(std::span<const std::byte> body);
Result<Consumed> decode_consumed(std::span<const std::byte> body);
Result<Cancel> decode_cancel(std::span<const std::byte> body);
Result<Credit> decode_credit(std::span<const std::byte> body);
Result<Windows> decode_windows(std::span<const std::byte> body);
Result<WorkerMap> decode_worker_map(std::span<const std::byte> body);
Result<Goodbye> decode_goodbye(std::span<const std::byte> body);
Result<List> decode_list(std::span<const std::byte> body);
/// kInvalid: a queue pair that nobody could talk to, by its numbers.
Result<RdmaEnd> decode_rdma_end(std::span<const std::byte> body);
Result<Taken> decode_taken(std::span<const std::byte> body);
/// Checked: 1 to kRemotePiecesPerOfferMax remote pieces, none empty or wrapping. Returns how many are in `out`.
Result<uint16_t> decode_offer(std::span<const std::byte> body, std::span<RemotePiece, kRemotePiecesPerOfferMax> out);
/// LIST_REPLY: u64 next cursor, u32 count, items. Encoder appends like the others.
class ListReplyEncoder {
 public:
  explicit ListReplyEncoder(std::span<std::byte> body);
  bool add(const ListItem& item);
  std::span<const std::byte> finish(uint64_t next_cursor);

 private:
  std::span<std::byte> body_;
  size_t used_;
  uint32_t count_ = 0;
};
class ListReplyDecoder {
 public:
  explicit ListReplyDecoder(std::span<const std::byte> body);
  Result<uint32_t> validate() const;
  uint64_t next_cursor() const;
  bool next(ListItem& out);

 private:
  std::span<const std::byte> body_;
  size_t at_ = 12;
  uint32_t left_ = 0;
};

uint32_t shard_of(std::string_view key, uint64_t shard_seed, uint64_t namespace_id, uint32_t shard_count);

}  // namespace memkv::wire
