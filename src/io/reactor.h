#pragma once
/// The machine's edge: one event loop with submissions and completions. Everything that waits goes through it.

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "memkv/error.h"

namespace memkv::io {

/// One submission, owned by the submitter and borrowed by the reactor until `on_done` runs. Never moved or freed while
/// pending.
struct IoOp {
  /// `result` >= 0: bytes moved (or the accepted fd); < 0: -errno. The op may be submitted again from inside the call.
  using Fn = void (*)(IoOp& op, int32_t result);

  Fn on_done = nullptr;     ///< set by the submitter before every submit
  void* context = nullptr;  ///< the submitter's own
  /// recv: where descriptors that come along land, as cmsgs; message.msg_controllen then says how much of it is filled.
  std::span<std::byte> control{};

  bool pending() const { return kind != Kind::kIdle; }

  // Below: private to the reactor that holds the op.
  enum class Kind : uint8_t {
    kIdle,
    kAccept,
    kConnect,
    kRecv,
    kSend,
    kReadable,
    kRead,
    kWrite,
    kSync,
    kPost,
    kWritable
  };
  /// Where a reactor that queues ops itself keeps this one: not yet tried, waiting for its fd, completed, or with a
  /// device thread.
  enum class Place : uint8_t { kNone, kReady, kArmed, kDone, kThread };
  Kind kind = Kind::kIdle;
  Place place = Place::kNone;
  bool canceled = false;
  bool dsync = false;
  int fd = -1;
  int32_t result = 0;
  uint64_t offset = 0;
  msghdr message{};
  IoOp* prev = nullptr;
  IoOp* next = nullptr;
};

/// A one-shot timer, owned by the submitter. `on_done` runs once unless canceled before.
struct Timer {
  using Fn = void (*)(Timer& timer);
  Fn on_done = nullptr;
  void* context = nullptr;
  uint64_t deadline_ns = 0;

  bool armed() const { return heap_index != kNotArmed; }

  // Private to the reactor.
  static constexpr size_t kNotArmed = ~size_t{0};
  size_t heap_index = kNotArmed;
  uint64_t order = 0;  // of arming: equal deadlines run first armed, first run
};

/// Something that the loop has to look at in every turn, since no descriptor reports it: memory that another process
/// writes. Owned by whoever adds it. Thread: the reactor's.
class PollSource {
 public:
  /// Does what there is to do, in bounded steps; returns how much that was. May remove itself, or others.
  virtual size_t poll() = 0;
  /// Called before the loop sleeps. From now on new work must complete one of the loop's ops, which wakes it. False:
  /// there is work already.
  virtual bool arm() = 0;
  /// Called when the loop is awake again: from here on it polls in every turn.
  virtual void disarm() = 0;

 protected:
  ~PollSource() = default;
};

/// Event loop of one thread. Thread: the one that runs it, except `wake`; adopt() hands it to another.
///
/// Contract (one suite, src/io/reactor_test.cc, runs on every implementation):
/// * A submit either returns an error and forgets the op, or returns ok and calls `on_done` exactly once: later, from
///   `run_once`, never inside the submit.
/// * iovec arrays and the memory they name stay the submitter's and must live until `on_done`.
/// * recv and send may move fewer bytes than asked. A recv result of 0 is the end of the stream. SIGPIPE never fires.
/// * `cancel` is best effort and asynchronous: `on_done` still runs exactly once, with -ECANCELED or the real result.
///   On `epoll` alone the memory of a recv is not written any more once `cancel` has returned. The client relies on
///   that: it promises that a completed op leaves the caller's memory quiet.
/// * Device reads and writes of one fd may complete in any order.
/// * Poll sources are polled at every turn. Before the loop sleeps (in `run_once`, or outside after `arm_wait`) each is
///   armed, and one that returns false keeps the loop awake. All are disarmed before anything else runs.
class Reactor {
 public:
  virtual ~Reactor() = default;
  virtual std::string_view name() const = 0;  ///< "io_uring", "epoll", "sim"

  virtual Result<void> accept(IoOp& op, int listen_fd) = 0;  ///< result: new fd, SOCK_NONBLOCK|SOCK_CLOEXEC
  /// `address` is copied. `fd` may be made non-blocking.
  virtual Result<void> connect(IoOp& op, int fd, const sockaddr* address, socklen_t length) = 0;
  virtual Result<void> recv(IoOp& op, int fd, std::span<const iovec> pieces) = 0;
  virtual Result<void> send(IoOp& op, int fd, std::span<const iovec> pieces) = 0;
  /// Completes with >= 0 once there is something to read, and reads nothing: for descriptors that are no sockets.
  virtual Result<void> readable(IoOp& op, int fd) = 0;
  virtual Result<void> read(IoOp& op, int fd, uint64_t offset, std::span<const iovec> pieces) = 0;
  /// `dsync`: durable (RWF_DSYNC) before completion.
  virtual Result<void> write(IoOp& op, int fd, uint64_t offset, std::span<const iovec> pieces, bool dsync) = 0;
  virtual Result<void> sync(IoOp& op, int fd) = 0;  ///< fdatasync
  /// Completes the op with `result` at the next turn of the loop: how in-memory devices keep the "never inside the
  /// submit" rule.
  virtual Result<void> post(IoOp& op, int32_t result) = 0;
  virtual void cancel(IoOp& op) = 0;
  /// Polled at every turn, from the next one on, until removed. Nothing pending is counted for it.
  virtual void add(PollSource& source) = 0;
  virtual void remove(PollSource& source) = 0;

  virtual void start(Timer& timer, uint64_t deadline_ns) = 0;  ///< re-arms if armed
  virtual void stop(Timer& timer) = 0;  ///< no-op if not armed; `on_done` does not run afterwards

  /// Tells the loop that this memory is used for device I/O and lives as long as the loop (io_uring registers it). A
  /// hint; may fail quietly.
  virtual void register_memory(std::span<std::byte> memory) = 0;

  virtual uint64_t now_ns() const = 0;  ///< monotonic; the loop's own clock (a simulator's is simulated)
  /// Runs completions and due timers; waits at most `wait_ns` when there is nothing to do. Returns how many ran.
  virtual size_t run_once(uint64_t wait_ns) = 0;
  /// The calling thread runs the loop from here on. The caller must make sure, with a lock, that no other thread runs
  /// it.
  virtual void adopt() {}
  /// For a program that waits with a poll() of its own: a descriptor that becomes readable when run_once() has work.
  /// Valid only after an arm_wait() that no run_once() followed. -1: this loop has none.
  virtual int wait_fd() const { return -1; }
  /// How long to wait for wait_fd() at most: a timer is due then. 0: there is work already.
  virtual uint64_t arm_wait() { return 0; }
  /// Thread: any. Makes a waiting `run_once` return soon; `on_wake` runs in the loop's thread.
  virtual void wake() = 0;
  void set_on_wake(void (*fn)(void*), void* context) { on_wake_ = fn, on_wake_context_ = context; }
  virtual size_t pending() const = 0;  ///< ops submitted and not yet completed (timers not counted)
  /// Completes with >= 0 once a socket takes bytes again, or is broken, and sends nothing: for who sends without the
  /// loop.
  virtual Result<void> writable(IoOp& op, int fd) = 0;

 protected:
  void (*on_wake_)(void*) = nullptr;
  void* on_wake_context_ = nullptr;
};

enum class ReactorKind : uint8_t { kAuto, kUring, kEpoll };

struct ReactorOptions {
  ReactorKind kind = ReactorKind::kAuto;
  uint32_t ops_max = 4096;      ///< ops in flight; more is kBusy
  uint32_t device_threads = 4;  ///< epoll only: threads that do blocking device I/O, all but one of them for one file
                                ///< at most (0: device I/O is refused, as in the client)
};

/// kAuto: io_uring, or epoll when the kernel forbids it; `why_not_uring` (may be null) then says why in one line.
Result<std::unique_ptr<Reactor>> make_reactor(const ReactorOptions& options, std::string* why_not_uring);
/// False: io_uring cannot be used here, and `why_not` (may be null) says why in one line.
bool uring_usable(std::string* why_not);
/// For who wants epoll and nothing of liburing in its program.
Result<std::unique_ptr<Reactor>> make_epoll_reactor(const ReactorOptions& options);

}  // namespace memkv::io
