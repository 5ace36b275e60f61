#pragma once
/// Messages of the wire protocol (docs/wire-protocol.md): plain structs, encode and decode as pure functions over
/// bytes.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/siphash.h"
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
inline constexpr uint32_t kCreditUnit = 64 * 1024;      ///< what credit counts: a payload takes as many as it begins
constexpr uint32_t credit_units(uint32_t payload_bytes) { return (payload_bytes + kCreditUnit - 1) / kCreditUnit; }
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
};
enum FrameFlags : uint16_t {
  kFramePlaced =
      1,  ///< REPLY over rdma: the payload was written where the ops' remote pieces said, and does not follow
};

struct FrameHeader {
  uint8_t version = kVersionMax;
  Opcode opcode{};
  uint16_t flags = 0;
  uint32_t body_bytes = 0;
  uint32_t payload_bytes = 0;
  uint64_t request_id = 0;
  uint64_t sequence = 0;
  std::array<uint8_t, 16> mac{};
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
/// A piece of the sender's memory that the receiver's NIC may read (OFFER) or write (get): 0 address 8 · 8 length 4 ·
/// 12 remote key 4.
struct RemotePiece {
  uint64_t address = 0;
  uint32_t length = 0;
  uint32_t key = 0;
};

inline constexpr size_t kOpsHeaderBytes = 16;
/// What an OPS body begins with: 0 op count 2 · 2 made_us 6 · 8 epoch 8.
struct OpsHeader {
  /// When the frame was made, on the *server's* clock as the client knows it: never later than it really was (WELCOME
  /// and PONG tell the client). The deadlines of the ops count from here, however long the frame is on its way.
  uint64_t made_us = 0;
  /// Of the client: raised whenever it gives up a change that a server may still have before it. A server that has
  /// seen a higher one does no change of a lower one any more; it answers kBusy with kReplyFenced.
  uint64_t epoch = 0;
};
inline constexpr uint64_t kMadeUsMax = (uint64_t{1} << 48) - 1;

/// One op of an OPS frame. 40 bytes fixed, then key, then sums, then remote pieces:
///   0 kind 1 · 1 flags 1 · 2 key bytes 2 · 4 index 2 · 6 priority 1 · 7 zero 1 · 8 deadline_us 4 · 12 length 4 ·
///   16 offset 8 · 24 generation 8 · 32 expiry_s, of a chunk its number 4 · 36 sum count 2 · 38 remote piece count 1 ·
///   39 zero 1
struct Op {
  OpKind kind{};
  uint8_t flags = 0;
  uint16_t index = 0;  ///< names the op in replies; unique in its frame
  uint8_t priority = 0;
  uint32_t deadline_us = 0;  ///< time left when the frame was made; 0 = the server's own limit, from its arrival
  uint32_t length = 0;       ///< payload bytes, or the range's length of a get
  uint64_t offset = 0;  ///< get, write, suspect: in the block; begin: block bytes (put) or end of the range (write);
                        ///< chunk: offset in the chunk
  uint64_t generation = 0;    ///< get: if_generation; chunk, commit, abort: upload id
  uint32_t chunk_number = 0;  ///< chunk
  uint32_t expiry_s = 0;      ///< put, begin: reserved
  std::string_view key;       ///< borrowed from the frame's body; empty for chunk, commit, abort, flush
  uint16_t sum_count = 0;
  const std::byte* sums = nullptr;  ///< sum_count * 8 bytes, unaligned, borrowed from the body
  uint8_t remote_piece_count = 0;   ///< get over rdma: where its bytes go; together as long as the range
  const std::byte* remote_pieces = nullptr;
  uint64_t sum(size_t i) const;
  RemotePiece remote_piece(size_t i) const;
};

/// One reply. 32 bytes fixed, then sums:
///   0 index 2 · 2 status 1 · 3 flags 1 · 4 payload bytes 4 · 8 generation 8 · 16 block bytes 8 · 24 sum count 2 ·
///   26 zero 2 · 28 expiry_s 4
struct OpReply {
  uint16_t index = 0;
  Status status = Status::kInternal;
  uint8_t flags = 0;  ///< ReplyFlags
  uint32_t payload_bytes = 0;
  uint64_t generation = 0;  ///< begin: the upload id
  uint64_t block_bytes = 0;
  uint32_t expiry_s = 0;
  uint16_t sum_count = 0;
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
  uint16_t version_min = kVersionMin, version_max = kVersionMax;
  uint32_t features = 0;
  uint8_t transport = kTransportTcp;
  uint16_t wanted_worker = kAnyWorker;
  std::array<uint8_t, 8> key_id{};
  std::array<uint8_t, 32> nonce{};
  std::string_view client_name;  ///< at most 256 bytes
};
struct HelloReply {
  uint16_t version = kVersionMax;
  uint32_t features = 0;
  std::array<uint8_t, 32> nonce{};
  std::string_view server_name;     ///< at most 256 bytes; may be empty
  std::array<uint8_t, 32> proof{};  ///< last 32 bytes of the body
};
struct Proof {
  std::array<uint8_t, 32> proof{};
};
/// INTRODUCE: which client this connection belongs to, before the server welcomes it.
/// 0 client id 16 · 16 epoch 8
struct Introduce {
  std::array<uint8_t, 16> client_id{};  ///< random, one for each client process
  uint64_t epoch = 0;                   ///< the client's present one (OpsHeader)
};
/// What a client may have under way on a connection, each at least 1. 0 puts 2 · 2 gets 2 · 4 ops 2
struct Credit {
  uint16_t puts = 1;  ///< payloads of puts without a reply, in units of kCreditUnit
  uint16_t gets = 1;  ///< bytes that gets above kEagerPayloadMax without a reply ask for, in units of kCreditUnit
  uint16_t ops = 1;   ///< ops of OPS frames without a reply
  bool operator==(const Credit&) const = default;
};
struct Welcome {
  std::array<uint8_t, 16> boot_id{};
  std::array<uint8_t, 16> store_id{};
  uint64_t namespace_id = 0;
  uint64_t shard_seed = 0;
  uint64_t block_bytes_max = 0;
  uint16_t worker = 0;  ///< the one that this connection belongs to
  uint16_t worker_count = 1;
  Credit credit;
  uint8_t ready = 0;
  uint8_t shard_count = 1;  ///< 1..32
  std::array<uint8_t, 32> worker_of_shard{};
  uint64_t now_ns = 0;  ///< the server's clock, read after INTRODUCE had come
};
/// PONG.
struct Pong {
  uint64_t now_ns = 0;  ///< the sender's clock, read after the PING that it answers had come
};
/// CANCEL and CANCELED.
struct Cancel {
  uint64_t request_id = 0;
  uint16_t op_index = 0;
};
/// WINDOWS: the rings of a shm connection (docs/shm.md). Comes with their two descriptors.
struct Windows {
  uint64_t get_ring_bytes = 0;  ///< server to client; a power of two
  uint64_t put_ring_bytes = 0;  ///< client to server; a power of two
};
inline constexpr uint64_t kRingBytesMin = 4096, kRingBytesMax = 1u << 30;
struct WorkerMap {
  uint16_t worker_count = 1;
  uint8_t shard_count = 1;
  std::array<uint8_t, 32> worker_of_shard{};
};
struct Goodbye {
  Status status = Status::kOk;
  std::string_view text;  ///< any bytes: clean before it is shown
};
/// RDMA_CONNECT and RDMA_ACCEPT: one end of a queue pair. 0 rail 2 · 2 receives 2 · 4 queue pair 4 · 8 first packet 4 ·
/// 12 chunk bytes 4 · 16 gid 16 · 32 lid 2 · 34 mtu 1 · 35 ethernet 1 · 36 reads 1 · 37 zero 3
struct RdmaEnd {
  uint16_t rail = 0;      ///< the client's number of it
  uint16_t receives = 0;  ///< posted at once, each of message_bytes
  uint32_t queue_pair = 0;
  uint32_t first_packet = 0;  ///< sequence number, 24 bits, random
  uint32_t message_bytes = 0;
  std::array<uint8_t, 16> gid{};
  uint16_t lid = 0;
  uint8_t mtu = 1;  ///< 1 = 256 bytes ... 5 = 4096
  uint8_t ethernet = 1;
  uint8_t reads = 1;  ///< that may be under way at a time
};
/// TAKEN: how many OFFERs since the beginning need their memory no more.
struct Taken {
  uint64_t offers = 0;
};
struct List {
  uint64_t cursor = 0;
  uint32_t limit = 0;
};
struct ListItem {
  uint64_t generation = 0;
  uint64_t block_bytes = 0;
  std::string_view key;
};

/// Bytes written; 0 if `out` is too small.
size_t encode(const Hello&, std::span<std::byte> out);
size_t encode(const HelloReply&, std::span<std::byte> out);
size_t encode(const Proof&, std::span<std::byte> out);
size_t encode(const Introduce&, std::span<std::byte> out);
size_t encode(const Welcome&, std::span<std::byte> out);
size_t encode(const Pong&, std::span<std::byte> out);
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
Result<Cancel> decode_cancel(std::span<const std::byte> body);
Result<Credit> decode_credit(std::span<const std::byte> body);
Result<Windows> decode_windows(std::span<const std::byte> body);
Result<WorkerMap> decode_worker_map(std::span<const std::byte> body);
Result<Goodbye> decode_goodbye(std::span<const std::byte> body);
Result<List> decode_list(std::span<const std::byte> body);
/// kInvalid: a queue pair that nobody could talk to, by its numbers.
Result<RdmaEnd> decode_rdma_end(std::span<const std::byte> body);
Result<Taken> decode_taken(std::span<const std::byte> body);
/// Checked: 1 to kSegmentsPerOfferMax remote pieces, none empty or wrapping. Returns how many are in `out`.
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
/// Seed of a chunk's checksums.
uint64_t checksum_seed(uint64_t namespace_id, std::string_view key, uint32_t chunk_number);

}  // namespace memkv::wire
