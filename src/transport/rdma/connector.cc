/// The client's side of opening a link: a queue pair, then the control connection with the handshake, then each other's
/// ends.

#include <atomic>
#include <cerrno>
#include <cstring>

#include "base/random.h"
#include "io/socket.h"
#include "transport/handshake_io.h"
#include "transport/rdma/control.h"

namespace memkv::transport::rdma {
namespace {

wire::Hello hello_of(const Connector::Options& options) {
  wire::Hello hello = options.hello;
  hello.transport = wire::kTransportRdma;
  hello.client_name = options.client_name;
  hello.features = options.features & ~uint32_t{wire::kFeatureConsumed};
  return hello;
}

/// Thread: the reactor's; what blocks is done in a helper thread.
class RdmaConnector final : public Connector, private HandshakeIo {
 public:
  RdmaConnector(Poller& poller, size_t rail, const Options& options, LinkOwner& owner, Fn on_done, void* context);
  void open(const sockaddr* address, socklen_t length);
  void cancel() override { fail(Error{Status::kCanceled, 0, "connect: canceled"}); }

 private:
  enum class Step : uint8_t { kPair, kHello, kProof, kConnect, kReady };

  void run(void (RdmaConnector::*work)(), void (RdmaConnector::*then)());
  void make_pair();
  void on_made();
  void connect_pair();
  void on_ready();
  void on_connected() override;
  void on_written() override;
  void on_frame(std::span<const std::byte> frame) override;
  void on_end(const Error& why) override;
  void send_end();

  Poller& poller_;
  const size_t rail_;
  LinkOwner& owner_;
  const Fn on_done_;
  void* const context_;
  wire::ClientHandshake handshake_;
  io::SocketAddress to_;
  Step step_ = Step::kPair;
  BlockingJob job_;
  void (RdmaConnector::*work_)() = nullptr;
  void (RdmaConnector::*then_)() = nullptr;
  uint32_t first_packet_ = 0;
  std::unique_ptr<QueuePair> pair_;
  wire::RdmaEnd peer_;
  std::string why_not_;
  std::atomic<bool> ended_{false};  // while a job was under way
  Error end_;
  std::array<std::byte, 256> out_;
};

RdmaConnector::RdmaConnector(Poller& poller, size_t rail, const Options& options, LinkOwner& owner, Fn on_done,
                             void* context)
    : HandshakeIo(poller.reactor(), -1, options.deadline_ns),
      poller_(poller),
      rail_(rail),
      owner_(owner),
      on_done_(on_done),
      context_(context),
      handshake_(options.secret, hello_of(options)) {
  job_.context = this;
  job_.run = [](BlockingJob& job) {
    auto& self = *static_cast<RdmaConnector*>(job.context);
    (self.*self.work_)();
  };
  job_.on_done = [](BlockingJob& job) {
    auto& self = *static_cast<RdmaConnector*>(job.context);
    if (self.ended_) return self.on_end(Error{self.end_});
    if (self.failing()) return;  // its end is to come
    if (!self.pair_) return self.fail(Error{Status::kUnavailable, 0, "rdma: no queue pair"});
    (self.*self.then_)();
  };
}

void RdmaConnector::run(void (RdmaConnector::*work)(), void (RdmaConnector::*then)()) {
  work_ = work;
  then_ = then;
  poller_.set_up(job_);
}

void RdmaConnector::open(const sockaddr* address, socklen_t length) {
  if (length > sizeof to_.storage) return fail(Error{Status::kInvalid, EINVAL, "connect: bad address"});
  std::memcpy(&to_.storage, address, length);
  to_.length = length;
  base::os_random(base::mut_bytes_of(&first_packet_, sizeof first_packet_));
  run(&RdmaConnector::make_pair, &RdmaConnector::on_made);
}

/// Thread: helper.
void RdmaConnector::make_pair() {
  if (ended_) return;
  Rail& rail = poller_.host().rail(rail_);
  std::shared_ptr<Device> device = rail.device.load();
  if (!device || device->dead()) {
    why_not_ = "RDMA device " + rail.name + " is not there";
    return;
  }
  auto made = QueuePair::make(std::move(device), Role::kClient, first_packet_);
  if (made)
    pair_ = std::move(*made);
  else
    why_not_ = made.error().text;
}

void RdmaConnector::on_made() {
  auto fd = io::make_tcp_socket(to_);
  if (!fd) return fail(Error{Status::kUnavailable, fd.error().sys_errno, "connect: no socket"});
  set_fd(fd->release());
  connect(to_.get(), to_.length);
}

void RdmaConnector::on_connected() {
  step_ = Step::kHello;
  write(handshake_.start());
}

void RdmaConnector::on_written() {
  switch (step_) {
    case Step::kHello:
      return read_frame();
    case Step::kProof:
      return send_end();
    default:
      return read_frame(wire::kVersionMax);
  }
}

void RdmaConnector::send_end() {
  step_ = Step::kConnect;
  wire::RdmaEnd own = pair_->local();
  own.rail = static_cast<uint16_t>(rail_);
  std::array<std::byte, 128> body;
  const size_t bytes = wire::encode(own, body);
  write(std::span(out_).first(write_control(wire::Opcode::kRdmaConnect, std::span(body).first(bytes),
                                            handshake_.keys().client_to_server, out_)));
}

void RdmaConnector::on_frame(std::span<const std::byte> frame) {
  if (step_ == Step::kHello) {
    auto proof = handshake_.on_reply(frame);
    if (!proof) return fail(proof.error());
    step_ = Step::kProof;
    return write(*proof);
  }
  auto end = read_control(frame, handshake_.keys().server_to_client, wire::Opcode::kRdmaAccept, &why_not_);
  if (!end) return fail(end.error());
  peer_ = *end;
  step_ = Step::kReady;
  run(&RdmaConnector::connect_pair, &RdmaConnector::on_ready);
}

/// Thread: helper.
void RdmaConnector::connect_pair() {
  if (ended_) return;
  auto connected = pair_->connect(peer_);
  if (connected) return;
  why_not_ = connected.error().text;
  pair_.reset();
}

void RdmaConnector::on_ready() {
  const std::string name(handshake_.server_name());
  const Fn on_done = on_done_;
  void* const context = context_;
  LinkParts parts{std::move(pair_), rail_, peer_, base::UniqueFd(release_fd())};
  auto link = std::make_unique<RdmaLink>(poller_, std::move(parts), Role::kClient, handshake_.keys(), owner_);
  link->set_features(handshake_.features());
  on_done(context, std::unique_ptr<Link>(std::move(link)), name, {});  // may destroy this
}

void RdmaConnector::on_end(const Error& why) {
  ended_ = true;
  end_ = why;
  if (job_.pending) return;  // it comes back to this
  if (pair_) poller_.discard(std::move(pair_));
  const std::string name(handshake_.server_name());
  const std::string text = why_not_.empty() ? std::string(handshake_.goodbye_text()) : why_not_;
  set_fd(-1);
  Error error = why;
  // Whatever answers there, it is no server of ours.
  if (error.status == Status::kInvalid && error.sys_errno == 0) error.status = Status::kUnavailable;
  on_done_(context_, error, name, text);  // may destroy this
}

}  // namespace

std::unique_ptr<Connector> make_connector(Poller& poller, size_t rail, const sockaddr* address, socklen_t length,
                                          const Connector::Options& options, LinkOwner& owner, Connector::Fn on_done,
                                          void* context) {
  auto connector = std::make_unique<RdmaConnector>(poller, rail, options, owner, on_done, context);
  connector->open(address, length);
  return connector;
}

}  // namespace memkv::transport::rdma
