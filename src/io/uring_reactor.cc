/// The reactor over io_uring: one enter per turn, submissions batched, device buffers registered.

#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "base/units.h"
#include "io/loop.h"
#include "io/socket.h"

namespace memkv::io {
namespace {

constexpr uint64_t kIgnored = 0;  // user_data of cancels
constexpr uint64_t kWakeTag = 1;  // user_data of the eventfd poll; ops are pointers, never 1
constexpr uint32_t kSubmissionsMax = 1024;
constexpr uint32_t kBuffersMax = 256;
constexpr size_t kBufferBytesMax = size_t{1} << 30;  // the kernel's limit for one registered buffer
constexpr size_t kReapBatch = 64;
constexpr uint64_t kWaitNsMax = 3600ull * 1'000'000'000;

/// Sets of flags to try, the best first. The ring starts disabled, so that its single issuer becomes the thread that
/// runs the loop, which need not be the one that makes the ring.
constexpr std::array<uint32_t, 3> kSetupFlags = {
    IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_R_DISABLED,
};

int set_up_ring(io_uring& ring, uint32_t submissions, uint32_t completions) {
  int failed = -EINVAL;
  for (const uint32_t flags : kSetupFlags) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = completions;
    failed = io_uring_queue_init_params(submissions, &ring, &params);
    if (failed == 0) return 0;
    if (failed != -EINVAL) break;
  }
  return failed;
}

/// Not io_uring_enable_rings: Debian 12's liburing.so declares it and does not export it. Returns -errno.
int enable_ring(const io_uring& ring) {
  const long failed = syscall(SYS_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  return failed == 0 ? 0 : -errno;
}

/// The system call that io_uring failed at, and how.
struct Refusal {
  const char* call;
  int failed;  ///< -errno; 0: none
};

/// Makes, enables and enters a small ring, as the reactor does with its own. Some sandboxes filter only one of the
/// three calls; trying all of them finds a ring that cannot be used at start and not while serving.
Refusal probe_ring() {
  io_uring ring{};
  if (const int failed = set_up_ring(ring, 4, 16); failed < 0) return {"io_uring_setup", failed};
  Refusal refusal{"io_uring_register", enable_ring(ring)};
  const uint32_t needed = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE;
  if ((ring.features & needed) != needed) refusal = {"io_uring_setup", -EOPNOTSUPP};
  if (refusal.failed == 0) {
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    refusal = {"io_uring_enter", std::min(io_uring_submit_and_wait(&ring, 1), 0)};
  }
  io_uring_queue_exit(&ring);
  return refusal;
}

/// "kernel.io_uring_disabled is 2", where that is why; else it was a filter.
std::string who_forbids() {
  int disabled = 0;
  if (std::ifstream("/proc/sys/kernel/io_uring_disabled") >> disabled && disabled != 0)
    return "by kernel.io_uring_disabled = " + std::to_string(disabled);
  return "by a seccomp filter";
}

/// Some kernels count rings as locked memory (6.18 does).
std::string who_keeps_memory() {
  const uint64_t limit = memlock_limit_bytes();
  if (limit == std::numeric_limits<uint64_t>::max()) return "raise the container's memory, or ulimit -l";
  return "the memlock limit is " + base::format_bytes(limit) + ", raise it (ulimit -l)";
}

std::string explain(const Refusal& refusal) {
  const int error = -refusal.failed;
  const std::string call = refusal.call;
  const std::string code = std::string(" (") + call + ": " + strerrorname_np(error) + ")";
  const bool denied = error == EPERM || error == EACCES || (error == ENOSYS && call != "io_uring_setup");
  if (denied && call != "eventfd2") return "io_uring is forbidden here, " + who_forbids() + code;
  switch (error) {
    case ENOSYS:
      return "this kernel has no io_uring, or a seccomp filter hides it" + code;
    case ENOMEM:
      return "no memory for io_uring: " + who_keeps_memory() + code;
    case EOPNOTSUPP:
      return "this kernel's io_uring is too old" + code;
    default:
      return std::string("io_uring cannot be set up: ") + strerror(error) + code;
  }
}

/// Submissions stay queued and the next turn tries again.
bool is_passing(int error) { return error == -EBUSY || error == -EAGAIN || error == -EINTR || error == -ENOMEM; }

/// Thread: the one that runs it; registration may come before from the one that made it.
class UringReactor final : public LoopBase {
 public:
  explicit UringReactor(const ReactorOptions& options) : LoopBase(options.ops_max) {}
  ~UringReactor() override;
  int open(const ReactorOptions& options);
  int waker_error() const { return waker_.error(); }

  std::string_view name() const override { return "io_uring"; }
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
  void register_memory(std::span<std::byte> memory) override;
  size_t run_once(uint64_t wait_ns) override;

 private:
  struct Buffer {
    std::byte* begin;
    size_t bytes;
  };
  static constexpr int kNotRegistered = -1;

  io_uring_sqe* next_sqe();
  Result<io_uring_sqe*> admit_sqe(IoOp& op, IoOp::Kind kind, int fd, std::span<const iovec> pieces);
  Result<void> poll_for(IoOp& op, IoOp::Kind kind, int fd, unsigned events);
  void enable();
  void flush();
  void watch_wake();
  bool kernel_has_work() const;
  void enter(uint64_t wait_ns);
  size_t reap();
  void on_completion(uint64_t user_data, int32_t result, uint32_t flags, size_t& ran);
  int buffer_of(const iovec& piece) const;

  io_uring ring_{};
  bool open_ = false;
  bool enabled_ = false;
  bool wake_watched_ = false;
  bool may_hold_ = true;  // what is queued for the kernel, for a turn
  bool buffers_usable_ = false;
  std::vector<Buffer> buffers_;
};

UringReactor::~UringReactor() {
  if (open_) io_uring_queue_exit(&ring_);
}

int UringReactor::open(const ReactorOptions& options) {
  const uint32_t submissions = std::min(std::bit_ceil(std::max(options.ops_max, 8u)), kSubmissionsMax);
  // Every op and every cancel of one may complete before the next reap.
  const int failed = set_up_ring(ring_, submissions, std::bit_ceil(2 * options.ops_max + 16));
  if (failed < 0) return failed;
  open_ = true;
  buffers_.reserve(kBuffersMax);
  buffers_usable_ = io_uring_register_buffers_sparse(&ring_, kBuffersMax) == 0;
  return 0;
}

/// Null only if the kernel takes no submissions at all (out of memory).
io_uring_sqe* UringReactor::next_sqe() {
  io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
  if (sqe) return sqe;
  flush();
  return io_uring_get_sqe(&ring_);
}

Result<io_uring_sqe*> UringReactor::admit_sqe(IoOp& op, IoOp::Kind kind, int fd, std::span<const iovec> pieces) {
  auto admitted = pieces.empty() ? admit(op, kind, fd) : admit_pieces(op, kind, fd, pieces);
  if (!admitted) return admitted.error();
  io_uring_sqe* sqe = next_sqe();
  if (sqe) return sqe;
  unadmit(op);
  return Error{Status::kBusy, 0, "io_uring: submission queue full"};
}

Result<void> UringReactor::accept(IoOp& op, int listen_fd) {
  auto sqe = admit_sqe(op, IoOp::Kind::kAccept, listen_fd, {});
  if (!sqe) return sqe.error();
  io_uring_prep_accept(sqe.value(), listen_fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  io_uring_sqe_set_data(sqe.value(), &op);
  return {};
}

Result<void> UringReactor::connect(IoOp& op, int fd, const sockaddr* address, socklen_t length) {
  auto sqe = admit_sqe(op, IoOp::Kind::kConnect, fd, {});
  if (!sqe) return sqe.error();
  io_uring_prep_connect(sqe.value(), fd, address, length);
  io_uring_sqe_set_data(sqe.value(), &op);
  flush();  // the kernel copies the address as it takes the submission
  return {};
}

Result<void> UringReactor::recv(IoOp& op, int fd, std::span<const iovec> pieces) {
  if (pieces.empty()) return Error{Status::kInvalid, 0, "recv: no pieces"};
  auto sqe = admit_sqe(op, IoOp::Kind::kRecv, fd, pieces);
  if (!sqe) return sqe.error();
  if (pieces.size() == 1 && op.control.empty()) {
    io_uring_prep_recv(sqe.value(), fd, pieces[0].iov_base, pieces[0].iov_len, 0);
  } else {
    io_uring_prep_recvmsg(sqe.value(), fd, &op.message, MSG_CMSG_CLOEXEC);
  }
  io_uring_sqe_set_data(sqe.value(), &op);
  return {};
}

Result<void> UringReactor::send(IoOp& op, int fd, std::span<const iovec> pieces) {
  if (pieces.empty()) return Error{Status::kInvalid, 0, "send: no pieces"};
  auto sqe = admit_sqe(op, IoOp::Kind::kSend, fd, pieces);
  if (!sqe) return sqe.error();
  if (pieces.size() == 1) {
    io_uring_prep_send(sqe.value(), fd, pieces[0].iov_base, pieces[0].iov_len, MSG_NOSIGNAL);
  } else {
    io_uring_prep_sendmsg(sqe.value(), fd, &op.message, MSG_NOSIGNAL);
  }
  io_uring_sqe_set_data(sqe.value(), &op);
  return {};
}

Result<void> UringReactor::poll_for(IoOp& op, IoOp::Kind kind, int fd, unsigned events) {
  auto sqe = admit_sqe(op, kind, fd, {});
  if (!sqe) return sqe.error();
  io_uring_prep_poll_add(sqe.value(), fd, events);
  io_uring_sqe_set_data(sqe.value(), &op);
  return {};
}

Result<void> UringReactor::readable(IoOp& op, int fd) { return poll_for(op, IoOp::Kind::kReadable, fd, POLLIN); }

Result<void> UringReactor::writable(IoOp& op, int fd) { return poll_for(op, IoOp::Kind::kWritable, fd, POLLOUT); }

Result<void> UringReactor::read(IoOp& op, int fd, uint64_t offset, std::span<const iovec> pieces) {
  if (pieces.empty()) return Error{Status::kInvalid, 0, "read: no pieces"};
  auto sqe = admit_sqe(op, IoOp::Kind::kRead, fd, pieces);
  if (!sqe) return sqe.error();
  const iovec& first = pieces[0];
  const auto length = static_cast<uint32_t>(first.iov_len);
  if (pieces.size() > 1) {
    io_uring_prep_readv(sqe.value(), fd, pieces.data(), static_cast<uint32_t>(pieces.size()), offset);
  } else if (const int index = buffer_of(first); index != kNotRegistered) {
    io_uring_prep_read_fixed(sqe.value(), fd, first.iov_base, length, offset, index);
  } else {
    io_uring_prep_read(sqe.value(), fd, first.iov_base, length, offset);
  }
  io_uring_sqe_set_data(sqe.value(), &op);
  return {};
}

Result<void> UringReactor::write(IoOp& op, int fd, uint64_t offset, std::span<const iovec> pieces, bool dsync) {
  if (pieces.empty()) return Error{Status::kInvalid, 0, "write: no pieces"};
  auto sqe = admit_sqe(op, IoOp::Kind::kWrite, fd, pieces);
  if (!sqe) return sqe.error();
  const iovec& first = pieces[0];
  const auto length = static_cast<uint32_t>(first.iov_len);
  if (pieces.size() > 1) {
    io_uring_prep_writev(sqe.value(), fd, pieces.data(), static_cast<uint32_t>(pieces.size()), offset);
  } else if (const int index = buffer_of(first); index != kNotRegistered) {
    io_uring_prep_write_fixed(sqe.value(), fd, first.iov_base, length, offset, index);
  } else {
    io_uring_prep_write(sqe.value(), fd, first.iov_base, length, offset);
  }
  if (dsync) sqe.value()->rw_flags = RWF_DSYNC;
  io_uring_sqe_set_data(sqe.value(), &op);
  return {};
}

Result<void> UringReactor::sync(IoOp& op, int fd) {
  auto sqe = admit_sqe(op, IoOp::Kind::kSync, fd, {});
  if (!sqe) return sqe.error();
  io_uring_prep_fsync(sqe.value(), fd, IORING_FSYNC_DATASYNC);
  io_uring_sqe_set_data(sqe.value(), &op);
  return {};
}

void UringReactor::cancel(IoOp& op) {
  check_thread();
  if (!op.pending() || op.canceled) return;
  op.canceled = true;
  if (op.kind == IoOp::Kind::kPost) {
    op.result = -ECANCELED;
    return;
  }
  // Submissions are taken in order, so this one can never meet a later life of the same op.
  io_uring_sqe* sqe = next_sqe();
  if (!sqe) return;  // best effort
  io_uring_prep_cancel(sqe, &op, 0);
  io_uring_sqe_set_data64(sqe, kIgnored);
}

void UringReactor::register_memory(std::span<std::byte> memory) {
  if (!buffers_usable_) return;
  for (size_t at = 0; at < memory.size() && buffers_.size() < kBuffersMax; at += kBufferBytesMax) {
    const auto part = memory.subspan(at, std::min(kBufferBytesMax, memory.size() - at));
    const iovec piece{part.data(), part.size()};
    const auto index = static_cast<uint32_t>(buffers_.size());
    if (io_uring_register_buffers_update_tag(&ring_, index, &piece, nullptr, 1) < 0) return;
    buffers_.push_back({part.data(), part.size()});
  }
}

int UringReactor::buffer_of(const iovec& piece) const {
  const auto* begin = static_cast<const std::byte*>(piece.iov_base);
  for (size_t i = 0; i < buffers_.size(); i++) {
    const Buffer& buffer = buffers_[i];
    if (begin >= buffer.begin && begin + piece.iov_len <= buffer.begin + buffer.bytes) return static_cast<int>(i);
  }
  return kNotRegistered;
}

void UringReactor::enable() {
  if (enabled_) return;
  bind_thread();
  const int failed = enable_ring(ring_);
  MEMKV_ASSERT(failed == 0, "probe_ring() has seen it work in this process");
  enabled_ = true;
  watch_wake();
}

/// A multishot poll and no read: the kernel holds no pointer of ours when the ring is torn down.
void UringReactor::watch_wake() {
  io_uring_sqe* sqe = next_sqe();
  if (!sqe) return;  // tried again by the next turn
  io_uring_prep_poll_multishot(sqe, waker_.fd(), POLLIN);
  io_uring_sqe_set_data64(sqe, kWakeTag);
  wake_watched_ = true;
}

void UringReactor::flush() {
  enable();
  const int submitted = io_uring_submit(&ring_);
  MEMKV_ASSERT(submitted >= 0 || is_passing(submitted));
}

bool UringReactor::kernel_has_work() const {
  const uint32_t flags = __atomic_load_n(ring_.sq.kflags, __ATOMIC_ACQUIRE);
  return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void UringReactor::enter(uint64_t wait_ns) {
  may_hold_ = true;
  if (wait_ns == 0 || io_uring_cq_ready(&ring_) > 0) {
    // A poll of an idle ring costs no system call: the kernel raises a flag when there is something to collect.
    if (io_uring_sq_ready(&ring_) > 0 || kernel_has_work()) io_uring_submit_and_get_events(&ring_);
    return;
  }
  wait_ns = std::min(wait_ns, kWaitNsMax);
  __kernel_timespec timeout{};
  timeout.tv_sec = static_cast<int64_t>(wait_ns / 1'000'000'000);
  timeout.tv_nsec = static_cast<long long>(wait_ns % 1'000'000'000);
  io_uring_cqe* cqe = nullptr;
  io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &timeout, nullptr);
}

void UringReactor::on_completion(uint64_t user_data, int32_t result, uint32_t flags, size_t& ran) {
  if (user_data == kIgnored) return;
  if (user_data == kWakeTag) {
    wake_watched_ = (flags & IORING_CQE_F_MORE) != 0;
    return;
  }
  IoOp& op = *reinterpret_cast<IoOp*>(user_data);
  if (op.canceled && result == -EINTR) result = -ECANCELED;
  ran++;
  complete(op, result);
}

size_t UringReactor::reap() {
  size_t ran = 0;
  // Bounded by what is there now, so that completions which submit again cannot keep timers waiting.
  for (uint32_t left = io_uring_cq_ready(&ring_); left > 0;) {
    std::array<io_uring_cqe*, kReapBatch> ready;
    struct Done {
      uint64_t user_data;
      int32_t result;
      uint32_t flags;
    };
    std::array<Done, kReapBatch> done;
    const uint32_t count = io_uring_peek_batch_cqe(&ring_, ready.data(), std::min<uint32_t>(left, kReapBatch));
    if (count == 0) break;
    for (uint32_t i = 0; i < count; i++) done[i] = {ready[i]->user_data, ready[i]->res, ready[i]->flags};
    io_uring_cq_advance(&ring_, count);  // first: callbacks may enter the kernel
    for (uint32_t i = 0; i < count; i++) on_completion(done[i].user_data, done[i].result, done[i].flags, ran);
    left -= count;
  }
  return ran;
}

size_t UringReactor::run_once(uint64_t wait_ns) {
  bind_thread();
  enable();
  if (!wake_watched_) watch_wake();
  size_t ran = poll_sources();
  const bool busy = !finished_.empty() || ran > 0;
  if (!busy) wait_ns = wait_until_timer(wait_ns);
  if (busy && std::exchange(may_hold_, false)) {
    // What is at hand may submit more: one system call then takes all of it.
  } else if (busy || wait_ns == 0) {
    enter(0);
  } else {
    waker_.begin_sleep();
    const bool idle = arm_sources() && !woken();
    enter(idle ? wait_ns : 0);
    waker_.end_sleep();
    disarm_sources();
  }
  ran += reap();
  ran += run_finished();
  ran += run_timers();
  return ran + run_wake();
}

}  // namespace

bool uring_usable(std::string* why_not) {
  const Refusal refusal = probe_ring();
  if (why_not && refusal.failed != 0) *why_not = explain(refusal);
  return refusal.failed == 0;
}

Result<std::unique_ptr<Reactor>> make_uring_reactor(const ReactorOptions& options, std::string* why_not) {
  auto reactor = std::make_unique<UringReactor>(options);
  Refusal refusal{"eventfd2", -reactor->waker_error()};
  if (refusal.failed == 0) refusal = probe_ring();
  if (refusal.failed == 0) refusal = {"io_uring_setup", reactor->open(options)};
  if (refusal.failed == 0) return std::unique_ptr<Reactor>(std::move(reactor));
  if (why_not) *why_not = explain(refusal);
  return Error{Status::kUnavailable, -refusal.failed, "io_uring cannot be used here"};
}

}  // namespace memkv::io
