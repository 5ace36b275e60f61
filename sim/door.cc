#include "sim/door.h"

#include <unistd.h>

#include <algorithm>

#include "base/assert.h"

namespace memkv::sim {
namespace {

constexpr uint64_t kHandshakeNs = 5 * kSecond;

}  // namespace

Door::Door(World& world, Network& network, uint32_t host, std::string name, uint64_t clock_offset_ns,
           std::vector<Credential> credentials, std::vector<shard::Worker*> workers)
    : network_(network),
      loop_(world, network, SimLoop::Likeness::kEpoll, clock_offset_ns),
      name_(std::move(name)),
      credentials_(std::move(credentials)),
      workers_(std::move(workers)),
      listener_(network.make_listener(host, Network::kPort)) {
  accept_.context = this;
  accept_.on_done = [](io::IoOp& op, int32_t result) { static_cast<Door*>(op.context)->on_accepted(result); };
  listen();
}

void Door::listen() {
  if (!stopping_) MEMKV_ASSERT(loop_.accept(accept_, listener_).ok());
}

void Door::stop() {
  stopping_ = true;
  loop_.cancel(accept_);
}

void Door::on_accepted(int32_t result) {
  if (stopping_) {
    if (result >= 0) ::close(result);
    network_.close(listener_);
    return;
  }
  MEMKV_ASSERT(result >= 0);
  const uint32_t features = workers_.front()->slots().lends() ? wire::kFeatures : 0;
  wire::ServerHandshake handshake(find_secret, this, name_, features);
  guests_.push_back(transport::Acceptor::make(
      loop_, result, std::move(handshake), loop_.now_ns() + kHandshakeNs,
      [](void* context, transport::Acceptor& acceptor, Result<transport::Acceptor::Accepted> accepted) {
        static_cast<Door*>(context)->on_shaken(acceptor, std::move(accepted));
      },
      this));
  listen();
}

void Door::on_shaken(transport::Acceptor& acceptor, Result<transport::Acceptor::Accepted> accepted) {
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
    message.client_name = shard::ClientName::of(accepted->client_name);
    if (!workers_[wanted < workers_.size() ? wanted : 0]->push(message)) ::close(accepted->fd);
  }
  std::erase_if(guests_, [&](const auto& guest) { return guest.get() == &acceptor; });
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
