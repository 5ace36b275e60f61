/// The unix sockets of the simulated network.

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "sim/network.h"

namespace memkv::sim {
namespace {

constexpr size_t kQueuedMax = 200 * 1024;  // bytes that nobody has read: then a sender would have to wait

}  // namespace

uint32_t Network::machine_of(uint32_t host) const {
  const auto at = machines_.find(host);
  return at != machines_.end() ? at->second : host;
}

int Network::make_local_socket(uint32_t host) {
  const int fd = make_socket(host);
  find(fd)->local = true;
  return fd;
}

int Network::listen_local(uint32_t host, const std::string& path) {
  const int fd = make_local_socket(host);
  find(fd)->state = Socket::State::kListening;
  local_files_[{machine_of(host), path}] = fd;
  return fd;
}

void Network::unlink_local(uint32_t host, const std::string& path) { local_files_.erase({machine_of(host), path}); }

bool Network::finds(uint32_t host, const std::string& path) const {
  return local_files_.contains({machine_of(host), path});
}

uint32_t Network::peer_host(int fd) const {
  const Socket& socket = *find(fd);
  return socket.peer >= 0 ? find(socket.peer)->host : 0;
}

/// The outcome is there at once, and is told when the loop next looks at the socket.
void Network::connect_local(int fd, const std::string& path) {
  const uint32_t host = find(fd)->host;
  const auto at = local_files_.find({machine_of(host), path});
  find(fd)->state = Socket::State::kRefused;
  if (at != local_files_.end() && find(at->second)->state == Socket::State::kListening) {
    const int listener = at->second;
    const int other = make_local_socket(find(listener)->host);
    find(other)->peer = fd;
    find(fd)->peer = other;
    find(fd)->state = find(other)->state = Socket::State::kOpen;
    find(listener)->backlog.push_back(other);
    poke(listener);
  }
  poke(fd);
}

ssize_t Network::send_local(int fd, std::span<const iovec> pieces, std::span<const int> descriptors) {
  Socket& socket = *find(fd);
  MEMKV_ASSERT(socket.local && socket.peer >= 0, "sends without a loop go to unix sockets");
  Socket& to = *find(socket.peer);
  if (socket.error != 0) return -socket.error;
  if (socket.shut || to.shut || to.state == Socket::State::kClosed) return -EPIPE;
  if (to.arrived_bytes >= kQueuedMax) return -EAGAIN;
  for (const int carried : descriptors) to.carried.push_back(memory_.description(carried));
  std::vector<std::byte> bytes;
  for (const iovec& piece : pieces) {
    const auto* from = static_cast<const std::byte*>(piece.iov_base);
    bytes.insert(bytes.end(), from, from + piece.iov_len);
  }
  const auto sent = static_cast<ssize_t>(bytes.size());
  transmit(fd, std::move(bytes));
  return sent;
}

/// Gives the process its descriptors, if it has room for them; else they are closed.
void Network::take_carried(Socket& socket, io::IoOp& op) {
  const auto carried = std::exchange(socket.carried, {});
  const size_t room = std::exchange(op.message.msg_controllen, 0);
  if (carried.empty() || room < CMSG_SPACE(carried.size() * sizeof(int))) return;
  op.message.msg_controllen = room;
  cmsghdr* header = CMSG_FIRSTHDR(&op.message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(carried.size() * sizeof(int));
  for (size_t i = 0; i < carried.size(); i++) {
    const int fd = memory_.install(socket.host, carried[i]);
    std::memcpy(CMSG_DATA(header) + i * sizeof fd, &fd, sizeof fd);
  }
  op.message.msg_controllen = CMSG_SPACE(carried.size() * sizeof(int));
}

}  // namespace memkv::sim
