#pragma once
/// A link: one authenticated connection as a stream of frames, the same on both ends, over tcp, shm or rdma (and in
/// memory for tests).

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/reactor.h"
#include "memkv/error.h"
#include "memkv/types.h"
#include "wire/handshake.h"
#include "wire/messages.h"

namespace memkv::transport {

class Link;

/// A frame to send. The sender owns it, with the memory of body and payload; the link borrows them until `on_done`.
struct SendFrame {
  /// Runs exactly once, never inside send(). From then on neither link nor kernel touches body or payload. sent =
  /// false: the link broke before all of the frame had left (a part may have left).
  using Fn = void (*)(SendFrame& frame, bool sent);
  Fn on_done = nullptr;
  void* context = nullptr;
  wire::Opcode opcode{};
  uint64_t request_id = 0;
  std::span<const std::byte> body;
  std::span<const iovec> payload;  ///< at most 64 pieces, at most wire::kPayloadBytesMax
  /// Where in the peer's memory the payload goes, if the peer said so; the pieces are at least as long as the payload.
  /// A link that cannot write there sends the payload behind the body.
  std::span<const wire::RemotePiece> remote;
  /// With `remote`: write the payload there even if it is small enough for the stream.
  bool always_placed = false;
  /// Whole pages of the payload may be lent to a socket: nobody writes them before on_done, and when `lent` is set then,
  /// nobody before they are other pages.
  bool may_lend = false;
  /// Set by the link. With on_done(sent = false): a queue that nobody empties any more may still refer to pages of the
  /// payload, so what is written there from now on could reach a peer. The range must get fresh pages first.
  bool lent = false;
  /// Not empty: the payload stands in memory that its owner has exposed. The peer reads it from there, and the link
  /// must not touch it. Only for links that can expose memory.
  std::span<const wire::RemotePiece> offered;
  // Private to the link.
  SendFrame* next = nullptr;
  uint32_t payload_bytes = 0;
  uint32_t lent_bytes = 0;
  uint64_t payload_end = 0;  // where it ends in all payload bytes of the link
  bool queued = false;
  bool unwanted = false;
  std::array<std::byte, wire::kHeaderBytes> header{};
};

/// Where the payload that follows a frame goes.
struct PayloadTarget {
  enum class Kind : uint8_t { kInto, kSink, kPause, kElsewhere } kind = Kind::kSink;
  /// kInto: together as long as the payload. Array and memory live until on_payload or redirect().
  std::span<const iovec> pieces;
  static PayloadTarget into(std::span<const iovec> p) { return {Kind::kInto, p}; }
  static PayloadTarget sink() { return {}; }
  /// There is no room yet: the link reads nothing more until resume().
  static PayloadTarget pause() { return {Kind::kPause, {}}; }
  /// Inside links only: the payload does not follow in the stream.
  static PayloadTarget elsewhere() { return {Kind::kElsewhere, {}}; }
};

/// Memory that the peer may read and write until release(): the destination of a get, or the payload of a put. The
/// link's owner keeps it until the peer has said that it is done, or the link is closed.
struct Exposure {
  std::array<wire::RemotePiece, wire::kRemotePiecesPerOpMax> remote_pieces{};
  uint8_t count = 0;  ///< 0: nothing is exposed
  /// If not empty, the memory was not registered, and the bytes arrive here instead.
  std::span<std::byte> staging;

  // Private to the link.
  void (*let_go)(Exposure& exposure) = nullptr;
  void* context = nullptr;
  std::array<void*, wire::kRemotePiecesPerOpMax> users{};
  uint8_t slot_class = 0;
  uint32_t slot_index = 0, slot_bytes = 0;

  void release() {
    if (count > 0) let_go(*this);
    count = 0;
    staging = {};
  }
};

/// Whether the link may expose a slot of its own in place of memory that is not registered.
enum class Staging : uint8_t { kAllowed, kNever };

/// How much room a link's send queue has for payloads that go straight into the peer's memory. A frame within this
/// limit never waits for room in the queue.
struct SendRoom {
  uint32_t requests = 0;  ///< one for each piece of the payload and each remote piece that it goes into
  uint32_t bytes = 0;
  bool limited() const { return requests > 0; }  ///< else there is nothing to reserve
};

/// What a link tells its owner. None of these runs inside a call by the owner into the link, except where it is said.
/// Thread: the reactor's.
class LinkOwner {
 public:
  virtual ~LinkOwner() = default;
  /// A frame's header and body have arrived whole, and their MAC is right. `body` is valid during the call only. The
  /// returned target is used if payload_bytes > 0.
  virtual PayloadTarget on_frame(Link& link, const wire::FrameHeader& header, std::span<const std::byte> body) = 0;
  /// The first `arrived` bytes of the payload are in their target, and more will come. The owner may hash them while
  /// they are in the cache. It must not close or redirect the link here.
  virtual void on_payload_part(Link&, size_t /*arrived*/) {}
  /// The payload of the last frame has arrived whole, in its target or in the sink.
  virtual void on_payload(Link& link) = 0;
  /// The peer gave up the payload that is held back (kPause): the owner must resume() it into the sink.
  virtual void on_unwanted(Link&) {}
  /// The link is dead. Comes once, after the last on_done and on_payload. No memory is touched any more. The owner may
  /// destroy the link inside this call.
  virtual void on_closed(Link& link, const Error& why) = 0;
};

/// One end of an authenticated connection. A link is made after the handshake, belongs to its owner, and is destroyed
/// only after on_closed. Thread: the reactor's.
class Link {
 public:
  virtual ~Link() = default;
  /// Queues a frame. A frame without payload overtakes queued frames with payload, but not one that has left in part.
  /// Several queued frames leave in one send. kUnavailable after close.
  virtual Result<void> send(SendFrame& frame) = 0;
  virtual void resume(PayloadTarget target) = 0;  ///< after kPause: kInto or kSink
  /// Takes the target's memory back: what is still to come of this payload goes into the sink. True: the pieces are not
  /// written any more. False: with io_uring the kernel may still write to them, until on_payload.
  virtual bool redirect() = 0;
  /// Gives up the payload of a frame that was sent: tells the peer that it need not find room for it. The frame's
  /// on_done still comes, soon. Links that carry payloads in the stream cannot do this.
  virtual void withdraw(SendFrame& /*frame*/) {}
  virtual void close(Status why) = 0;  ///< asynchronous; on_closed follows
  /// Not yet handed to the kernel, or lent and not yet reported: a reader that stopped reading.
  virtual uint64_t bytes_queued() const = 0;
  virtual uint64_t last_sent_ns() const = 0;      ///< when the peer last took bytes
  virtual uint64_t last_received_ns() const = 0;  ///< when bytes last came
  virtual int fd() const = 0;                     ///< -1: none
  /// Makes memory readable and writable for the peer. False: this link cannot do that, has no room for it now, or
  /// (kNever) the memory is not registered with its device. The payload then comes in the stream.
  virtual bool expose(std::span<const iovec> /*pieces*/, Staging /*staging*/, Exposure& /*out*/) { return false; }
  /// wire::Features that both ends have.
  uint32_t features() const { return features_; }
  void set_features(uint32_t features) { features_ = features; }
  /// How much an owner that reads payloads from a drive may have under way for this link at once. It never changes.
  virtual SendRoom send_room() const { return {}; }

 private:
  uint32_t features_ = 0;
};

enum class Role : uint8_t { kClient, kServer };

struct OneCopyStats;
/// What the ends of a tcp connection have agreed upon.
struct TcpOptions {
  uint32_t features = 0;             ///< wire::Features
  OneCopyStats* one_copy = nullptr;  ///< outlives the link; null: nothing is lent to the socket
};
/// Takes over `fd` (connected, handshake done; no byte beyond it was read). The first frames are MACed with sequence 0.
std::unique_ptr<Link> make_tcp_link(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys,
                                    LinkOwner& owner, const TcpOptions& options = {});
class ShmWindow;
/// The file name of a server's unix socket.
std::string shm_socket_name(const std::array<uint8_t, 16>& boot_id);
bool is_shm_socket_name(std::string_view name);
/// The folders where it is unless people say otherwise: a server takes the first that it can make, clients look in all.
/// `runtime_dir`: XDG_RUNTIME_DIR, null or empty where there is none.
std::vector<std::string> usual_shm_dirs(const char* runtime_dir);
/// Over rings in shared memory; `fd` is the unix socket of the handshake, on which sleepers are woken and a dead peer
/// is noticed. The server's first frame, WINDOWS, has left already: its sequence goes on from there.
std::unique_ptr<Link> make_shm_link(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys,
                                    std::shared_ptr<ShmWindow> window, LinkOwner& owner);
/// Two ends in memory, for tests.
struct LinkPair {
  std::unique_ptr<Link> client, server;
};
LinkPair make_loopback_links(io::Reactor& reactor, const wire::SessionKeys& keys, LinkOwner& client_owner,
                             LinkOwner& server_owner);

/// The client's side of opening a connection: non-blocking connect, handshake, WELCOME (the link's first frame goes to
/// `owner.on_frame`). One attempt; owned by the caller until on_done. Thread: the reactor's.
class Connector {
 public:
  using Fn = void (*)(void* context, Result<std::unique_ptr<Link>> link, std::string_view server_name,
                      std::string_view goodbye_text);
  /// `deadline_ns`: on the reactor's clock, 0 = none.
  struct Options {
    Transport transport = Transport::kTcp;
    wire::Secret secret{};
    wire::Hello hello;
    std::string client_name;
    std::string congestion;
    uint64_t deadline_ns = 0;
    uint32_t features = wire::kFeatures;  ///< to be offered; kFeatureConsumed over tcp only
    OneCopyStats* one_copy = nullptr;     ///< as in TcpOptions
  };
  static std::unique_ptr<Connector> make(io::Reactor& reactor, const sockaddr* address, socklen_t length,
                                         Options options, LinkOwner& owner, Fn on_done, void* context);
  virtual ~Connector() = default;
  virtual void cancel() = 0;  ///< on_done still runs once, with kCanceled
};

/// The server's side: reads HELLO and PROOF within `deadline_ns` and kHelloBytesMax, then gives fd, keys, key id and
/// wanted worker. Used by the door.
class Acceptor {
 public:
  struct Accepted {
    int fd = -1;
    wire::SessionKeys keys;
    wire::KeyId key_id;
    uint16_t wanted_worker = wire::kAnyWorker;
    uint32_t features = 0;              ///< wire::Features that both ends have
    std::string client_name;            ///< any bytes
    std::optional<wire::RdmaEnd> rdma;  ///< the client's queue pair: the link is to go over it
  };
  using Fn = void (*)(void* context, Acceptor& acceptor, Result<Accepted> accepted);
  static std::unique_ptr<Acceptor> make(io::Reactor& reactor, int fd, wire::ServerHandshake handshake,
                                        uint64_t deadline_ns, Fn on_done, void* context);
  virtual ~Acceptor() = default;  ///< from inside on_done or later
};

}  // namespace memkv::transport
