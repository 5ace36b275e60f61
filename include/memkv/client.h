#pragma once
/// The MemKV client. Link `memkv::client`.
///
///   const std::vector<std::string> servers = {"kv1=10.0.0.10:9900", "kv2=10.0.0.11:9900"};
///   auto client = memkv::Client::connect({.servers = servers, .namespace_key = key}).value();
///   client.put("prefix/4f2a", block);
///   auto got = client.get("prefix/4f2a", buffer);
///
///   memkv::Batch batch;
///   batch.get("a", dst_a).get("b", dst_b, /*offset=*/4096).exists("c");
///   for (auto& outcome : client.run(batch)) ...
///
/// Every op takes a list of local pieces. A completed op leaves the caller's memory quiet, whatever its outcome; after
/// anything but a hit the content of a get's buffer is unspecified. Nothing here throws; nothing hangs longer than the
/// op's deadline. Where no thread or descriptor is to be had, connect() or the op fails with that reason, and the
/// next one works when there is some again. What it logs waits for nobody, and raises no signal in the program.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "memkv/error.h"
#include "memkv/types.h"

namespace memkv {

/// From now; zero = the default: the floor of the op's kind, and the time that the bytes under way take at 64 MiB/s.
using Deadline = std::chrono::nanoseconds;

/// Who makes a put's checksums. kClient: the bytes are checked from the caller's memory on, over network and drive.
/// kServer: the client saves the time, and damage on the way to the server goes unnoticed.
enum class PutChecksum : uint8_t { kClient, kServer };

/// Settings. Precedence: field set here > MEMKV_* environment > MEMKV_CONFIG file > default. An empty string or vector
/// counts as unset.
struct ClientOptions {
  std::vector<std::string> servers;  ///< "name=host:port", "host:port", "host", "[::1]:9900"; MEMKV_SERVERS is a comma
                                     ///< list; none: the server of `memkv start` on this host, 127.0.0.1:9900
  std::string namespace_key;  ///< 64 hex characters or @FILE, not a weak one; MEMKV_AUTH_KEY; empty = that of the local
                              ///< server (docs/operating.md), else none (loopback)
  Transport transport = Transport::kAuto;  ///< MEMKV_TRANSPORT; anything but auto is used or nothing is
  std::vector<std::string> rdma_devices;   ///< as in /sys/class/infiniband; MEMKV_RDMA_DEVICES; empty = all usable ones
  std::string shm_dir;                     ///< where servers' sockets are; MEMKV_SHM_DIR; empty = the usual places
  uint32_t io_contexts = 0;                ///< 0 = 2; 1 with less than two CPUs
  uint32_t connections_per_worker = 0;     ///< of one I/O context; 0 = 1
  Deadline get_timeout{0};                 ///< floor of default deadlines; 0 = 2 s
  Deadline put_timeout{0};                 ///< 0 = 10 s
  PutChecksum put_checksum = PutChecksum::kClient;
  bool verify = true;       ///< check every byte that arrives
  std::string congestion;   ///< TCP congestion control; empty = cubic where allowed; "system" leaves it alone
  std::string client_name;  ///< shown by `memkv status`; empty = program and pid
  std::string config_file;  ///< empty = MEMKV_CONFIG
  std::string log_level;    ///< debug, info, warn, error, off: what the library says on stderr, for the whole process;
                            ///< MEMKV_LOG_LEVEL; empty = as it is, and that is info at first
};

/// What became of one op of a batch.
struct Outcome {
  Status status = Status::kInternal;
  Generation generation = 0;
  uint64_t bytes = 0;        ///< get: delivered; put, write: stored
  uint64_t block_bytes = 0;  ///< get, stat: size of the whole block
  bool exists = false;       ///< exists, stat, prefetch
  bool unreachable = false;  ///< the server could not be asked, or said nothing at all: why kMiss, kRefused, kDeadline

  bool hit() const { return status == Status::kOk; }
  bool ok() const { return is_outcome(status); }
};

/// kCuda: memory of a CUDA device, which the CPU cannot touch. Its bytes go over rdma only, straight between the server
/// and the GPU, and the server verifies them; an op on it that cannot go that way completes with kUnsupported and has
/// done nothing. An op's pieces are all registered GPU memory, or none is.
enum class MemoryKind : uint8_t { kHost, kCuda };
class Region;
namespace client {
class Context;
}
namespace client {
Result<Region> make_region(const Context& context, void* data, size_t size, MemoryKind kind, int device,
                           std::shared_ptr<Context*> driven);
}

/// Memory registered with the client: rdma registers it with the NICs, tcp and shm do nothing. Unregisters on
/// destruction, which waits until no NIC can touch the memory any more. (On every transport the memory of an op belongs
/// to the op until it completes.) A region of a Session must be destroyed by the thread that drives the session.
class Region {
 public:
  Region() = default;
  Region(Region&&) noexcept;
  Region& operator=(Region&&) noexcept;
  ~Region();

 private:
  friend Result<Region> client::make_region(const client::Context&, void*, size_t, MemoryKind, int,
                                            std::shared_ptr<client::Context*>);
  struct State;
  std::shared_ptr<State> state_;
};

/// The memory that a put reads, as the argument of a call: one buffer (anything contiguous), or several pieces in
/// order. A span of pieces is borrowed: it must live as long as this.
class Gather {
 public:
  Gather(std::span<const ConstPiece> pieces) : borrowed_(pieces) {}
  Gather(std::initializer_list<ConstPiece> pieces) : listed_(pieces) {}
  Gather(const void* data, size_t size) : one_{data, size} {}
  template <typename R>
  requires requires(const R& r) {
    std::data(r);
    std::size(r);
  } &&(!std::is_same_v<std::remove_cvref_t<decltype(*std::data(std::declval<const R&>()))>, ConstPiece>)
      Gather(const R& r)
      : one_{std::data(r), std::size(r) * sizeof(*std::data(r))} {
  }  // NOLINT
  std::span<const ConstPiece> pieces() const {
    if (!listed_.empty()) return listed_;
    return borrowed_.empty() ? std::span(&one_, 1) : borrowed_;
  }

 private:
  ConstPiece one_{};  ///< no bytes: none
  std::span<const ConstPiece> borrowed_;
  std::vector<ConstPiece> listed_;
};
/// The memory that a get fills; otherwise like Gather.
class Scatter {
 public:
  Scatter(std::span<const Piece> pieces) : borrowed_(pieces) {}
  Scatter(std::initializer_list<Piece> pieces) : listed_(pieces) {}
  Scatter(void* data, size_t size) : one_{data, size} {}
  template <typename R>
  requires requires(R& r) {
    std::data(r);
    std::size(r);
  } &&(!std::is_same_v<std::remove_cvref_t<decltype(*std::data(std::declval<R&>()))>, Piece>)&&(
      !std::is_const_v<std::remove_reference_t<decltype(*std::data(std::declval<R&>()))>>)Scatter(R&& r)
      : one_{std::data(r), std::size(r) * sizeof(*std::data(r))} {
  }  // NOLINT
  std::span<const Piece> pieces() const {
    if (!listed_.empty()) return listed_;
    return borrowed_.empty() ? std::span(&one_, 1) : borrowed_;
  }

 private:
  Piece one_{};  ///< no bytes: none
  std::span<const Piece> borrowed_;
  std::vector<Piece> listed_;
};

/// A list of ops, run together; each succeeds or fails alone. Keys are copied; memory is borrowed until the op's
/// completion.
class Batch {
 public:
  Batch();
  ~Batch();
  Batch(Batch&&) noexcept;
  Batch& operator=(Batch&&) noexcept;

  // Each of these appends an op and returns the batch. The outcomes of a run stand in the same order.

  /// Reads the range [offset, offset + size of dst), clipped to the block's end. `if_generation`: kChanged if the block
  /// has another version; 0 = any.
  Batch& get(std::string_view key, const Scatter& dst, uint64_t offset = 0, Generation if_generation = 0);
  /// Replaces the block, old or new as a whole.
  Batch& put(std::string_view key, const Gather& src);
  /// kExists if the key is there; then nothing is written.
  Batch& put_if_absent(std::string_view key, const Gather& src);
  /// Replaces the range at `offset` and keeps the rest. A gap before it is a hole, and reading a hole is a miss.
  Batch& write(std::string_view key, const Gather& src, uint64_t offset);
  /// `touch`: what is found counts as used, as if it had been read.
  Batch& exists(std::string_view key, bool touch = false);
  /// kMiss if the key is not there.
  Batch& remove(std::string_view key);
  /// Counts the block as used, so that it is evicted later.
  Batch& touch(std::string_view key);
  /// Size and generation of the block, without its bytes.
  Batch& stat(std::string_view key);
  /// A hint: the block will be asked for soon. A server with a RAM tier may bring it from its drive into memory, all of
  /// it, behind the ops of its clients; no byte comes here. kOk: it is there, or on its way. kMiss: there is no such
  /// block. kRefused: the server was too busy for hints, and nothing is tried again. kUnsupported: an older server.
  /// Outcome::exists says that the block was found, kRefused or not. Without a RAM tier, or in memory mode, nothing is
  /// read, and the answer says whether the block is there. It promises nothing: the bytes may come too late, not at
  /// all, or leave before they are asked for; the block counts as used when it is read, not before.
  Batch& prefetch(std::string_view key);
  /// The op added last starts only after the one before it is done (and is canceled if that failed).
  Batch& chained();
  /// The put or write added last is fed: its bytes become readable while it is under way, front to back, and none of
  /// them is looked at before Session::feed() says so. Not for chained ops, nor for Client.
  Batch& fed();

  size_t size() const;
  bool empty() const { return size() == 0; }
  void clear();  ///< keeps its memory for reuse
  struct Impl;
  Impl& impl() const { return *impl_; }  ///< for the client itself
 private:
  std::unique_ptr<Impl> impl_;
};

/// A block in the answer to list().
struct ListedBlock {
  std::string key;
  uint64_t block_bytes = 0;   ///< size of the block
  Generation generation = 0;  ///< its version
};

/// Counters since the client was connected (docs/operating.md explains each). A snapshot.
struct ClientCounters {
  uint64_t ops, hits, misses, failures, unknown, retries, bytes_read, bytes_written, corrupt, connects, breaker_opened,
      staged_bytes, transport_switches;
  uint64_t fenced;  ///< changes that had to be sent again, since another one had been given up meanwhile
};

/// One NIC of this process (docs/rdma.md). `links` are open now, the rest only grows. Snapshot.
struct RailCounters {
  std::string device;
  bool working = false;  ///< the device is there
  uint64_t links = 0, links_total = 0, ops = 0, bytes_in = 0, bytes_out = 0;
  uint64_t failures = 0;       ///< links that ended with an error
  uint64_t retry_errors = 0;   ///< of those: the peer did not answer
  uint64_t rnr_errors = 0;     ///< of those: the peer had no receive posted
  uint64_t access_errors = 0;  ///< of those: a key or a range that the peer does not allow
  uint64_t switches = 0;       ///< the rail was left, and ops went another way
};

/// The client for most programs. Thread: any. It has `io_contexts` I/O threads, each with connections of its own; keys
/// are placed on the servers of the list by rendezvous hashing. Calls block until their ops are complete, but submit().
/// After a fork the child must connect a client of its own: calls on this one answer kForked.
class Client {
 public:
  /// Checks the options and starts the I/O threads; a server that is down is not an error here (its keys are misses
  /// until it is up).
  static Result<Client, Message> connect(ClientOptions options);
  Client(Client&&) noexcept;
  Client& operator=(Client&&) noexcept;
  ~Client();

  Outcome put(std::string_view key, const Gather& src, Deadline deadline = {});
  Outcome put_if_absent(std::string_view key, const Gather& src, Deadline deadline = {});
  Outcome write(std::string_view key, const Gather& src, uint64_t offset, Deadline deadline = {});
  Outcome get(std::string_view key, const Scatter& dst, uint64_t offset = 0, Deadline deadline = {});
  Outcome exists(std::string_view key, Deadline deadline = {});
  Outcome remove(std::string_view key, Deadline deadline = {});
  Outcome touch(std::string_view key, Deadline deadline = {});
  Outcome stat(std::string_view key, Deadline deadline = {});
  /// One outcome an op, in order. All frames are sent before the first reply is awaited.
  std::vector<Outcome> run(Batch& batch, Deadline deadline = {});

  /// Called once, in an I/O thread, when all ops of a submit are complete, and just before wait() returns. It must not
  /// block, and must end neither the Pending nor the client. In the child of a fork it is never called.
  struct OnDone {
    void (*fn)(void* context) = nullptr;
    void* context = nullptr;
  };

  /// A batch under way. wait() returns when all ops are complete (never later than the deadline allows); cancel() makes
  /// that soon. Destroying it cancels and waits until the memory is quiet. Thread: any for done(), cancel() and the
  /// waits; the rest is for one at a time.
  class Pending {
   public:
    Pending(Pending&&) noexcept;
    Pending& operator=(Pending&&) noexcept;
    ~Pending();
    bool done() const;
    void cancel();
    const std::vector<Outcome>& wait();
    /// Waits for so long at most. True: all ops are complete.
    bool wait_for(std::chrono::nanoseconds time);
    /// The batch of complete ops, to be filled again without allocation.
    Batch take_batch();

   private:
    friend class Client;
    struct State;
    explicit Pending(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
  };
  Pending submit(Batch batch, Deadline deadline = {});
  Pending submit(Batch batch, Deadline deadline, OnDone on_done);

  /// Removes every block of this credential's namespace on all servers.
  Outcome flush(Deadline deadline = {});
  /// Blocks of the namespace on one server (by its place in `servers`), all pages.
  Result<std::vector<ListedBlock>> list(size_t server, uint64_t limit = 0, Deadline deadline = {});
  /// The status of one server as JSON text.
  Result<std::string> server_status(size_t server, Deadline deadline = {});
  size_t server_count() const;
  std::string server_name(size_t server) const;
  /// Where this key lives: its place in `servers`.
  size_t server_of(std::string_view key) const;

  /// Registers memory with the NICs, so that rdma needs no copy; tcp and shm do not need it. `device`: the CUDA device
  /// of GPU memory. kUnsupported: GPU memory cannot be registered here (`what` says why); copy through host memory
  /// then. kNoSpace: the limit of locked memory is reached. Blocks.
  Result<Region> register_memory(void* data, size_t size, MemoryKind kind = MemoryKind::kHost, int device = 0);
  ClientCounters counters() const;
  /// A row for each rail of the process; its clients share them. Empty: no RDMA here. Thread: any.
  std::vector<RailCounters> rail_counters() const;
  /// One human line per server: connected or why not, transport, congestion control.
  std::string describe() const;
  /// This process is the child of a fork: every call answers kForked. Thread: any.
  bool forked() const;

  struct Impl;

 private:
  explicit Client(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

/// A client that its caller drives: no locks, no other thread. For engines' own progress loops and for benchmarks.
/// Thread: one at a time. Several may take turns under a lock of the caller's.
class Session {
 public:
  static Result<Session, Message> connect(ClientOptions options);
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  using Ticket = uint64_t;
  /// The batch is borrowed until its ticket is collected. Throws std::bad_alloc, with nothing begun, when there is no
  /// memory for it.
  Ticket submit(Batch& batch, Deadline deadline = {});
  /// Moves bytes; waits up to `wait` when there is nothing to do. Returns the number of tickets that became complete.
  size_t poll(std::chrono::nanoseconds wait = {});
  /// True: the last poll() moved bytes or completed something, so the next one may find more. False: a caller that
  /// polls without waiting should yield the CPU.
  bool moved() const;
  bool done(Ticket ticket) const;
  /// The ops that are complete so far, as places in the batch, in the order of completion. Valid until the next call of
  /// the session.
  std::span<const uint32_t> completed(Ticket ticket) const;
  /// The outcome of an op that is complete. Only before its ticket is collected.
  const Outcome& outcome(Ticket ticket, size_t op) const;
  /// From now on the first `bytes` of a fed op's pieces may be read; the number never goes down. Each chunk leaves as
  /// soon as all its bytes may be read. The block is replaced when all chunks have arrived. Has no effect when the op
  /// is complete.
  void feed(Ticket ticket, size_t op, uint64_t bytes);
  void cancel(Ticket ticket);
  /// For callers that wait in poll(2) or in an event loop of their own: a descriptor that becomes readable when poll()
  /// has something to do. Before each wait call arm_wait(), and wait no longer than it returns, since timers are due
  /// then. Zero means: call poll() now. Waiting needs no lock.
  int wait_fd() const;
  std::chrono::nanoseconds arm_wait();
  /// Returns the outcomes of a complete ticket, and forgets the ticket.
  std::vector<Outcome> collect(Ticket ticket);
  void collect(Ticket ticket, std::vector<Outcome>& out);  ///< the same without allocation
  std::vector<Outcome> run(Batch& batch, Deadline deadline = {});
  /// What each server of the list answers to a first question: kOk; kUnauthorized, when it does not accept the
  /// credential; kUnavailable or kDeadline, when it is down or says nothing for so long. Blocks until all have
  /// answered.
  std::vector<Status> ask_servers(Deadline deadline);
  /// As Client::register_memory. Thread: any, but not the end of the region.
  Result<Region> register_memory(void* data, size_t size, MemoryKind kind = MemoryKind::kHost, int device = 0);
  ClientCounters counters() const;
  /// By rail; those of the process, which its clients share. Empty: no RDMA here. Thread: any.
  std::vector<RailCounters> rail_counters() const;
  struct Impl;

 private:
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace memkv
