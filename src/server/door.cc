#include "server/door.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hex.h"
#include "base/log.h"
#include "io/socket.h"
#include "transport/shm/offer.h"

namespace memkv::server {
namespace {

constexpr uint64_t kRetryNs = 10'000'000;
constexpr uint64_t kWaitNs = 1'000'000'000;
constexpr uint64_t kShmLookNs = 1'000'000'000;

std::string peer_name(const io::SocketAddress& peer) {
  return peer.family() == AF_UNIX ? "this host, over shm" : io::to_string(peer);
}

}  // namespace

Result<std::unique_ptr<Door>, Message> Door::make(const DoorOptions& options, std::vector<Credential> credentials,
                                                  std::vector<shard::Worker*> workers, ShmSocket shm) {
  const auto is_none = [](const Credential& credential) { return credential.secret == wire::Secret{}; };
  MEMKV_ASSERT(std::none_of(credentials.begin(), credentials.end(), is_none) ||
                   (credentials.size() == 1 && is_loopback(options.host)),
               "no credential is for this machine alone, and never one among others");
  MEMKV_ASSERT(!workers.empty() && options.half_open_max >= 2, "listen() keeps one place free for the next guest");
  io::ListenOptions listen{.congestion = options.congestion};
  auto fd = io::listen_tcp(options.host, options.port, listen);
  if (!fd) return fd.error();
  io::ReactorOptions reactor_options{
      .kind = io::ReactorKind::kEpoll, .ops_max = options.half_open_max * 4 + 64, .device_threads = 0};
  auto reactor = io::make_reactor(reactor_options, nullptr);
  if (!reactor) {
    return Message{reactor.error().status,
                   std::string("door: ") + reactor.error().what + ": " + std::strerror(reactor.error().sys_errno)};
  }
  return std::unique_ptr<Door>(new Door(options, std::move(credentials), std::move(workers), std::move(reactor).value(),
                                        std::move(fd).value(), std::move(shm)));
}

Door::Door(DoorOptions options, std::vector<Credential> credentials, std::vector<shard::Worker*> workers,
           std::unique_ptr<io::Reactor> reactor, base::UniqueFd tcp, ShmSocket shm)
    : options_(std::move(options)),
      credentials_(std::move(credentials)),
      workers_(std::move(workers)),
      reactor_(std::move(reactor)),
      tcp_(std::move(tcp)),
      shm_(std::move(shm)),
      port_(io::local_port(tcp_.get())),
      guests_(options_.half_open_max) {
  for (io::IoOp* op : {&accept_tcp_, &accept_shm_}) {
    op->on_done = [](io::IoOp& done, int32_t result) { static_cast<Door*>(done.context)->on_accepted(done, result); };
    op->context = this;
  }
  retry_timer_.on_done = [](io::Timer& timer) { static_cast<Door*>(timer.context)->listen(); };
  shm_timer_.on_done = [](io::Timer& timer) { static_cast<Door*>(timer.context)->look_after_shm(); };
  retry_timer_.context = shm_timer_.context = this;
}

Door::~Door() { MEMKV_ASSERT(guests_.in_use() == 0, "run() ends when the last guest is gone"); }

void Door::run() {
  listen();
  if (shm_.fd() >= 0) reactor_->start(shm_timer_, reactor_->now_ns() + kShmLookNs);
  while (!stop_.load(std::memory_order_acquire)) reactor_->run_once(kWaitNs);
  for (io::IoOp* op : {&accept_tcp_, &accept_shm_}) {
    if (op->pending()) reactor_->cancel(*op);
  }
  reactor_->stop(retry_timer_);
  reactor_->stop(shm_timer_);
  for (Guest& guest : shaking_) ::shutdown(guest.fd, SHUT_RDWR);
  while (accept_tcp_.pending() || accept_shm_.pending() || !shaking_.empty()) reactor_->run_once(kRetryNs);
}

void Door::stop() {
  stop_.store(true, std::memory_order_release);
  reactor_->wake();
}

void Door::listen() {
  if (stop_.load(std::memory_order_acquire)) return;
  const auto accept = [this](io::IoOp& op, int fd) {
    if (fd < 0 || op.pending() || guests_.free() < 2) return;  // the guest that leaves next opens the door again
    if (!reactor_->accept(op, fd)) reactor_->start(retry_timer_, reactor_->now_ns() + kRetryNs);
  };
  accept(accept_tcp_, tcp_.get());
  accept(accept_shm_, shm_.fd());
}

void Door::on_accepted(io::IoOp& op, int32_t result) {
  if (result >= 0) {
    admit(result, &op == &accept_shm_);
    return listen();
  }
  if (result == -ECANCELED) return listen();  // or the socket was replaced by a new one
  if (result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM) {
    MEMKV_LOG_EVERY(10, kWarn, "cannot accept connections ({}): raise the limit of open files", std::strerror(-result));
    cut_oldest();
    return reactor_->start(retry_timer_, reactor_->now_ns() + kRetryNs);
  }
  listen();  // that one connection ended before it was accepted
}

/// Begins the handshake with a connection that was accepted. The door shakes hands with a limited number at a time.
/// When all places are taken, the connection that has been at it longest is cut.
void Door::admit(int fd, bool shm) {
  if (stop_.load(std::memory_order_acquire)) {
    ::close(fd);
    return;
  }
  Guest* guest = guests_.take();
  MEMKV_ASSERT(guest != nullptr, "listen() sees to it");
  guest->door = this;
  guest->fd = fd;
  guest->shm = shm;
  guest->named_a_key = guest->key_is_known = false;
  guest->peer.length = sizeof guest->peer.storage;
  (void)::getpeername(fd, reinterpret_cast<sockaddr*>(&guest->peer.storage), &guest->peer.length);
  shaking_.push_back(*guest);
  half_open_.store(static_cast<uint32_t>(shaking_.size()), std::memory_order_relaxed);
  // Reports cost a frame each: only who lends asks for them.
  const uint32_t features =
      workers_.front()->slots().lends() ? wire::kFeatures : wire::kFeatures & ~uint32_t{wire::kFeatureConsumed};
  guest->acceptor = transport::Acceptor::make(
      *reactor_, fd, wire::ServerHandshake(find_secret, guest, options_.server_name, features),
      reactor_->now_ns() + options_.handshake_ns,
      [](void* context, transport::Acceptor&, Result<transport::Acceptor::Accepted> accepted) {
        auto& shaken = *static_cast<Guest*>(context);
        shaken.door->on_shaken(shaken, std::move(accepted));
      },
      guest);
  if (guests_.free() < 2) cut_oldest();
}

/// Shuts its socket down. Its acceptor then sees the end of the stream, and fails as it usually would.
void Door::cut_oldest() {
  Guest* oldest = shaking_.front();
  if (oldest == nullptr) return;
  MEMKV_LOG_EVERY(10, kWarn, "{} connections are shaking hands: the oldest is cut", shaking_.size());
  ::shutdown(oldest->fd, SHUT_RDWR);
}

void Door::on_shaken(Guest& guest, Result<transport::Acceptor::Accepted> accepted) {
  MEMKV_ASSERT(guest.door == this && guest.acceptor != nullptr);
  shaking_.remove(guest);
  half_open_.store(static_cast<uint32_t>(shaking_.size()), std::memory_order_relaxed);
  if (accepted) {
    hand_over(*accepted, guest.shm);
  } else {
    refused_.fetch_add(1, std::memory_order_relaxed);
    tell_refused(guest, accepted.error());
  }
  guest.acceptor.reset();
  guests_.give_back(guest);
  listen();
}

/// Counts a refused credential. A client with a wrong credential sees that first, by our reply, and leaves without a
/// proof. So we judge by the key id that it named, not by the error with which its connection ended.
void Door::tell_refused(const Guest& guest, const Error& why) {
  const bool foreign_key = guest.named_a_key && (!guest.key_is_known || why.status == Status::kUnauthorized);
  if (foreign_key) {
    credentials_refused_.fetch_add(1, std::memory_order_relaxed);
    MEMKV_LOG_EVERY(5, kWarn, "a client at {} is refused: {}, key id {}", peer_name(guest.peer),
                    guest.key_is_known ? "it did not prove its credential" : "its credential is not known here",
                    base::hex_encode(base::bytes_of(guest.key_id.data(), guest.key_id.size())));
  } else if (why.status == Status::kVersion) {
    MEMKV_LOG_EVERY(5, kWarn, "a client at {} is refused: {}", peer_name(guest.peer), why.what);
  }
}

/// Gives a connection that has proven its credential to the worker that it asks for, or tells it why not. One over shm
/// gets its windows first.
void Door::hand_over(const transport::Acceptor::Accepted& accepted, bool shm) {
  const auto found = std::find_if(credentials_.begin(), credentials_.end(),
                                  [&](const Credential& c) { return c.id == accepted.key_id; });
  MEMKV_ASSERT(found != credentials_.end(), "a proof made with no key of ours");
  const auto least = std::min_element(workers_.begin(), workers_.end(), [](shard::Worker* a, shard::Worker* b) {
    return a->stats().connections.load(std::memory_order_relaxed) <
           b->stats().connections.load(std::memory_order_relaxed);
  });
  shard::Worker* worker = accepted.wanted_worker < workers_.size() ? workers_[accepted.wanted_worker] : *least;
  shard::WorkerMessage message;
  message.kind = shard::WorkerMessage::Kind::kConnection;
  message.fd = accepted.fd;
  message.features = accepted.features;
  message.namespace_id = found->namespace_id;
  message.keys = accepted.keys;
  message.rdma = accepted.rdma;
  message.client_name = shard::ClientName::of(accepted.client_name);
  if (shm && !add_window(accepted, message)) {
    ::close(accepted.fd);
    return;
  }
  if (worker->push(message)) return;
  MEMKV_LOG_EVERY(10, kWarn, "worker {} has no room for another connection", worker->index());
  ::close(accepted.fd);
}

/// Makes a client's shm window. That faults memory in, so the door does it and not a worker. If it fails the client is
/// told why.
bool Door::add_window(const transport::Acceptor::Accepted& accepted, shard::WorkerMessage& message) {
  MEMKV_ASSERT(options_.shm_budget != nullptr, "a shm socket needs a budget for its windows");
  ucred peer{};
  socklen_t size = sizeof peer;
  (void)getsockopt(accepted.fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);  // else they count as one process
  const transport::ShmHolder holder{message.namespace_id, peer.pid};
  auto window = transport::ShmWindow::make(options_.windows, options_.shm_budget, holder);
  if (!window) {
    MEMKV_LOG_EVERY(10, kWarn, "a client gets no shared memory: {} ({} of {} bytes in use)", window.error().what,
                    options_.shm_budget->in_use(), options_.shm_budget->bytes_max());
    transport::send_no_windows(accepted.fd, accepted.keys, Status::kBusy, window.error().what);
    return false;
  }
  message.window = std::move(*window);
  return transport::send_windows(accepted.fd, accepted.keys, *message.window).ok();
}

/// Makes the shm socket again if somebody has removed it: systems clean their folders of temporary files now and then.
void Door::look_after_shm() {
  reactor_->start(shm_timer_, reactor_->now_ns() + kShmLookNs);
  if (options_.shm_budget != nullptr) options_.shm_budget->collect();
  if (shm_.there()) return;
  if (!shm_.open_again()) return;
  MEMKV_LOG(kWarn, "{} was gone and is there again", shm_.path());
  if (accept_shm_.pending()) return reactor_->cancel(accept_shm_);  // its completion listens on the new socket
  listen();
}

bool Door::find_secret(void* context, const wire::KeyId& id, wire::Secret& out) {
  auto& guest = *static_cast<Guest*>(context);
  guest.key_id = id;
  guest.named_a_key = true;
  for (const Credential& credential : guest.door->credentials_) {
    if (credential.id != id) continue;
    out = credential.secret;
    return guest.key_is_known = true;
  }
  return false;
}

bool is_loopback(const std::string& host) {
  if (host.empty()) return false;
  const auto addresses = io::resolve(host, 0);
  if (!addresses) return false;
  return std::all_of(addresses->begin(), addresses->end(), [](const io::SocketAddress& address) {
    if (address.family() == AF_INET) {
      const auto* in4 = reinterpret_cast<const sockaddr_in*>(&address.storage);
      return (ntohl(in4->sin_addr.s_addr) >> 24) == 127;
    }
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    return address.family() == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
  });
}

}  // namespace memkv::server
