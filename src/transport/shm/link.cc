/// A link over two rings in shared memory, with a unix socket for wake-ups (docs/shm.md).

#include <sys/socket.h>

#include <array>
#include <utility>

#include "base/assert.h"
#include "transport/frame_reader.h"
#include "transport/send_queue.h"
#include "transport/shm/ring.h"

namespace memkv::transport {
namespace {

/// Copied and shown to the other end at a time: both ends then copy at once, and the bytes are in a cache they share.
constexpr size_t kPartBytes = 64 * 1024;
/// Written in one turn of the loop: others have their turn as well.
constexpr size_t kTurnBytes = 256 * 1024;
/// Read in one turn: replies to what was read leave before more is, so that the other end goes on meanwhile.
constexpr size_t kReadBytes = 128 * 1024;

/// Thread: the reactor's.
class ShmLink final : public Link, private io::PollSource {
 public:
  ShmLink(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys, std::shared_ptr<ShmWindow> window,
          LinkOwner& owner);
  ~ShmLink() override;
  ShmLink(const ShmLink&) = delete;
  ShmLink& operator=(const ShmLink&) = delete;

  Result<void> send(SendFrame& frame) override;
  void resume(PayloadTarget target) override;
  bool redirect() override;
  void close(Status why) override { begin_close(Error{why, 0, "closed by its owner"}); }
  uint64_t bytes_queued() const override { return queue_.bytes(); }
  uint64_t last_sent_ns() const override { return last_sent_ns_; }
  uint64_t last_received_ns() const override { return last_received_ns_; }
  int fd() const override { return fd_.get(); }

 private:
  size_t poll() override;
  bool arm() override;
  void disarm() override { rings_.wake(); }

  void listen();
  void on_bell(int32_t result);
  void ring_bell();
  bool run_reader();
  size_t receive();
  size_t send_queued();
  void begin_close(const Error& why);
  void finish_close();

  io::Reactor& reactor_;
  base::UniqueFd fd_;
  LinkOwner& owner_;
  ShmRings rings_;
  FrameReader reader_;
  SendQueue queue_;
  uint64_t last_sent_ns_, last_received_ns_;
  bool closing_ = false;
  bool resumed_ = false;    // the reader may go on with what it has
  bool peer_gone_ = false;  // what it wrote before is still read
  Error why_;

  io::IoOp bell_op_;  // always under way: a byte wakes this end, the end of the stream is the peer's death
  std::array<std::byte, 64> bell_bytes_{};
  iovec bell_piece_{};
};

ShmLink::ShmLink(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys,
                 std::shared_ptr<ShmWindow> window, LinkOwner& owner)
    : reactor_(reactor),
      fd_(fd),
      owner_(owner),
      rings_(std::move(window)),
      // A read costs the server a system call, and the client nothing.
      reader_(*this, owner, receiving_key(role, keys), role == Role::kClient ? 1 : 0,
              {.part_bytes = kPartBytes, .reads_ahead = role == Role::kServer}),
      queue_(sending_key(role, keys), role == Role::kServer ? 1 : 0),
      last_sent_ns_(reactor.now_ns()),
      last_received_ns_(last_sent_ns_) {
  bell_op_.context = this;
  bell_op_.on_done = [](io::IoOp& op, int32_t result) { static_cast<ShmLink*>(op.context)->on_bell(result); };
  bell_piece_ = {bell_bytes_.data(), bell_bytes_.size()};
  reactor_.add(*this);
  listen();
}

ShmLink::~ShmLink() { MEMKV_ASSERT(!bell_op_.pending() && !fd_, "only after on_closed"); }

// Sleeping and waking.

void ShmLink::listen() {
  if (!bell_op_.pending()) (void)reactor_.recv(bell_op_, fd_.get(), {&bell_piece_, 1});  // else at the next turn
}

void ShmLink::on_bell(int32_t result) {
  if (closing_) return;
  if (result <= 0 && result != -ECANCELED) {
    peer_gone_ = true;
    return;
  }
  listen();
}

void ShmLink::ring_bell() {
  if (!rings_.must_wake()) return;
  const std::byte one{};
  // A peer whose socket is full is awake; one that is gone is told by our own receive.
  (void)::send(fd_.get(), &one, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

bool ShmLink::arm() {
  if (closing_) return bell_op_.pending();
  if (!bell_op_.pending() || resumed_ || peer_gone_) return false;
  const bool blocked = !queue_.empty();
  rings_.sleep(blocked);
  const auto readable = rings_.readable();
  if (!readable || (*readable > 0 && !reader_.paused())) return false;
  if (!blocked) return true;
  const auto writable = rings_.writable();
  return writable && *writable == 0;
}

size_t ShmLink::poll() {
  if (closing_) {
    if (bell_op_.pending()) return 0;
    finish_close();  // may destroy this
    return 1;
  }
  if (!peer_gone_) listen();
  size_t sent = send_queued();
  const size_t received = closing_ ? 0 : receive();
  if (!closing_) sent += send_queued();
  const size_t moved = sent + received;
  if (!closing_ && peer_gone_ && moved == 0) {
    begin_close(Error{Status::kUnavailable, 0, "the peer closed the connection"});
  }
  if (moved > 0) {
    const uint64_t now = reactor_.now_ns();
    if (sent > 0) last_sent_ns_ = now;
    if (received > 0) last_received_ns_ = now;
  }
  return moved + (closing_ ? 1 : 0);
}

// Receiving.

/// False: paused, closing, or bad.
bool ShmLink::run_reader() {
  const FrameReader::Next next = reader_.run();
  if (next == FrameReader::Next::kBad) begin_close(reader_.error());
  return next == FrameReader::Next::kMore;
}

size_t ShmLink::receive() {
  size_t moved = std::exchange(resumed_, false) ? 1 : 0;
  if (moved > 0 && !run_reader()) return moved;
  while (moved < kReadBytes) {
    const auto readable = rings_.readable();
    if (!readable) return begin_close(readable.error()), moved;
    if (*readable == 0 || reader_.paused()) break;
    const auto took = rings_.read(reader_.room(), std::min(*readable, kPartBytes));
    if (!took) return begin_close(took.error()), moved;
    ring_bell();
    reader_.filled(*took);
    moved += *took;
    if (!run_reader()) break;
  }
  return moved;
}

void ShmLink::resume(PayloadTarget target) {
  if (closing_) return;
  reader_.resume(target);
  resumed_ = true;
}

/// Bytes are only ever copied in poll(): memory is quiet at once.
bool ShmLink::redirect() {
  if (!reader_.in_payload()) return true;
  if (reader_.paused() && !closing_) resume(PayloadTarget::sink());
  (void)reader_.redirect();
  return true;
}

// Sending.

Result<void> ShmLink::send(SendFrame& frame) {
  if (closing_) return Error{Status::kUnavailable, 0, "send: the link is closed"};
  return queue_.push(frame);
}

size_t ShmLink::send_queued() {
  size_t moved = 0;
  while (moved < kTurnBytes && !queue_.empty() && !closing_ && !peer_gone_) {
    const auto writable = rings_.writable();
    if (!writable) return begin_close(writable.error()), moved;
    if (*writable == 0) break;
    const size_t wrote = rings_.write(queue_.fill(), std::min(*writable, kPartBytes));
    ring_bell();
    moved += wrote;
    queue_.sent(wrote);  // any callback may close the link, never destroy it
  }
  return moved;
}

// Closing.

void ShmLink::begin_close(const Error& why) {
  if (closing_) return;
  closing_ = true;
  why_ = why;
  reader_.stop();
  // The peer hears of it even while the child of a fork still has the socket.
  (void)::shutdown(fd_.get(), SHUT_RDWR);
  if (bell_op_.pending()) reactor_.cancel(bell_op_);
  // Not fd_.reset() yet: the bell's receive may still be the kernel's. finish_close() comes from poll().
}

void ShmLink::finish_close() {
  MEMKV_ASSERT(closing_ && !bell_op_.pending(), "the kernel may still write to this");
  reactor_.remove(*this);
  queue_.fail_all();
  fd_.reset();
  owner_.on_closed(*this, Error{why_});  // may destroy this
}

}  // namespace

std::unique_ptr<Link> make_shm_link(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys,
                                    std::shared_ptr<ShmWindow> window, LinkOwner& owner) {
  return std::make_unique<ShmLink>(reactor, fd, role, keys, std::move(window), owner);
}

}  // namespace memkv::transport
