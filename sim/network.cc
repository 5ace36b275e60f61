#include "sim/network.h"

#include <fmt/format.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "sim/calls.h"
#include "sim/fabric.h"
#include "sim/loop.h"

namespace memkv::sim {

Network::Network(World& world) : world_(world), memory_(world), rdma_(std::make_unique<Fabric>(world, *this)) {
  use_network(this);
}
Network::~Network() { use_network(nullptr); }

sockaddr_in Network::address(uint32_t host, uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  out.sin_addr.s_addr = htonl((10u << 24) | host);
  return out;
}

Network::Socket* Network::find(int fd) {
  const auto at = static_cast<size_t>(fd - kFirstFd);
  MEMKV_ASSERT(fd >= kFirstFd && at < sockets_.size(), "no such socket");
  return sockets_[at].get();
}
const Network::Socket* Network::find(int fd) const { return const_cast<Network*>(this)->find(fd); }

int Network::make_socket(uint32_t host) {
  sockets_.push_back(std::make_unique<Socket>());
  sockets_.back()->host = host;
  sockets_.back()->port = next_port_++;
  return kFirstFd + static_cast<int>(sockets_.size()) - 1;
}

int Network::make_listener(uint32_t host, uint16_t port) {
  const int fd = make_socket(host);
  Socket& socket = *find(fd);
  socket.port = port;
  socket.state = Socket::State::kListening;
  MEMKV_ASSERT(listeners_.emplace(std::pair(host, port), fd).second, "the port is taken");
  return fd;
}

int Network::address_of(int fd, bool peer, sockaddr* out, socklen_t* length) const {
  const Socket& own = *find(fd);
  if (peer && own.peer < 0) return -ENOTCONN;
  const Socket& socket = peer ? *find(own.peer) : own;
  const sockaddr_in address = Network::address(socket.host, socket.port);
  std::memcpy(out, &address, std::min<size_t>(*length, sizeof address));
  *length = sizeof address;
  return 0;
}

// Ops.

void Network::park(io::IoOp& op, SimLoop& loop) {
  Socket& socket = *find(op.fd);
  MEMKV_ASSERT(socket.state != Socket::State::kClosed, "an op on a closed socket");
  const bool in = op.kind == io::IoOp::Kind::kRecv || op.kind == io::IoOp::Kind::kAccept;
  io::IoOp*& place = in ? socket.in : socket.out;
  MEMKV_ASSERT(place == nullptr, "two ops of one kind on one socket");
  place = &op;
  (in ? socket.in_loop : socket.out_loop) = &loop;
  loop.poke(op.fd);
}

void Network::unpark(io::IoOp& op) {
  Socket& socket = *find(op.fd);
  if (socket.in == &op) socket.in = nullptr;
  if (socket.out == &op) socket.out = nullptr;
}

void Network::poke(int fd) {
  Socket& socket = *find(fd);
  if (socket.in != nullptr) socket.in_loop->poke(fd);
  if (socket.out != nullptr && socket.out_loop != socket.in_loop) socket.out_loop->poke(fd);
  if (socket.out != nullptr && socket.in == nullptr) socket.out_loop->poke(fd);
}

bool Network::try_in(int fd, const SimLoop& loop, io::IoOp*& op, int32_t& result) {
  Socket& socket = *find(fd);
  op = socket.in_loop == &loop ? socket.in : nullptr;  // the socket may have been handed to another thread meanwhile
  if (op == nullptr) return false;
  if (socket.state == Socket::State::kListening) {
    if (socket.backlog.empty()) return false;
    result = socket.backlog.front();
    socket.backlog.pop_front();
  } else if (socket.arrived_bytes > 0 && !socket.shut) {
    result = receive(socket, *op);
  } else if (socket.error != 0) {
    result = -socket.error;
  } else if (socket.end || socket.shut) {
    result = 0;
  } else {
    return false;
  }
  socket.in = nullptr;
  return true;
}

bool Network::try_out(int fd, const SimLoop& loop, io::IoOp*& op, int32_t& result) {
  Socket& socket = *find(fd);
  op = socket.out_loop == &loop ? socket.out : nullptr;
  if (op == nullptr) return false;
  if (op->kind == io::IoOp::Kind::kConnect) {
    if (socket.state == Socket::State::kConnecting) return false;
    result = socket.state == Socket::State::kOpen ? 0 : -ECONNREFUSED;
  } else {
    result = send(fd, socket, *op);
    if (result == 0) return false;
  }
  socket.out = nullptr;
  return true;
}

int32_t Network::receive(Socket& socket, io::IoOp& op) {
  size_t done = 0;
  if (socket.local) take_carried(socket, op);
  for (size_t i = 0; i < op.message.msg_iovlen && socket.arrived_bytes > 0; i++) {
    const iovec& piece = op.message.msg_iov[i];
    for (size_t at = 0; at < piece.iov_len && socket.arrived_bytes > 0;) {
      const std::vector<std::byte>& first = socket.arrived.front();
      const size_t n = std::min(piece.iov_len - at, first.size() - socket.first_at);
      std::memcpy(static_cast<std::byte*>(piece.iov_base) + at, first.data() + socket.first_at, n);
      at += n, done += n, socket.first_at += n, socket.arrived_bytes -= n;
      if (socket.first_at == first.size()) socket.arrived.pop_front(), socket.first_at = 0;
    }
  }
  if (socket.peer >= 0) poke(socket.peer);  // there is room in the window again
  return static_cast<int32_t>(done);
}

int32_t Network::send(int fd, Socket& socket, const io::IoOp& op) {
  if (socket.error != 0) return -socket.error;
  if (socket.shut) return -EPIPE;
  const size_t waiting = socket.in_flight + (socket.lossy ? 0 : find(socket.peer)->arrived_bytes);
  if (waiting >= plan_.window_bytes) return 0;
  size_t room = std::min<size_t>(plan_.window_bytes - waiting, plan_.packet_bytes_max);
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < op.message.msg_iovlen && room > 0; i++) {
    const iovec& piece = op.message.msg_iov[i];
    const size_t n = std::min(piece.iov_len, room);
    const auto* from = static_cast<const std::byte*>(piece.iov_base);
    bytes.insert(bytes.end(), from, from + n);
    room -= n;
  }
  const auto sent = static_cast<int32_t>(bytes.size());
  transmit(fd, std::move(bytes));
  return sent;
}

ssize_t Network::send_now(int fd, iovec piece) {
  if (find(fd)->local) return send_local(fd, {&piece, 1}, {});
  io::IoOp op;
  op.message.msg_iov = &piece;
  op.message.msg_iovlen = 1;
  return send(fd, *find(fd), op);
}

// Packets.

bool Network::is_dark(uint32_t host) const {
  const auto off = off_.find(host);
  return off != off_.end() && off->second;
}

/// When a packet arrives: after everything that this end sent before.
uint64_t Network::arrival_ns(Socket& from, size_t bytes) {
  base::Random& random = world_.random();
  uint64_t when = world_.now_ns() + random.between(plan_.latency_ns_min, plan_.latency_ns_max);
  if (plan_.bytes_per_s > 0 && from.peer >= 0) {
    uint64_t& out = links_[from.host].out_free_ns;
    uint64_t& in = links_[find(from.peer)->host].in_free_ns;
    const uint64_t passed = std::max({world_.now_ns(), out, in}) + bytes * kSecond / plan_.bytes_per_s;
    out = in = passed;
    when += passed - world_.now_ns();
  }
  if (plan_.jitter_ns_max > 0) when += random.below(plan_.jitter_ns_max);
  const uint32_t hosts[] = {from.host, from.peer >= 0 ? find(from.peer)->host : from.host};
  for (const uint32_t host : hosts) {
    const auto dark = dark_until_ns_.find(host);
    if (dark != dark_until_ns_.end() && dark->second > world_.now_ns()) {
      when = std::max(when, dark->second + random.below(200 * kMs));
    }
  }
  return from.last_arrival_ns = std::max(when, from.last_arrival_ns);
}

void Network::transmit(int fd, std::vector<std::byte> bytes) {
  Socket& socket = *find(fd);
  socket.in_flight += bytes.size();
  if (socket.local) return arrive(fd, socket.peer, std::move(bytes));
  if (socket.lossy) return;  // it is never acknowledged, so the window fills up
  const int to = socket.peer;
  world_.at(arrival_ns(socket, bytes.size()),
            [this, fd, to, held = std::move(bytes)]() mutable { arrive(fd, to, std::move(held)); });
}

void Network::arrive(int from, int to, std::vector<std::byte> bytes) {
  Socket& sender = *find(from);
  Socket& receiver = *find(to);
  if (sender.lossy) return;
  if (receiver.vanished && is_dark(receiver.host)) return;
  sender.in_flight -= bytes.size();
  if (receiver.vanished || receiver.state == Socket::State::kClosed || receiver.shut) {
    if (!receiver.lossy && sender.error == 0) {
      sender.error = ECONNRESET;
      poke(from);
    }
    return;
  }
  receiver.arrived_bytes += bytes.size();
  receiver.arrived.push_back(std::move(bytes));
  poke(to);
}

/// Tells the peer that this end sends nothing more, after all that it has sent.
void Network::tell_end(int fd, int error) {
  Socket& socket = *find(fd);
  if (socket.peer < 0 || socket.lossy) return;
  const int to = socket.peer;
  const auto arrives = [this, fd, to, error] {
    if (find(fd)->lossy) return;
    Socket& peer = *find(to);
    if (error != 0) peer.error = error;
    peer.end = true;
    poke(to);
  };
  socket.local ? arrives() : world_.at(arrival_ns(socket), arrives);
}

// Opening and closing.

void Network::connect(int fd, const sockaddr* address, socklen_t length) {
  Socket& socket = *find(fd);
  if (socket.local) return connect_local(fd, reinterpret_cast<const sockaddr_un*>(address)->sun_path);
  sockaddr_in to{};
  MEMKV_ASSERT(length >= sizeof to && address->sa_family == AF_INET, "the simulated network speaks IPv4");
  std::memcpy(&to, address, sizeof to);
  socket.state = Socket::State::kConnecting;
  const uint32_t host = ntohl(to.sin_addr.s_addr) & 0xffffff;
  const uint16_t port = ntohs(to.sin_port);
  uint64_t when = arrival_ns(socket);
  const auto dark = dark_until_ns_.find(host);
  if (dark != dark_until_ns_.end()) when = std::max(when, dark->second);
  world_.at(when, [this, fd, host, port] { on_connected(fd, host, port); });
}

void Network::on_connected(int fd, uint32_t host, uint16_t port) {
  Socket& socket = *find(fd);
  if (socket.state != Socket::State::kConnecting || is_dark(host)) return;
  const auto listener = listeners_.find({host, port});
  if (listener == listeners_.end()) {
    socket.state = Socket::State::kRefused;
    return poke(fd);
  }
  const int other = make_socket(host);
  Socket& accepted = *find(other);
  accepted.port = port;
  accepted.peer = fd;
  accepted.state = Socket::State::kOpen;
  Socket& own = *find(fd);
  own.peer = other;
  own.state = Socket::State::kOpen;
  find(listener->second)->backlog.push_back(other);
  poke(fd);
  poke(listener->second);
}

void Network::shut(int fd) {
  Socket& socket = *find(fd);
  if (socket.shut || socket.state == Socket::State::kClosed) return;
  socket.shut = true;
  tell_end(fd, 0);
  poke(fd);
}

void Network::close(int fd) {
  Socket& socket = *find(fd);
  if (socket.state == Socket::State::kClosed) return;
  MEMKV_ASSERT(socket.in == nullptr && socket.out == nullptr, "closed under an op");
  if (socket.state == Socket::State::kListening) {
    listeners_.erase({socket.host, socket.port});
    for (const int waiting : socket.backlog) close(waiting);
  } else if (!socket.vanished) {
    const bool unread = socket.arrived_bytes > 0 && !socket.shut;
    if (!socket.shut || unread) tell_end(fd, unread ? ECONNRESET : 0);
  }
  socket.state = Socket::State::kClosed;
  socket.arrived.clear();
  socket.arrived_bytes = 0;
  socket.carried.clear();
}

// Faults.

void Network::kill_host(uint32_t host) {
  rdma_->kill_host(host);
  for (size_t i = 0; i < sockets_.size(); i++) {
    Socket& socket = *sockets_[i];
    if (socket.host != host) continue;
    socket.in = socket.out = nullptr;
    close(kFirstFd + static_cast<int>(i));
  }
  memory_.kill(host);
}

void Network::cut_power(uint32_t host) {
  off_[host] = true;
  for (auto& socket : sockets_) {
    if (socket->host == host) socket->vanished = !socket->local;
  }
  kill_host(host);
}

void Network::power_on(uint32_t host) { off_[host] = false; }

void Network::reset_connections(uint32_t host) {
  for (size_t i = 0; i < sockets_.size(); i++) {
    Socket& socket = *sockets_[i];
    if (socket.host != host || socket.state != Socket::State::kOpen || socket.peer < 0 || socket.local) continue;
    for (const int fd : {kFirstFd + static_cast<int>(i), socket.peer}) {
      if (find(fd)->state != Socket::State::kOpen) continue;
      find(fd)->error = ECONNRESET;
      poke(fd);
    }
  }
}

void Network::make_half_open(uint32_t host, uint64_t pick) {
  std::vector<size_t> open;
  for (size_t i = 0; i < sockets_.size(); i++) {
    const Socket& socket = *sockets_[i];
    const bool over_network = socket.peer >= 0 && !socket.local;
    if (socket.host == host && socket.state == Socket::State::kOpen && over_network) open.push_back(i);
  }
  if (open.empty()) return;
  Socket& socket = *sockets_[open[pick % open.size()]];
  Socket& peer = *find(socket.peer);
  const uint64_t way = pick / open.size() % 3;  // which direction is lost: one, the other, or both
  socket.lossy = socket.lossy || way != 1;
  peer.lossy = peer.lossy || way != 0;
}

void Network::blackhole_until(uint32_t host, uint64_t ns) { dark_until_ns_[host] = ns; }

uint64_t Network::dark_until_ns(uint32_t host) const {
  const auto dark = dark_until_ns_.find(host);
  return dark == dark_until_ns_.end() ? 0 : dark->second;
}

size_t Network::connections(uint32_t host) const {
  return static_cast<size_t>(std::count_if(sockets_.begin(), sockets_.end(), [&](const auto& socket) {
    return socket->host == host && socket->state == Socket::State::kOpen;
  }));
}

}  // namespace memkv::sim
