/// The server's side of opening a link.

#include <fcntl.h>

#include <atomic>

#include "base/log.h"
#include "base/random.h"
#include "transport/handshake_io.h"
#include "transport/rdma/control.h"

namespace memkv::transport::rdma {
namespace {

/// Thread: the reactor's; the queue pair is made in a helper thread meanwhile.
class ServerOpening final : public Opening, private HandshakeIo {
 public:
  ServerOpening(Poller& poller, int fd, const wire::SessionKeys& keys, const wire::RdmaEnd& client,
                uint64_t deadline_ns, Fn on_done, void* context)
      : HandshakeIo(poller.reactor(), fd, deadline_ns),
        poller_(poller),
        keys_(keys),
        client_(client),
        on_done_(on_done),
        context_(context) {
    base::os_random(base::mut_bytes_of(&first_packet_, sizeof first_packet_));
    job_.context = this;
    job_.run = [](BlockingJob& job) { static_cast<ServerOpening*>(job.context)->make_pair(); };
    job_.on_done = [](BlockingJob& job) { static_cast<ServerOpening*>(job.context)->on_made(); };
    poller_.set_up(job_);
  }

 private:
  void make_pair();
  void on_made();
  void on_frame(std::span<const std::byte>) override {}
  void on_written() override;
  void on_end(const Error& why) override;

  Poller& poller_;
  const wire::SessionKeys keys_;
  const wire::RdmaEnd client_;
  const Fn on_done_;
  void* const context_;
  uint32_t first_packet_ = 0;
  BlockingJob job_;
  size_t rail_ = 0;
  std::unique_ptr<QueuePair> pair_;
  std::string why_not_;
  std::atomic<bool> ended_{false};  // while the job was under way
  std::array<std::byte, 512> out_;
};

/// Thread: helper.
void ServerOpening::make_pair() {
  const auto failed = [this](const std::string& text) {
    why_not_ = text;
    pair_.reset();
  };
  if (ended_) return;  // many came at once: the helper thread is late, and has no time for those who left
  std::shared_ptr<Device> device = poller_.host().device_for(client_, rail_);
  if (!device) return failed("no RDMA device of this host works now");
  if (device->dead()) return failed("the RDMA device is gone");
  auto made = QueuePair::make(std::move(device), Role::kServer, first_packet_);
  if (!made) return failed(made.error().text);
  pair_ = std::move(*made);
  if (ended_) return;
  if (auto connected = pair_->connect(client_); !connected) return failed(connected.error().text);
}

void ServerOpening::on_made() {
  if (ended_) return on_end(Error{Status::kDeadline, 0, "the client did not wait"});
  if (failing()) return;  // its end is to come
  std::array<std::byte, 256> body;
  size_t bytes = 0;
  if (pair_) {
    wire::RdmaEnd own = pair_->local();
    own.rail = static_cast<uint16_t>(rail_);
    bytes = wire::encode(own, body);
  } else {
    bytes = wire::encode(wire::Goodbye{Status::kUnavailable, std::string_view(why_not_).substr(0, 200)}, body);
  }
  const wire::Opcode opcode = pair_ ? wire::Opcode::kRdmaAccept : wire::Opcode::kGoodbye;
  write(std::span(out_).first(write_control(opcode, std::span(body).first(bytes), keys_.server_to_client, out_)));
}

void ServerOpening::on_written() {
  if (!pair_) return fail(Error{Status::kUnavailable, 0, "rdma: no queue pair"});
  const Fn on_done = on_done_;
  void* const context = context_;
  LinkParts parts{std::move(pair_), rail_, client_, base::UniqueFd(release_fd())};
  on_done(context, *this, std::move(parts));  // may destroy this
}

void ServerOpening::on_end(const Error& why) {
  ended_ = true;
  if (job_.pending) return;  // on_made comes back to it
  if (pair_) poller_.discard(std::move(pair_));
  set_fd(-1);
  on_done_(context_, *this, Message{why.status, why_not_.empty() ? why.what : why_not_});  // may destroy this
}

}  // namespace

std::unique_ptr<Opening> Opening::make(Poller& poller, int fd, const wire::SessionKeys& keys,
                                       const wire::RdmaEnd& client, uint64_t deadline_ns, Fn on_done, void* context) {
  return std::make_unique<ServerOpening>(poller, fd, keys, client, deadline_ns, on_done, context);
}

}  // namespace memkv::transport::rdma
