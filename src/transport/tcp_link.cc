/// A link over a TCP socket: one receive and one send in flight, no allocation per frame. Payloads are sent by the loop,
/// which copies them, or lent to the socket from here (one_copy.h).

#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/unique_fd.h"
#include "io/socket.h"
#include "transport/consumed_report.h"
#include "transport/deferred_call.h"
#include "transport/frame_reader.h"
#include "transport/one_copy.h"
#include "transport/send_queue.h"

namespace memkv::transport {
namespace {

/// Of a payload in one receive.
constexpr size_t kPayloadPart = 256 * 1024;
constexpr uint32_t kUnsentBytes = 256 * 1024;
/// Sent from here in one turn of the loop, which then looks at its other descriptors.
constexpr size_t kTurnBytes = 1 << 20;

/// Stands between the reader and the link's owner, for what ends tell each other of consumed payloads. Thread: the
/// reactor's.
class TcpLink final : public Link, private LinkOwner {
 public:
  TcpLink(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys, LinkOwner& owner,
          const TcpOptions& options);
  ~TcpLink() override;
  TcpLink(const TcpLink&) = delete;
  TcpLink& operator=(const TcpLink&) = delete;

  Result<void> send(SendFrame& frame) override;
  void resume(PayloadTarget target) override;
  bool redirect() override;
  void close(Status why) override { begin_close(Error{why, 0, "closed by its owner"}); }
  uint64_t bytes_queued() const override { return queue_.bytes(); }
  uint64_t last_sent_ns() const override { return last_sent_ns_; }
  uint64_t last_received_ns() const override { return last_received_ns_; }
  int fd() const override { return fd_.get(); }

 private:
  void on_turn();
  void begin_close(const Error& why);
  void finish_close();
  void start_receive();
  void on_received(int32_t result);
  void run_receive();
  void start_send();
  void on_sent(int32_t result);
  void send_lent();
  int64_t send_run();
  void stop_lending();

  PayloadTarget on_frame(Link& link, const wire::FrameHeader& header, std::span<const std::byte> body) override;
  void on_payload_part(Link& link, size_t arrived) override;
  void on_payload(Link& link) override;
  void on_closed(Link&, const Error&) override {}
  void on_consumed(const wire::FrameHeader& header, std::span<const std::byte> body);

  io::Reactor& reactor_;
  base::UniqueFd fd_;
  LinkOwner& owner_;
  const bool cancel_is_synchronous_;
  uint64_t last_sent_ns_, last_received_ns_;
  bool closing_ = false;
  Error why_;
  DeferredCall turn_;

  FrameReader reader_;
  io::IoOp receive_op_;
  bool receive_wanted_ = false;  // at the next turn

  SendQueue queue_;
  io::IoOp send_op_;
  bool waits_writable_ = false;  // what send_op_ is for; else it sends

  std::optional<ConsumedReport> report_;  // the peer wants to hear of it
  std::optional<PageLender> lender_;
};

TcpLink::TcpLink(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys, LinkOwner& owner,
                 const TcpOptions& options)
    : reactor_(reactor),
      fd_(fd),
      owner_(owner),
      cancel_is_synchronous_(reactor.name() == "epoll"),
      last_sent_ns_(reactor.now_ns()),
      last_received_ns_(last_sent_ns_),
      turn_(
          reactor, [](void* self) { static_cast<TcpLink*>(self)->on_turn(); }, this),
      reader_(*this, *this, receiving_key(role, keys), 0, {.part_bytes = kPayloadPart, .reads_ahead = true}),
      queue_(sending_key(role, keys), 0) {
  // Hints: a socket that takes neither still works.
  (void)io::set_nodelay(fd);
  (void)io::set_notsent_lowat(fd, kUnsentBytes);
  receive_op_.context = send_op_.context = this;
  receive_op_.on_done = [](io::IoOp& op, int32_t n) { static_cast<TcpLink*>(op.context)->on_received(n); };
  send_op_.on_done = [](io::IoOp& op, int32_t n) { static_cast<TcpLink*>(op.context)->on_sent(n); };
  if ((options.features & wire::kFeatureConsumed) != 0) {
    report_.emplace(reactor, *this);
    if (options.one_copy != nullptr) queue_.lend(lender_.emplace(*options.one_copy).stats());
  }
  start_receive();
}

TcpLink::~TcpLink() { MEMKV_ASSERT(!receive_op_.pending() && !send_op_.pending(), "only after on_closed"); }

/// One turn serves all that may not happen inside a call of the owner.
void TcpLink::on_turn() {
  if (!closing_ && std::exchange(receive_wanted_, false) && !receive_op_.pending()) run_receive();
  if (!closing_) start_send();
  if (closing_) finish_close();  // the last statement: it may destroy this
}

void TcpLink::begin_close(const Error& why) {
  if (closing_) return;
  closing_ = true;
  why_ = why;
  reader_.stop();
  // The peer hears of it even while the child of a fork still has the socket.
  (void)::shutdown(fd_.get(), SHUT_RDWR);
  if (queue_.lends_now()) io::reset_tcp(fd_.get());  // so that no page is sent once more, whoever has the socket
  if (receive_op_.pending()) reactor_.cancel(receive_op_);
  if (send_op_.pending()) reactor_.cancel(send_op_);
  turn_.soon();  // also when the cancels complete later: on_closed never runs inside whoever called us
}

/// Whoever comes last of the ops ends the link.
void TcpLink::finish_close() {
  if (turn_.pending() || receive_op_.pending() || send_op_.pending()) return;
  queue_.fail_all();
  fd_.reset();
  owner_.on_closed(*this, Error{why_});  // may destroy this
}

// Receiving.

void TcpLink::start_receive() {
  if (reactor_.recv(receive_op_, fd_.get(), reader_.room())) return;
  reader_.drop_room();
  receive_wanted_ = true;
  turn_.later();
}

void TcpLink::on_received(int32_t result) {
  if (closing_) return finish_close();
  if (result == -ECANCELED) {  // redirect() did it
    reader_.drop_room();
    return run_receive();
  }
  if (result == 0) return begin_close(Error{Status::kUnavailable, 0, "the peer closed the connection"});
  if (result < 0) return begin_close(Error{Status::kUnavailable, -result, "receive failed"});
  last_received_ns_ = reactor_.now_ns();
  reader_.filled(static_cast<size_t>(result));
  run_receive();
}

/// Works off what was received, then asks for more. Any callback may close the link, never destroy it.
void TcpLink::run_receive() {
  switch (reader_.run()) {
    case FrameReader::Next::kMore:
      return start_receive();
    case FrameReader::Next::kBad:
      return begin_close(reader_.error());
    case FrameReader::Next::kPaused:
    case FrameReader::Next::kStopped:
      return;
  }
}

void TcpLink::resume(PayloadTarget target) {
  if (closing_) return;
  reader_.resume(target);
  receive_wanted_ = true;
  turn_.soon();
}

bool TcpLink::redirect() {
  if (!reader_.in_payload()) return true;
  if (reader_.paused() && !closing_) resume(PayloadTarget::sink());
  const bool quiet = reader_.redirect();
  if (quiet || !receive_op_.pending()) return true;
  if (!cancel_is_synchronous_) return false;
  reactor_.cancel(receive_op_);
  reader_.drop_room();
  return true;
}

// Sending.

Result<void> TcpLink::send(SendFrame& frame) {
  if (closing_) return Error{Status::kUnavailable, 0, "send: the link is closed"};
  if (auto pushed = queue_.push(frame); !pushed) return pushed;
  if (!send_op_.pending() && !queue_.reporting()) turn_.soon();  // else the send's completion goes on
  return {};
}

void TcpLink::start_send() {
  if (send_op_.pending()) return;
  const std::span<const iovec> pieces = queue_.fill();
  if (pieces.empty()) return;
  if (queue_.any_lent()) return send_lent();
  if (!reactor_.send(send_op_, fd_.get(), pieces)) turn_.later();
}

/// Sends from here, without waiting: pages are lent in their order with what is copied.
void TcpLink::send_lent() {
  if (!lender_->open(fd_.get())) return stop_lending();
  size_t moved = 0;
  while (queue_.any_lent()) {
    const int64_t n = send_run();
    if (n == -ENOTSUP) return stop_lending();
    if (n == -EAGAIN) {
      waits_writable_ = reactor_.writable(send_op_, fd_.get()).ok();
      if (!waits_writable_) turn_.later();
      return;
    }
    if (n < 0) return begin_close(Error{Status::kUnavailable, static_cast<int>(-n), "send failed"});
    last_sent_ns_ = reactor_.now_ns();
    queue_.sent(static_cast<size_t>(n));  // its callbacks may close the link
    if (closing_) return;
    moved += static_cast<size_t>(n);
    if (moved >= kTurnBytes) return turn_.soon();
    queue_.fill();
  }
  start_send();
}

/// The next bytes that are of one kind, to be copied or to be lent. Bytes moved, or -errno.
int64_t TcpLink::send_run() {
  const std::span<const iovec> run = queue_.next_run();
  const bool more = queue_.more_behind_run();
  if (queue_.begin_is_lent()) {
    return lender_->send(fd_.get(), {static_cast<std::byte*>(run[0].iov_base), run[0].iov_len}, more);
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(run.data());
  message.msg_iovlen = run.size();
  ssize_t n = 0;
  do {
    n = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL | (more ? MSG_MORE : 0));
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

/// The kernel has no pipe for us, or does not take the pages. What was lent before stays so until it is reported.
void TcpLink::stop_lending() {
  queue_.stop_lending();
  start_send();
}

void TcpLink::on_sent(int32_t result) {
  const bool waited = std::exchange(waits_writable_, false);
  if (closing_) {
    if (result > 0 && !waited) queue_.sent(static_cast<size_t>(result));  // the cancel came too late
    return finish_close();
  }
  if (waited) return start_send();  // which meets what is wrong with the socket
  if (result < 0) return begin_close(Error{Status::kUnavailable, -result, "send failed"});
  last_sent_ns_ = reactor_.now_ns();
  queue_.sent(static_cast<size_t>(result));
  if (!closing_) start_send();
}

// What the ends say of consumed payloads.

PayloadTarget TcpLink::on_frame(Link& link, const wire::FrameHeader& header, std::span<const std::byte> body) {
  if (report_ && header.opcode == wire::Opcode::kConsumed) return on_consumed(header, body), PayloadTarget::sink();
  if (report_) report_->begin(header.payload_bytes);
  return owner_.on_frame(link, header, body);
}

void TcpLink::on_consumed(const wire::FrameHeader& header, std::span<const std::byte> body) {
  const auto consumed = wire::decode_consumed(body);
  if (!consumed || header.payload_bytes > 0) return begin_close(Error{Status::kInvalid, 0, "CONSUMED: malformed"});
  const Result<void> taken = queue_.consumed(consumed->payload_bytes);
  if (!taken) return begin_close(taken.error());
  if (!closing_ && !send_op_.pending()) turn_.soon();  // what was pushed meanwhile, and what may be lent now
}

void TcpLink::on_payload_part(Link& link, size_t arrived) {
  if (report_) report_->part(arrived);
  owner_.on_payload_part(link, arrived);
}

void TcpLink::on_payload(Link& link) {
  if (report_) report_->complete();
  owner_.on_payload(link);
}

}  // namespace

std::unique_ptr<Link> make_tcp_link(io::Reactor& reactor, int fd, Role role, const wire::SessionKeys& keys,
                                    LinkOwner& owner, const TcpOptions& options) {
  return std::make_unique<TcpLink>(reactor, fd, role, keys, owner, options);
}

}  // namespace memkv::transport
