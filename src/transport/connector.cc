/// The client's side of opening a connection.

#include <cerrno>
#include <cstring>
#include <string>

#include "base/unique_fd.h"
#include "io/socket.h"
#include "transport/handshake_io.h"
#include "transport/link.h"

namespace memkv::transport {
namespace {

wire::Hello hello_of(const Connector::Options& options) {
  wire::Hello hello = options.hello;
  hello.client_name = options.client_name;
  return hello;
}

/// Thread: the reactor's.
class TcpConnector final : public Connector, private HandshakeIo {
 public:
  TcpConnector(io::Reactor& reactor, const Options& options, LinkOwner& owner, Fn on_done, void* context)
      : HandshakeIo(reactor, -1, options.deadline_ns),
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

  wire::ClientHandshake handshake_;
  LinkOwner& owner_;
  const Fn on_done_;
  void* const context_;
  bool proven_ = false;  // PROOF is on its way
};

void TcpConnector::open(const sockaddr* address, socklen_t length, const std::string& congestion) {
  io::SocketAddress to;
  if (length > sizeof to.storage) return fail(Error{Status::kInvalid, EINVAL, "connect: bad address"});
  std::memcpy(&to.storage, address, length);
  to.length = length;
  auto fd = io::make_tcp_socket(to);
  if (!fd) return fail(Error{Status::kUnavailable, fd.error().sys_errno, "connect: no socket"});
  // Before the connect: the handshake's round trips then already run under it.
  if (!congestion.empty()) {
    if (auto set = io::set_congestion(fd->get(), congestion); !set) return fail(set.error());
  }
  set_fd(fd->release());
  connect(to.get(), length);
}

void TcpConnector::on_written() {
  if (!proven_) return read_frame();
  const std::string name(handshake_.server_name());
  const wire::SessionKeys keys = handshake_.keys();
  const Fn on_done = on_done_;
  void* const context = context_;
  auto link = make_tcp_link(reactor_, release_fd(), Role::kClient, keys, owner_);
  on_done(context, std::move(link), name, {});  // may destroy this
}

void TcpConnector::on_frame(std::span<const std::byte> frame) {
  auto proof = handshake_.on_reply(frame);
  if (!proof) return fail(proof.error());
  proven_ = true;
  write(*proof);
}

void TcpConnector::on_end(const Error& why) {
  const std::string name(handshake_.server_name());
  const std::string text(handshake_.goodbye_text());
  set_fd(-1);
  Error error = why;
  // Whatever answers there, it is no server of ours.
  if (error.status == Status::kInvalid && error.sys_errno == 0) error.status = Status::kUnavailable;
  on_done_(context_, error, name, text);  // may destroy this
}

}  // namespace

std::unique_ptr<Connector> Connector::make(io::Reactor& reactor, const sockaddr* address, socklen_t length,
                                           Options options, LinkOwner& owner, Fn on_done, void* context) {
  auto connector = std::make_unique<TcpConnector>(reactor, options, owner, on_done, context);
  connector->open(address, length, options.congestion);
  return connector;
}

}  // namespace memkv::transport
