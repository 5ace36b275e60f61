#pragma once
/// Messages of the wire protocol (docs/wire-protocol.md): plain structs, and pure functions that encode them into bytes
/// and decode them.
///
/// The number in front of a field is its offset in the message; layout_test.cc checks each. Bytes between two fields
/// are zero. A text is a length of 2 bytes and then its bytes, unless something else is said.

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
inline constexpr uint32_t kHelloBytesMax = 4096;  ///< of a whole frame, as long as the peer is not welcome
inline constexpr uint32_t kOpsPerFrameMax = 512;
inline constexpr uint32_t kKeysPerExistsMax = 16384;    ///< of one EXISTS; kBodyBytesMax limits it too
inline constexpr uint32_t kEagerBytesMax = 64 * 1024;   ///< put payloads without credit, on one connection
inline constexpr uint32_t kEagerPayloadMax = 8 * 1024;  ///< payloads up to this size need credit for their op only
/// How much credit a payload takes. Credit is counted in grains; a grain that is begun counts whole.
constexpr uint32_t credit_grains(uint32_t payload_bytes) {
  return static_cast<uint32_t>((payload_bytes + base::kGrainBytes - 1) / base::kGrainBytes);
}
inline constexpr uint16_t kAnyWorker = 0xffff;
inline constexpr uint32_t kSumsMax = 33;  ///< a 2 MiB range that starts inside a grain touches 33
inline constexpr uint64_t kOffsetMax = UINT32_MAX * kChunkBytesMax;  ///< offset in a block: chunk numbers have 32 bits

/// What a frame is. c: sent by clients, s: by servers. Numbers are never given anew; new messages are appended.
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
  /// The server knows OpKind::kPrefetch.
  kFeaturePrefetch = 2,
};
inline constexpr uint32_t kFeatures = kFeatureConsumed | kFeaturePrefetch;  ///< all of this build
/// A peer with kFeatureConsumed tells of a payload of this size or more at the latest when it is complete.
inline constexpr uint32_t kReportedPayloadMin = 32 * 1024;
enum FrameFlags : uint16_t {
  /// On REPLY over rdma: the payload was written into the ops' remote pieces, and does not follow.
  kFramePlaced = 1,
};

/// Stands in front of every frame. 48 bytes: at 0 the magic, 4 bytes.
struct FrameHeader {
  /*  4 */ uint8_t version = kVersionMax;
  /*  5 */ Opcode opcode{};
  /*  6 */ uint16_t flags = 0;  ///< FrameFlags
  /*  8 */ uint32_t body_bytes = 0;
  /* 12 */ uint32_t payload_bytes = 0;
  /* 16 */ uint64_t request_id = 0;  ///< never used again on a connection; a reply has that of its request
  /* 24 */ uint64_t sequence = 0;    ///< counts the frames of this direction that have a MAC, from 0
  /* 32 */ std::array<uint8_t, 16> mac{};
};

void encode(const FrameHeader& header, std::span<std::byte, kHeaderBytes> out);
/// Reads a header. kInvalid: bad magic, unknown opcode, lengths above the limits. Trust no field before check_mac() has
/// passed.
Result<FrameHeader> decode_header(std::span<const std::byte, kHeaderBytes> bytes);
/// The MAC over header (with its MAC field zero) and body.
std::array<uint8_t, 16> make_mac(const base::SipKey& key, const FrameHeader& header, std::span<const std::byte> body);
bool check_mac(const base::SipKey& key, const FrameHeader& header, std::span<const std::byte> body);

/// What an op does. None carries more than one chunk; a larger block is begin, chunks, and commit.
enum class OpKind : uint8_t {
  kGet = 1,       ///< a range inside one chunk
  kPut = 2,       ///< a whole block of at most one chunk
  kWrite = 3,     ///< a range inside one chunk; the rest of the block stays
  kBegin = 4,     ///< opens an upload; the reply has its id
  kChunk = 5,     ///< one chunk of an upload, or a part of one
  kCommit = 6,    ///< makes the upload the block
  kAbort = 7,     ///< throws the upload away
  kRemove = 8,    ///< the block is gone when it is answered
  kTouch = 9,     ///< counts the block as read
  kStat = 10,     ///< generation and size
  kFlush = 11,    ///< removes all blocks of the namespace in this worker's shards
  kSuspect = 12,  ///< the client saw a wrong checksum: look, and drop the block if it is damaged
  kPin = 13,      ///< reserved
  /// The block will be asked for soon: the server may bring it from its drive into its RAM. Only to a server with
  /// kFeaturePrefetch. Offset and length are 0.
  kPrefetch = 14,
};
/// Bits of Op::flags.
enum OpFlags : uint8_t {
  kOpIfAbsent = 1,        ///< put, begin: kExists if the key is there
  kOpChained = 2,         ///< starts after the op before it in the frame; kCanceled if that one failed
  kOpVerify = 4,          ///< get: the server verifies all bytes itself
  kOpServerChecksum = 8,  ///< put, chunk, write: carries no sums
  kOpRangeWrite = 16,     ///< begin: a range write, chunks may be partial
};
/// True for kinds whose payload of `length` bytes follows.
constexpr bool has_payload(OpKind k) { return k == OpKind::kPut || k == OpKind::kWrite || k == OpKind::kChunk; }
/// True for kinds that change what gets answer. (The chunks of an upload do not; its commit does.)
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
/// The first 16 bytes of an OPS body: at 0 the op count, 2 bytes. made_us has 6 bytes.
struct OpsHeader {
  /// When the frame was made, by the *server's* clock as the client knows it from WELCOME and PONG: a lower bound,
  /// never later than the truth. The deadlines of the ops count from here, however long the frame is under way.
  /*  2 */ uint64_t made_us = 0;
  /// The client's epoch. The client raises it when it gives up a change that some server may still receive. A server
  /// that has seen a higher epoch refuses changes of a lower one: it answers kBusy with kReplyFenced.
  /*  8 */ uint64_t epoch = 0;
};
inline constexpr uint64_t kMadeUsMax = (uint64_t{1} << 48) - 1;

/// One op of an OPS frame: 40 bytes, then the key, the sums and the remote pieces. At 2 the length of the key, 2 bytes.
struct Op {
  /*  0 */ OpKind kind{};
  /*  1 */ uint8_t flags = 0;
  /*  4 */ uint16_t index = 0;  ///< names the op in replies; unique in its frame
  /*  6 */ uint8_t priority = 0;
  /// Time that was left when the frame was made. 0 = the server's own limit, counted from the arrival.
  /*  8 */ uint32_t deadline_us = 0;
  /* 12 */ uint32_t length = 0;  ///< payload bytes, or the range's length of a get
  /// For get, write and suspect: the offset in the block. For begin: block bytes (put), or the end of the range
  /// (write). For chunk: the offset in the chunk.
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
  kReplyFenced = 4,  ///< with kBusy: not done, since the client has begun a newer epoch
};

/// Appends ops to a caller's buffer. False: no room left for another op, its bytes or its payload. Then send the frame
/// and begin the next one.
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
/// Appends replies, as OpsEncoder appends ops.
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
/// Walks over a body: next() gives its ops one after another. The ops can be relied upon only after validate().
class OpsDecoder {
 public:
  explicit OpsDecoder(std::span<const std::byte> body);
  /// Returns the op count, or kInvalid. It checks the whole body: known kinds and flags; indexes that are unique and
  /// below kOpsPerFrameMax; keys of 1..1024 bytes where the kind has one; ranges inside one chunk; as many sums as the
  /// range has pieces of grains (none with kOpServerChecksum); payload lengths that add up to the frame's.
  Result<uint16_t> validate(uint32_t payload_bytes) const;
  OpsHeader header() const;
  bool next(Op& out);

 private:
  std::span<const std::byte> body_;
  size_t at_ = kOpsHeaderBytes;
  uint16_t left_ = 0;
};
/// Walks over the body of a REPLY, as OpsDecoder does over OPS.
class ReplyDecoder {
 public:
  explicit ReplyDecoder(std::span<const std::byte> body);
  /// Returns the reply count, or kInvalid. It checks that indexes are unique and below kOpsPerFrameMax and that payload
  /// lengths add up to the frame's. The caller checks that the op was asked for, and its number of sums.
  Result<uint16_t> validate(uint32_t payload_bytes) const;
  bool next(OpReply& out);

 private:
  std::span<const std::byte> body_;
  size_t at_ = 2;
  uint16_t left_ = 0;
};

/// EXISTS: u8 touch, 3 zero bytes, u32 count, then for each key u16 length and its bytes. Its reply: u32 count, then
/// one bit for each key (bit i lies in byte i / 8).
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
/// Walks over the keys of an EXISTS. validate() first.
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

/// Values of Hello::transport.
inline constexpr uint8_t kTransportTcp = 0, kTransportShm = 1, kTransportRdma = 2;
/// HELLO: the client's first frame, in the frozen format.
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
/// HELLO_REPLY: the server's answer, with its proof over everything before it.
struct HelloReply {
  /*  0 */ uint16_t version = kVersionMax;
  /*  4 */ uint32_t features = 0;
  /*  8 */ std::array<uint8_t, 32> nonce{};
  /* 40 */ std::string_view server_name;  ///< at most 256 bytes; may be empty
  std::array<uint8_t, 32> proof{};        ///< last 32 bytes of the body
};
/// PROOF: the client's proof over both HELLO and HELLO_REPLY.
struct Proof {
  /*  0 */ std::array<uint8_t, 32> proof{};
};
/// INTRODUCE: tells which client this connection belongs to, before the server welcomes it.
struct Introduce {
  /*  0 */ std::array<uint8_t, 16> client_id{};  ///< random, one for each client process
  /* 16 */ uint64_t epoch = 0;                   ///< the client's epoch now (OpsHeader)
};
/// How much a client may have under way on a connection. Each number is at least 1.
struct Credit {
  /*  0 */ uint16_t puts = 1;  ///< payloads of puts that wait for a reply, in grains
  /*  2 */ uint16_t gets = 1;  ///< bytes that larger gets (kEagerPayloadMax) ask for and wait for, in grains
  /*  4 */ uint16_t ops = 1;   ///< ops of OPS frames that wait for a reply
  bool operator==(const Credit&) const = default;
};
/// WELCOME: what the client needs to place its ops. Sent once the client has introduced itself.
struct Welcome {
  /*  0 */ std::array<uint8_t, 16> boot_id{};   ///< random, of this process of the server: another one after a restart
  /* 16 */ std::array<uint8_t, 16> store_id{};  ///< random, of the store
  /* 32 */ uint64_t namespace_id = 0;           ///< of the credential's namespace: seeds shards and checksums
  /* 40 */ uint64_t shard_seed = 0;             ///< of the store, public
  /* 48 */ uint64_t block_bytes_max = 0;        ///< larger blocks are refused
  /* 56 */ uint16_t worker = 0;                 ///< index of the worker that serves this connection
  /* 58 */ uint16_t worker_count = 1;
  /* 60 */ Credit credit;
  /* 66 */ uint8_t ready = 0;        ///< 0: the worker's stores still recover; READY follows
  /* 67 */ uint8_t shard_count = 1;  ///< 1..32
  /* 68 */ std::array<uint8_t, 32> worker_of_shard{};
  /* 100 */ uint64_t now_ns = 0;  ///< the server's clock, read after INTRODUCE had arrived
};
/// CONSUMED: all payload bytes that have been copied out of the socket since the connection began. Never less than was
/// said before, never more than was sent.
struct Consumed {
  /*  0 */ uint64_t payload_bytes = 0;
};
/// PONG.
struct Pong {
  /*  0 */ uint64_t now_ns = 0;  ///< the sender's clock, read after the PING had arrived that it answers
};
/// CANCEL and CANCELED.
struct Cancel {
  /*  0 */ uint64_t request_id = 0;
  /*  8 */ uint16_t op_index = 0;
};
/// WINDOWS: the rings of a shm connection (docs/shm.md). Its two descriptors come along.
struct Windows {
  /*  0 */ uint64_t get_ring_bytes = 0;  ///< server to client; a power of two
  /*  8 */ uint64_t put_ring_bytes = 0;  ///< client to server; a power of two
};
inline constexpr uint64_t kRingBytesMin = 4096, kRingBytesMax = 1u << 30;
/// WORKER_MAP: which worker has which shard now.
struct WorkerMap {
  /*  0 */ uint16_t worker_count = 1;
  /*  2 */ uint8_t shard_count = 1;
  /*  3 */ std::array<uint8_t, 32> worker_of_shard{};
};
/// GOODBYE: why the sender closes the connection.
struct Goodbye {
  /*  0 */ Status status = Status::kOk;
  /*  1 */ std::string_view text;  ///< up to the body's end; any bytes, so make it printable before showing it
};
/// RDMA_CONNECT and RDMA_ACCEPT: describes one end of a queue pair. 40 bytes.
struct RdmaEnd {
  /*  0 */ uint16_t rail = 0;      ///< number that the client gave the rail
  /*  2 */ uint16_t receives = 0;  ///< receives that are posted from the start, each of message_bytes
  /*  4 */ uint32_t queue_pair = 0;
  /*  8 */ uint32_t first_packet = 0;  ///< first sequence number, 24 random bits
  /* 12 */ uint32_t message_bytes = 0;
  /* 16 */ std::array<uint8_t, 16> gid{};
  /* 32 */ uint16_t lid = 0;
  /* 34 */ uint8_t mtu = 1;  ///< 1 = 256 bytes ... 5 = 4096
  /* 35 */ uint8_t ethernet = 1;
  /* 36 */ uint8_t reads = 1;  ///< RDMA READs that may be under way at a time
};
/// TAKEN: for how many OFFERs, counted since the connection began, the memory is not needed any more.
struct Taken {
  /*  0 */ uint64_t offers = 0;
};
/// LIST: asks for `limit` blocks from `cursor` on (0 = the beginning).
struct List {
  /*  0 */ uint64_t cursor = 0;
  /*  8 */ uint32_t limit = 0;
};
/// One block of a LIST_REPLY.
struct ListItem {
  /*  0 */ uint64_t generation = 0;
  /*  8 */ uint64_t block_bytes = 0;
  /* 16 */ std::string_view key;
};

/// Encodes a message. Returns the bytes written; 0 if `out` is too small.
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
/// OFFER: u32 count, then the remote pieces in which the payload of the next frame stands.
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
/// kInvalid: the numbers cannot be those of a queue pair that one could talk to.
Result<RdmaEnd> decode_rdma_end(std::span<const std::byte> body);
Result<Taken> decode_taken(std::span<const std::byte> body);
/// Checks that there are 1 to kRemotePiecesPerOfferMax pieces, none of them empty or wrapping. Returns how many are in
/// `out`.
Result<uint16_t> decode_offer(std::span<const std::byte> body, std::span<RemotePiece, kRemotePiecesPerOfferMax> out);
/// LIST_REPLY: u64 next cursor, u32 count, items. The encoder appends as the others do.
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
/// Walks over the items of a LIST_REPLY. validate() first.
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

/// The shard that a key belongs to. `shard_count` is a power of two. Client and server compute it alike.
uint32_t shard_of(std::string_view key, uint64_t shard_seed, uint64_t namespace_id, uint32_t shard_count);

}  // namespace memkv::wire
