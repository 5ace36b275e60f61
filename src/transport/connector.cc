/// The client's side of opening a connection.

#include <cerrno>
#include <cstring>
#include <string>

#include "base/unique_fd.h"
#include "io/socket.h"
#include "transport/handshake_io.h"
#include "transport/link.h"
#include "transport/shm/offer.h"

namespace memkv::transport {
namespace {

wire::Hello hello_of(const Connector::Options& options) {
  wire::Hello hello = options.hello;
  hello.client_name = options.client_name;
  hello.features = options.features;
  if (options.transport != Transport::kTcp) hello.features &= ~uint32_t{wire::kFeatureConsumed};
  return hello;
}

/// Over TCP, or for shm over a unix socket, where the window follows the handshake. Thread: the reactor's.
class StreamConnector final : public Connector, private HandshakeIo {
 public:
  StreamConnector(io::Reactor& reactor, const Options& options, LinkOwner& owner, Fn on_done, void* context)
      : HandshakeIo(reactor, -1, options.deadline_ns),
        transport_(options.transport),
        one_copy_(options.one_copy),
        handshake_(options.secret, hello_of(options)),
        owner_(owner),
        on_done_(on_done),
        context_(context) {}

  void open(const sockaddr* address, socklen_t length, const std::string& congestion);
  void cancel() override { fail(Error{Status::kCanceled, 0, "connect: canceled"}); }

 private:
  void on_connected() override { write(handshake_.start()); }
  void on_written() override;
  void on_frame(std::span<const std::byte> frame) override;
  void on_end(const Error& why) override;
  void on_window(std::span<const std::byte> frame);
  void finish(std::unique_ptr<Link> link);

  const Transport transport_;
  OneCopyStats* const one_copy_;
  wire::ClientHandshake handshake_;
  LinkOwner& owner_;
  const Fn on_done_;
  void* const context_;
  bool proven_ = false;  // PROOF is on its way
  std::string goodbye_;  // instead of a window
};

void StreamConnector::open(const sockaddr* address, socklen_t length, const std::string& congestion) {
  io::SocketAddress to;
  if (length > sizeof to.storage) return fail(Error{Status::kInvalid, EINVAL, "connect: bad address"});
  std::memcpy(&to.storage, address, length);
  to.length = length;
  auto fd = to.family() == AF_UNIX ? io::make_unix_socket() : io::make_tcp_socket(to);
  if (!fd) return fail(Error{Status::kUnavailable, fd.error().sys_errno, "connect: no socket"});
  // Before the connect: the handshake's round trips then already run under it.
  if (!congestion.empty() && to.family() != AF_UNIX) {
    if (auto set = io::set_congestion(fd->get(), congestion); !set) return fail(set.error());
  }
  set_fd(fd->release());
  connect(to.get(), length);
}

void StreamConnector::on_written() {
  if (!proven_) return read_frame();
  if (transport_ == Transport::kShm) return read_frame_with_descriptors();
  const TcpOptions agreed{.features = handshake_.features(), .one_copy = one_copy_};
  finish(make_tcp_link(reactor_, release_fd(), Role::kClient, handshake_.keys(), owner_, agreed));
}

void StreamConnector::on_window(std::span<const std::byte> frame) {
  auto window = take_windows(frame, handshake_.keys(), descriptors_, goodbye_);
  if (!window) return fail(window.error());
  finish(make_shm_link(reactor_, release_fd(), Role::kClient, handshake_.keys(), std::move(*window), owner_));
}

void StreamConnector::finish(std::unique_ptr<Link> link) {
  const std::string name(handshake_.server_name());
  link->set_features(handshake_.features());
  on_done_(context_, std::move(link), name, {});  // may destroy this
}

void StreamConnector::on_frame(std::span<const std::byte> frame) {
  if (proven_) return on_window(frame);
  auto proof = handshake_.on_reply(frame);
  if (!proof) return fail(proof.error());
  proven_ = true;
  write(*proof);
}

void StreamConnector::on_end(const Error& why) {
  const std::string name(handshake_.server_name());
  const std::string text(goodbye_.empty() ? handshake_.goodbye_text() : goodbye_);
  set_fd(-1);
  Error error = why;
  // Whatever answers there, it is no server of ours.
  if (error.status == Status::kInvalid && error.sys_errno == 0) error.status = Status::kUnavailable;
  on_done_(context_, error, name, text);  // may destroy this
}

}  // namespace

std::unique_ptr<Connector> Connector::make(io::Reactor& reactor, const sockaddr* address, socklen_t length,
                                           Options options, LinkOwner& owner, Fn on_done, void* context) {
  auto connector = std::make_unique<StreamConnector>(reactor, options, owner, on_done, context);
  connector->open(address, length, options.congestion);
  return connector;
}

}  // namespace memkv::transport
