#include "tests/tenants/raw_client.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace memkv::test {
namespace {

constexpr timeval kPatience{5, 0};  ///< for each step of a handshake

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

wire::FrameHeader header_of(std::string_view frame) {
  const auto header = wire::decode_header(bytes_of(frame).first<wire::kHeaderBytes>());
  return header ? *header : wire::FrameHeader{};
}

/// Why a connection was not welcomed.
std::string refusal(const std::string& frame) {
  if (frame.empty()) return "closed without a word";
  if (header_of(frame).opcode != wire::Opcode::kGoodbye) return "something else than WELCOME";
  const auto goodbye = wire::decode_goodbye(bytes_of(frame).subspan(wire::kHeaderBytes));
  return goodbye ? "GOODBYE: " + std::string(goodbye->text) : "a bad GOODBYE";
}

/// The address of the only socket in the folder.
sockaddr_un shm_address(const std::string& folder) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    const std::string path = entry.path();
    if (entry.path().extension() == ".sock" && path.size() < sizeof address.sun_path) {
      std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    }
  }
  return address;
}

base::UniqueFd connected(int family, const void* address, socklen_t length) {
  base::UniqueFd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  const int on = 1;
  if (family == AF_INET) setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (connect(fd.get(), static_cast<const sockaddr*>(address), length) != 0) fd.reset();
  return fd;
}

}  // namespace

bool RawClient::send_all(std::span<const std::byte> bytes) {
  return send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

/// Empty: the connection has ended, or nothing came in time.
std::string RawClient::receive_frame() {
  std::string frame(wire::kHeaderBytes, '\0');
  if (recv(fd_.get(), frame.data(), frame.size(), MSG_WAITALL) != static_cast<ssize_t>(frame.size())) return {};
  const uint32_t body = header_of(frame).body_bytes;
  frame.resize(wire::kHeaderBytes + body);
  const ssize_t got = recv(fd_.get(), frame.data() + wire::kHeaderBytes, body, MSG_WAITALL);
  return got == static_cast<ssize_t>(body) ? frame : std::string();
}

/// Runs HELLO, HELLO_REPLY and PROOF.
bool RawClient::shake_hands(const Target& target, uint8_t transport, std::string& why) {
  wire_version_ = target.wire_version;
  wire::Hello hello;
  hello.version_min = hello.version_max = wire_version_;
  hello.transport = transport;
  hello.client_name = "attacker";
  wire::ClientHandshake handshake(target.secret, hello);
  why = "no connection";
  if (!fd_ || !send_all(handshake.start())) return false;
  const std::string reply = receive_frame();
  const auto proof = handshake.on_reply(bytes_of(reply));
  why = reply.empty() ? refusal(reply) : std::string(handshake.goodbye_text());
  if (!proof || !send_all(*proof)) return false;
  keys_ = handshake.keys();
  return true;
}

std::optional<RawClient> RawClient::open(const Target& target, std::string& why) {
  RawClient client;
  client.fd_ = connected(AF_INET, &target.address, sizeof target.address);
  if (!client.shake_hands(target, wire::kTransportTcp, why)) return std::nullopt;
  if (client.wire_version_ > 1) {
    std::array<std::byte, 64> body;
    const size_t bytes = wire::encode(wire::Introduce{.client_id = target.client_id}, body);
    client.queue(wire::Opcode::kIntroduce, std::span(body).first(bytes));
    client.push();
  }
  const std::string welcome = client.receive_frame();
  if (welcome.empty() || header_of(welcome).opcode != wire::Opcode::kWelcome) {
    why = refusal(welcome);
    return std::nullopt;
  }
  fcntl(client.fd(), F_SETFL, O_NONBLOCK);
  return client;
}

bool RawClient::take_window(const Target& target, base::UniqueFd (&window)[2], std::string& why) {
  const sockaddr_un address = shm_address(target.shm_dir);
  RawClient client;
  client.fd_ = connected(AF_UNIX, &address, sizeof address);
  if (!client.shake_hands(target, wire::kTransportShm, why)) return false;
  std::string frame(wire::kHelloBytesMax, '\0');
  iovec piece{frame.data(), frame.size()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(2 * sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = recvmsg(client.fd(), &message, MSG_CMSG_CLOEXEC);
  frame.resize(got < static_cast<ssize_t>(wire::kHeaderBytes) ? 0 : static_cast<size_t>(got));
  why = refusal(frame);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header == nullptr || header->cmsg_len != CMSG_LEN(2 * sizeof(int))) return false;
  int fds[2];
  std::memcpy(fds, CMSG_DATA(header), sizeof fds);
  window[0].reset(fds[0]);
  window[1].reset(fds[1]);
  return true;
}

void RawClient::queue(wire::Opcode opcode, std::span<const std::byte> body, uint32_t payload_bytes) {
  std::string sent(reinterpret_cast<const char*>(body.data()), body.size());
  if (opcode == wire::Opcode::kOps && wire_version_ == 1) sent.erase(2, wire::kOpsHeaderBytes - 2);
  wire::FrameHeader header;
  header.version = static_cast<uint8_t>(wire_version_);
  header.opcode = opcode;
  header.body_bytes = static_cast<uint32_t>(sent.size());
  header.payload_bytes = payload_bytes;
  header.request_id = ++request_;
  header.sequence = sequence_++;
  header.mac = wire::make_mac(keys_.client_to_server, header, bytes_of(sent));
  std::array<std::byte, wire::kHeaderBytes> encoded;
  wire::encode(header, encoded);
  out_.append(reinterpret_cast<const char*>(encoded.data()), encoded.size());
  out_ += sent;
}

bool RawClient::push() {
  if (out_.empty()) return true;
  const ssize_t sent = send(fd_.get(), out_.data(), out_.size(), MSG_NOSIGNAL);
  if (sent < 0) return errno == EAGAIN || errno == EINTR;
  out_.erase(0, static_cast<size_t>(sent));
  return true;
}

bool RawClient::pull(size_t bytes_max) {
  std::array<char, 64 * 1024> buffer;
  const ssize_t got = recv(fd_.get(), buffer.data(), std::min(bytes_max, buffer.size()), 0);
  if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
  in_.append(buffer.data(), static_cast<size_t>(got));
  return true;
}

std::optional<RawClient::Frame> RawClient::next_frame() {
  const size_t dropped = std::min(payload_left_, in_.size());
  in_.erase(0, dropped);
  payload_left_ -= dropped;
  if (payload_left_ > 0 || in_.size() < wire::kHeaderBytes) return std::nullopt;
  const wire::FrameHeader header = header_of(in_);
  const size_t end = wire::kHeaderBytes + header.body_bytes;
  if (in_.size() < end) return std::nullopt;
  Frame frame{header.opcode, in_.substr(wire::kHeaderBytes, header.body_bytes)};
  in_.erase(0, end);
  payload_left_ = header.payload_bytes;
  return frame;
}

}  // namespace memkv::test
