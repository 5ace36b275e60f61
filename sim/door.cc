#include "sim/door.h"

#include <unistd.h>

#include <algorithm>

#include "base/assert.h"
#include "sim/calls.h"
#include "transport/shm/offer.h"

namespace memkv::sim {
namespace {

constexpr uint64_t kHandshakeNs = 5 * kSecond;
constexpr uint64_t kShmLookNs = kSecond;

}  // namespace

Door::Door(World& world, Network& network, uint32_t host, std::string name, uint64_t clock_offset_ns,
           std::vector<Credential> credentials, std::vector<shard::Worker*> workers)
    : network_(network),
      loop_(world, network, SimLoop::Likeness::kEpoll, clock_offset_ns),
      name_(std::move(name)),
      credentials_(std::move(credentials)),
      workers_(std::move(workers)),
      host_(host) {
  for (Entrance* entrance : {&tcp_, &shm_}) {
    entrance->op.context = this;
    entrance->op.on_done = [](io::IoOp& op, int32_t result) {
      auto& door = *static_cast<Door*>(op.context);
      door.on_accepted(&op == &door.tcp_.op ? door.tcp_ : door.shm_, result);
    };
  }
  tcp_.listener = network.make_listener(host, Network::kPort);
  listen(tcp_);
}

void Door::listen(Entrance& entrance) {
  if (!stopping_) MEMKV_ASSERT(loop_.accept(entrance.op, entrance.listener).ok());
}

void Door::stop() {
  stopping_ = true;
  stop(tcp_);
  if (budget_ == nullptr) return;
  loop_.stop(shm_timer_);
  network_.unlink_local(host_, shm_path_);
  stop(shm_);
}

void Door::stop(Entrance& entrance) { loop_.cancel(entrance.op); }

void Door::on_accepted(Entrance& entrance, int32_t result) {
  if (stopping_) {
    if (result >= 0) ::close(result);
    network_.close(entrance.listener);
    return;
  }
  if (result == -ECANCELED) {  // its file was gone, and is made anew
    network_.close(entrance.listener);
    entrance.listener = network_.listen_local(host_, shm_path_);
    return listen(entrance);
  }
  MEMKV_ASSERT(result >= 0);
  const uint32_t features =
      workers_.front()->slots().lends() ? wire::kFeatures : wire::kFeatures & ~uint32_t{wire::kFeatureConsumed};
  wire::ServerHandshake handshake(find_secret, this, name_, features);
  auto acceptor = transport::Acceptor::make(
      loop_, result, std::move(handshake), loop_.now_ns() + kHandshakeNs,
      [](void* context, transport::Acceptor& shaken, Result<transport::Acceptor::Accepted> accepted) {
        static_cast<Door*>(context)->on_shaken(shaken, std::move(accepted));
      },
      this);
  guests_.push_back({std::move(acceptor), &entrance == &shm_});
  listen(entrance);
}

void Door::on_shaken(transport::Acceptor& acceptor, Result<transport::Acceptor::Accepted> accepted) {
  const auto guest =
      std::find_if(guests_.begin(), guests_.end(), [&](const Guest& g) { return g.acceptor.get() == &acceptor; });
  if (accepted) {
    const auto found = std::find_if(credentials_.begin(), credentials_.end(),
                                    [&](const Credential& c) { return c.id == accepted->key_id; });
    MEMKV_ASSERT(found != credentials_.end(), "a proof made with no key of ours");
    const size_t wanted = accepted->wanted_worker;
    shard::WorkerMessage message;
    message.kind = shard::WorkerMessage::Kind::kConnection;
    message.fd = accepted->fd;
    message.features = accepted->features;
    message.namespace_id = found->namespace_id;
    message.keys = accepted->keys;
    message.rdma = accepted->rdma;
    message.client_name = shard::ClientName::of(accepted->client_name);
    const bool given = guest->shm ? add_window(*accepted, message) : true;
    if (!given || !workers_[wanted < workers_.size() ? wanted : 0]->push(message)) ::close(accepted->fd);
  }
  guests_.erase(guest);
}

// Shared memory.

void Door::open_shm(const std::array<uint8_t, 16>& boot_id, const wire::Windows& windows,
                    transport::ShmBudget& budget) {
  windows_ = windows;
  budget_ = &budget;
  shm_path_ = std::string(kLocalFolder) + "/" + transport::shm_socket_name(boot_id);
  shm_.listener = network_.listen_local(host_, shm_path_);
  listen(shm_);
  shm_timer_.context = this;
  shm_timer_.on_done = [](io::Timer& timer) { static_cast<Door*>(timer.context)->look_after_shm(); };
  loop_.start(shm_timer_, loop_.now_ns() + kShmLookNs);
}

/// As in server/door.cc. What clients have together, with what they keep of windows that are over, never is more than
/// they may have.
bool Door::add_window(const transport::Acceptor::Accepted& accepted, shard::WorkerMessage& message) {
  ucred peer{};
  socklen_t size = sizeof peer;
  (void)getsockopt(accepted.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
  auto window = transport::ShmWindow::make(windows_, budget_, {message.namespace_id, peer.pid});
  MEMKV_ASSERT(network_.memory().bytes_made(host_) <= budget_->bytes_max(), "clients have more memory than they may");
  if (!window) {
    transport::send_no_windows(accepted.fd, accepted.keys, Status::kBusy, window.error().what);
    return false;
  }
  message.window = std::move(*window);
  return transport::send_windows(accepted.fd, accepted.keys, *message.window).ok();
}

void Door::look_after_shm() {
  loop_.start(shm_timer_, loop_.now_ns() + kShmLookNs);
  budget_->collect();
  if (!network_.finds(host_, shm_path_)) loop_.cancel(shm_.op);  // its completion listens on a new socket
}

void Door::remove_socket() {
  if (budget_ != nullptr) network_.unlink_local(host_, shm_path_);
}

bool Door::find_secret(void* context, const wire::KeyId& id, wire::Secret& out) {
  for (const Credential& credential : static_cast<Door*>(context)->credentials_) {
    if (credential.id != id) continue;
    out = credential.secret;
    return true;
  }
  return false;
}

}  // namespace memkv::sim
