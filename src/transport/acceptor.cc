/// The server's side of opening a connection.

#include "transport/handshake_io.h"
#include "transport/link.h"
#include "transport/rdma/control.h"

namespace memkv::transport {
namespace {

/// Thread: the reactor's.
class TcpAcceptor final : public Acceptor, private HandshakeIo {
 public:
  TcpAcceptor(io::Reactor& reactor, int fd, wire::ServerHandshake&& handshake, uint64_t deadline_ns, Fn on_done,
              void* context)
      : HandshakeIo(reactor, fd, deadline_ns), handshake_(std::move(handshake)), on_done_(on_done), context_(context) {
    read_frame();
  }

 private:
  void on_written() override { read_frame(); }
  void on_frame(std::span<const std::byte> frame) override;
  void on_end(const Error& why) override;
  void accept(std::optional<wire::RdmaEnd> rdma);

  wire::ServerHandshake handshake_;
  const Fn on_done_;
  void* const context_;
  enum class Step : uint8_t { kHello, kProof, kRdma } step_ = Step::kHello;  // what comes next
};

void TcpAcceptor::on_frame(std::span<const std::byte> frame) {
  if (step_ == Step::kHello) {
    auto reply = handshake_.on_hello(frame);
    if (!reply) return fail(reply.error(), handshake_.goodbye());
    step_ = Step::kProof;
    return write(*reply);
  }
  if (step_ == Step::kRdma) {
    auto end = rdma::read_control(frame, handshake_.keys().client_to_server, wire::Opcode::kRdmaConnect);
    return end ? accept(*end) : fail(end.error());
  }
  if (auto proof = handshake_.on_proof(frame); !proof) return fail(proof.error(), handshake_.goodbye());
  if (handshake_.transport() != wire::kTransportRdma) return accept(std::nullopt);
  step_ = Step::kRdma;
  read_frame(wire::kVersionMax);
}

void TcpAcceptor::accept(std::optional<wire::RdmaEnd> rdma) {
  Accepted accepted;
  accepted.fd = release_fd();
  accepted.keys = handshake_.keys();
  accepted.key_id = handshake_.key_id();
  accepted.wanted_worker = handshake_.wanted_worker();
  accepted.features = handshake_.features();
  accepted.client_name = handshake_.client_name();
  accepted.rdma = rdma;
  on_done_(context_, *this, accepted);  // may destroy this
}

void TcpAcceptor::on_end(const Error& why) {
  set_fd(-1);
  on_done_(context_, *this, why);  // may destroy this
}

}  // namespace

std::unique_ptr<Acceptor> Acceptor::make(io::Reactor& reactor, int fd, wire::ServerHandshake handshake,
                                         uint64_t deadline_ns, Fn on_done, void* context) {
  return std::make_unique<TcpAcceptor>(reactor, fd, std::move(handshake), deadline_ns, on_done, context);
}

}  // namespace memkv::transport
