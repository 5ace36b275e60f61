/// The reactor over epoll, for where io_uring is forbidden. Sockets are tried first and watched only when they would
/// block; device I/O goes to threads.

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "base/standard_streams.h"
#include "base/thread.h"
#include "io/device_threads.h"

namespace memkv::io {
namespace {

constexpr int kEventsMax = 128;
constexpr uint64_t kWakeTag = ~uint64_t{0};
constexpr uint64_t kWaitNsMax = 3600ull * 1'000'000'000;
/// While sockets complete at once, epoll is asked only once in this many turns. Other descriptors wait that much
/// longer.
constexpr uint32_t kTurnsWithoutPoll = 4;

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

bool is_ready(int fd, short events) {
  pollfd polled{fd, events, 0};
  return ::poll(&polled, 1, 0) > 0;
}

/// Accept and connect block by the descriptor's own flag; recv and send by theirs.
bool make_nonblocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && ((flags & O_NONBLOCK) != 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
}

/// Thread: the one that runs it.
class EpollReactor final : public LoopBase {
 public:
  explicit EpollReactor(const ReactorOptions& options);
  ~EpollReactor() override;
  Result<void> open();
  bool serves_devices() const { return devices_ && devices_->size() > 0; }

  std::string_view name() const override { return "epoll"; }
  Result<void> accept(IoOp& op, int listen_fd) override;
  Result<void> connect(IoOp& op, int fd, const sockaddr* address, socklen_t length) override;
  Result<void> recv(IoOp& op, int fd, std::span<const iovec> pieces) override;
  Result<void> send(IoOp& op, int fd, std::span<const iovec> pieces) override;
  Result<void> readable(IoOp& op, int fd) override;
  Result<void> writable(IoOp& op, int fd) override;
  Result<void> read(IoOp& op, int fd, uint64_t offset, std::span<const iovec> pieces) override;
  Result<void> write(IoOp& op, int fd, uint64_t offset, std::span<const iovec> pieces, bool dsync) override;
  Result<void> sync(IoOp& op, int fd) override;
  void cancel(IoOp& op) override;
  void register_memory(std::span<std::byte>) override {}
  size_t run_once(uint64_t wait_ns) override;
  int wait_fd() const override { return epoll_fd_; }
  uint64_t arm_wait() override;

 private:
  /// What is known of one descriptor number. `armed` can be trusted only while an op waits for the descriptor: then the
  /// owner cannot have closed it and got the number again.
  struct Socket {
    IoOp* in = nullptr;    // recv or accept
    IoOp* out = nullptr;   // send or connect
    uint32_t armed = 0;    // events that the kernel will report, once
    bool added = false;    // a guess: after a close and reuse of the number the kernel knows better
    bool drained = false;  // the last recv got less than it asked: the next would block
  };

  static bool is_input(const IoOp& op) {
    return op.kind == IoOp::Kind::kRecv || op.kind == IoOp::Kind::kAccept || op.kind == IoOp::Kind::kReadable;
  }
  static bool is_device(const IoOp& op) {
    return op.kind == IoOp::Kind::kRead || op.kind == IoOp::Kind::kWrite || op.kind == IoOp::Kind::kSync;
  }
  Socket& socket_of(int fd);
  Result<void> admit_socket(IoOp& op, IoOp::Kind kind, int fd, std::span<const iovec> pieces);
  void queue(IoOp& op);
  Result<void> submit_device(Result<void> admitted, IoOp& op, uint64_t offset);
  void detach(IoOp& op);
  bool attempt(IoOp& op);
  bool attempt_move(IoOp& op);
  bool attempt_accept(IoOp& op);
  bool attempt_connect(IoOp& op);
  void finish(IoOp& op, int32_t result);
  size_t await(IoOp& op);
  int arm(int fd, Socket& socket);
  size_t run_ready();
  size_t poll(uint64_t wait_ns);
  int wait_events(std::array<epoll_event, kEventsMax>& events, uint64_t wait_ns);
  size_t on_event(int fd);
  size_t run_devices();
  bool busy() const { return !ready_.empty() || !finished_.empty() || device_done(); }
  bool device_done() const { return devices_ && devices_->any_done(); }

  int epoll_fd_ = -1;
  bool nanoseconds_ = true;  // epoll_pwait2 works
  uint32_t turns_without_poll_ = 0;
  std::vector<Socket> sockets_;  // by descriptor number; grows with the highest one
  OpQueue ready_;
  std::unique_ptr<DeviceThreads> devices_;
};

EpollReactor::EpollReactor(const ReactorOptions& options) : LoopBase(options.ops_max) {
  if (options.device_threads > 0) devices_ = std::make_unique<DeviceThreads>(options.device_threads, waker_);
}

EpollReactor::~EpollReactor() {
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

Result<void> EpollReactor::open() {
  epoll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  if (epoll_fd_ < 0) return Error{Status::kIo, errno, "epoll_create1"};
  if (waker_.fd() < 0) return Error{Status::kIo, waker_.error(), "eventfd"};
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = kWakeTag;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, waker_.fd(), &event) < 0) return Error{Status::kIo, errno, "epoll_ctl"};
  return {};
}

EpollReactor::Socket& EpollReactor::socket_of(int fd) {
  const auto index = static_cast<size_t>(fd);
  if (index >= sockets_.size()) sockets_.resize(std::max(index + 1, 2 * sockets_.size()));
  return sockets_[index];
}

Result<void> EpollReactor::admit_socket(IoOp& op, IoOp::Kind kind, int fd, std::span<const iovec> pieces) {
  if (fd < 0) return Error{Status::kInvalid, EBADF, "epoll: bad descriptor"};
  const bool moves = kind == IoOp::Kind::kRecv || kind == IoOp::Kind::kSend;
  auto admitted = moves ? admit_pieces(op, kind, fd, pieces) : admit(op, kind, fd);
  if (!admitted) return admitted;
  Socket& socket = socket_of(fd);
  IoOp*& seat = is_input(op) ? socket.in : socket.out;
  MEMKV_ASSERT(seat == nullptr);  // one op per direction
  if (!socket.in && !socket.out) socket.armed = 0;
  seat = &op;
  return {};
}

void EpollReactor::queue(IoOp& op) {
  op.place = IoOp::Place::kReady;
  ready_.push(op);
}

Result<void> EpollReactor::accept(IoOp& op, int listen_fd) {
  if (!make_nonblocking(listen_fd)) return Error{Status::kIo, errno, "accept: bad descriptor"};
  auto admitted = admit_socket(op, IoOp::Kind::kAccept, listen_fd, {});
  if (admitted) queue(op);
  return admitted;
}

Result<void> EpollReactor::connect(IoOp& op, int fd, const sockaddr* address, socklen_t length) {
  if (!make_nonblocking(fd)) return Error{Status::kIo, errno, "connect: bad descriptor"};
  auto admitted = admit_socket(op, IoOp::Kind::kConnect, fd, {});
  if (!admitted) return admitted;
  // Here and not in run_once, since the address is only the caller's for now; on_done still comes later.
  const int failed = ::connect(fd, address, length) < 0 ? errno : 0;
  if (failed == EINPROGRESS) {
    await(op);
  } else {
    detach(op);
    finish_later(op, -failed);
  }
  return {};
}

Result<void> EpollReactor::recv(IoOp& op, int fd, std::span<const iovec> pieces) {
  auto admitted = admit_socket(op, IoOp::Kind::kRecv, fd, pieces);
  if (admitted) queue(op);
  return admitted;
}

Result<void> EpollReactor::send(IoOp& op, int fd, std::span<const iovec> pieces) {
  auto admitted = admit_socket(op, IoOp::Kind::kSend, fd, pieces);
  if (admitted) queue(op);
  return admitted;
}

Result<void> EpollReactor::readable(IoOp& op, int fd) {
  auto admitted = admit_socket(op, IoOp::Kind::kReadable, fd, {});
  if (admitted) queue(op);
  return admitted;
}

Result<void> EpollReactor::writable(IoOp& op, int fd) {
  auto admitted = admit_socket(op, IoOp::Kind::kWritable, fd, {});
  if (admitted) queue(op);
  return admitted;
}

Result<void> EpollReactor::submit_device(Result<void> admitted, IoOp& op, uint64_t offset) {
  if (!admitted) return admitted;
  if (!devices_) {
    unadmit(op);
    return Error{Status::kInvalid, 0, "epoll: made without device threads"};
  }
  op.offset = offset;
  devices_->submit(op);
  return {};
}

Result<void> EpollReactor::read(IoOp& op, int fd, uint64_t offset, std::span<const iovec> pieces) {
  return submit_device(admit_pieces(op, IoOp::Kind::kRead, fd, pieces), op, offset);
}

Result<void> EpollReactor::write(IoOp& op, int fd, uint64_t offset, std::span<const iovec> pieces, bool dsync) {
  auto admitted = admit_pieces(op, IoOp::Kind::kWrite, fd, pieces);
  if (admitted) op.dsync = dsync;
  return submit_device(std::move(admitted), op, offset);
}

Result<void> EpollReactor::sync(IoOp& op, int fd) { return submit_device(admit(op, IoOp::Kind::kSync, fd), op, 0); }

/// Forgets a socket op wherever it waits; nothing touches its memory from here on.
void EpollReactor::detach(IoOp& op) {
  if (op.place == IoOp::Place::kReady) ready_.remove(op);
  Socket& socket = sockets_[static_cast<size_t>(op.fd)];
  (is_input(op) ? socket.in : socket.out) = nullptr;
}

void EpollReactor::cancel(IoOp& op) {
  check_thread();
  if (!op.pending() || op.canceled) return;
  op.canceled = true;
  if (is_device(op)) {
    // Not read outside the pool's lock: a thread may be changing `place`.
    if (devices_ && devices_->withdraw(op)) finish_later(op, -ECANCELED);
    return;
  }
  if (op.place == IoOp::Place::kDone) {
    if (op.kind == IoOp::Kind::kPost) op.result = -ECANCELED;
    return;
  }
  detach(op);
  finish_later(op, -ECANCELED);
}

void EpollReactor::finish(IoOp& op, int32_t result) {
  detach(op);
  complete(op, result);
}

bool EpollReactor::attempt_move(IoOp& op) {
  const bool receiving = op.kind == IoOp::Kind::kRecv;
  const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
  ssize_t moved = 0;
  do {
    moved = receiving ? ::recvmsg(op.fd, &op.message, flags | MSG_CMSG_CLOEXEC) : ::sendmsg(op.fd, &op.message, flags);
  } while (moved < 0 && errno == EINTR);
  const int error = errno;
  if (moved < 0 && would_block(error)) return false;
  if (receiving) {
    const size_t asked = pieces_bytes({op.message.msg_iov, op.message.msg_iovlen});
    sockets_[static_cast<size_t>(op.fd)].drained = moved > 0 && static_cast<size_t>(moved) < asked;
  }
  finish(op, moved < 0 ? -error : static_cast<int32_t>(moved));
  return true;
}

bool EpollReactor::attempt_accept(IoOp& op) {
  int fd = -1;
  do {
    fd = base::above_standard_streams(accept4(op.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  } while (fd < 0 && errno == EINTR);
  if (fd < 0 && would_block(errno)) return false;
  finish(op, fd < 0 ? -errno : fd);
  return true;
}

bool EpollReactor::attempt_connect(IoOp& op) {
  int error = 0;
  socklen_t length = sizeof error;
  if (getsockopt(op.fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0) error = errno;
  sockaddr_storage peer{};
  socklen_t peer_length = sizeof peer;
  // A spurious event comes while the connection is still being made: no error, and no peer yet.
  if (error == 0 && getpeername(op.fd, reinterpret_cast<sockaddr*>(&peer), &peer_length) < 0) {
    if (errno == ENOTCONN) return false;
    error = errno;
  }
  finish(op, -error);
  return true;
}

/// Does the op's system call; false when it would block.
bool EpollReactor::attempt(IoOp& op) {
  switch (op.kind) {
    case IoOp::Kind::kAccept:
      return attempt_accept(op);
    case IoOp::Kind::kConnect:
      return attempt_connect(op);
    case IoOp::Kind::kReadable:
    case IoOp::Kind::kWritable:
      if (!is_ready(op.fd, op.kind == IoOp::Kind::kReadable ? POLLIN : POLLOUT)) return false;
      finish(op, 0);
      return true;
    default:
      return attempt_move(op);
  }
}

/// Tells the kernel what the socket's waiting ops wait for, unless it knows. Returns an errno.
int EpollReactor::arm(int fd, Socket& socket) {
  const auto armed_by = [](const IoOp* op) { return op != nullptr && op->place == IoOp::Place::kArmed; };
  const uint32_t wanted = (armed_by(socket.in) ? EPOLLIN | EPOLLRDHUP : 0u) | (armed_by(socket.out) ? EPOLLOUT : 0u);
  if (wanted == 0 || (socket.armed & wanted) == wanted) return 0;
  epoll_event event{};
  event.events = wanted | EPOLLONESHOT;
  event.data.u64 = static_cast<uint64_t>(fd);
  int failed = epoll_ctl(epoll_fd_, socket.added ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0 ? errno : 0;
  if (failed == ENOENT || failed == EEXIST) {  // closed and reused, or still there from a life before
    failed = epoll_ctl(epoll_fd_, failed == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0 ? errno : 0;
  }
  socket.added = failed == 0;
  socket.armed = failed == 0 ? wanted : 0;
  return failed;
}

/// Waits for the op's socket. Returns 1 if that failed, so that a completion is due.
size_t EpollReactor::await(IoOp& op) {
  op.place = IoOp::Place::kArmed;
  const int failed = arm(op.fd, sockets_[static_cast<size_t>(op.fd)]);
  if (failed == 0) return 0;
  detach(op);
  finish_later(op, -failed);
  return 1;
}

size_t EpollReactor::run_ready() {
  size_t ran = 0;
  for (size_t left = ready_.size(); left > 0 && !ready_.empty(); left--) {
    IoOp& op = *ready_.pop();
    op.place = IoOp::Place::kNone;
    bool& drained = sockets_[static_cast<size_t>(op.fd)].drained;
    const bool hopeless = op.kind == IoOp::Kind::kRecv && drained;
    drained = drained && op.kind != IoOp::Kind::kRecv;
    if (!hopeless && attempt(op)) {
      ran++;
    } else {
      await(op);
    }
  }
  return ran;
}

int EpollReactor::wait_events(std::array<epoll_event, kEventsMax>& events, uint64_t wait_ns) {
  wait_ns = std::min(wait_ns, kWaitNsMax);
  if (wait_ns > 0 && nanoseconds_) {
    timespec timeout{};
    timeout.tv_sec = static_cast<time_t>(wait_ns / 1'000'000'000);
    timeout.tv_nsec = static_cast<long>(wait_ns % 1'000'000'000);
    const int count = epoll_pwait2(epoll_fd_, events.data(), kEventsMax, &timeout, nullptr);
    if (count >= 0 || errno == EINTR) return std::max(count, 0);
    nanoseconds_ = false;  // an old kernel, or a filter that does not know the call
  }
  const int wait_ms = static_cast<int>((wait_ns + 999'999) / 1'000'000);
  return std::max(epoll_wait(epoll_fd_, events.data(), kEventsMax, wait_ms), 0);
}

size_t EpollReactor::on_event(int fd) {
  const auto index = static_cast<size_t>(fd);
  sockets_[index].armed = 0;  // one shot
  size_t ran = 0;
  // Looked up anew each time: callbacks may grow the table, and may submit again (those are kReady, not kArmed).
  for (const bool input : {true, false}) {
    IoOp* op = input ? sockets_[index].in : sockets_[index].out;
    if (op && op->place == IoOp::Place::kArmed && attempt(*op)) ran++;
  }
  for (const bool input : {true, false}) {
    IoOp* op = input ? sockets_[index].in : sockets_[index].out;
    if (op && op->place == IoOp::Place::kArmed) await(*op);
  }
  return ran;
}

size_t EpollReactor::poll(uint64_t wait_ns) {
  turns_without_poll_ = 0;
  std::array<epoll_event, kEventsMax> events;
  const int count = wait_events(events, wait_ns);
  size_t ran = 0;
  for (int i = 0; i < count; i++) {
    if (events[static_cast<size_t>(i)].data.u64 == kWakeTag) continue;
    ran += on_event(static_cast<int>(events[static_cast<size_t>(i)].data.u64));
  }
  return ran;
}

size_t EpollReactor::run_devices() {
  if (!device_done()) return 0;
  OpQueue done;
  devices_->take_done(done);
  size_t ran = 0;
  for (IoOp* op; (op = done.pop()) != nullptr; ran++) complete(*op, op->result);
  return ran;
}

uint64_t EpollReactor::arm_wait() {
  waker_.begin_sleep();
  const bool idle = arm_sources();
  return !idle || busy() || woken() ? 0 : wait_until_timer(kWaitNsMax);
}

size_t EpollReactor::run_once(uint64_t wait_ns) {
  bind_thread();
  disarm_sources();
  size_t ran = poll_sources();
  const bool busy_now = busy() || ran > 0;
  if (!busy_now) wait_ns = wait_until_timer(wait_ns);
  if (busy_now || (wait_ns == 0 && has_sources())) {
    if (++turns_without_poll_ >= kTurnsWithoutPoll) ran += poll(0);
  } else if (wait_ns == 0) {
    ran += poll(0);
  } else {
    waker_.begin_sleep();
    const bool idle = arm_sources() && !woken() && !device_done();
    ran += poll(idle ? wait_ns : 0);
    waker_.end_sleep();
    disarm_sources();
  }
  ran += run_ready();
  ran += run_devices();
  ran += run_finished();
  ran += run_timers();
  return ran + run_wake();
}

}  // namespace

Result<std::unique_ptr<Reactor>> make_epoll_reactor(const ReactorOptions& options) {
  auto reactor = std::make_unique<EpollReactor>(options);
  if (options.device_threads > 0 && !reactor->serves_devices()) return base::no_thread(EAGAIN);
  if (auto opened = reactor->open(); !opened) return opened.error();
  return std::unique_ptr<Reactor>(std::move(reactor));
}

}  // namespace memkv::io
