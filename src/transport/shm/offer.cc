#include "transport/shm/offer.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "base/hex.h"
#include "transport/frames.h"

namespace memkv::transport {
namespace {

size_t make_frame(wire::Opcode opcode, size_t body_bytes, const base::SipKey& key, std::span<std::byte> frame) {
  wire::FrameHeader header;
  header.opcode = opcode;
  header.body_bytes = static_cast<uint32_t>(body_bytes);
  header.mac = wire::make_mac(key, header, frame.subspan(wire::kHeaderBytes, body_bytes));
  wire::encode(header, frame.first<wire::kHeaderBytes>());
  return wire::kHeaderBytes + body_bytes;
}

bool send_whole(int fd, msghdr& message, size_t bytes) {
  ssize_t sent = 0;
  do {
    sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(bytes);
}

}  // namespace

std::string shm_socket_name(const std::array<uint8_t, 16>& boot_id) {
  return base::hex_encode(std::as_bytes(std::span(boot_id))) + ".sock";
}

bool is_shm_socket_name(std::string_view name) {
  static const size_t digits = shm_socket_name({}).find('.');
  return name.find_first_not_of("0123456789abcdef") == digits && name.substr(digits) == ".sock";
}

std::vector<std::string> usual_shm_dirs(const char* runtime_dir) {
  std::vector<std::string> dirs = {"/run/memkv"};
  if (runtime_dir != nullptr && *runtime_dir != '\0') dirs.push_back(std::string(runtime_dir) + "/memkv");
  dirs.push_back("/tmp/memkv-" + std::to_string(geteuid()));
  return dirs;
}

Result<void> send_windows(int fd, const wire::SessionKeys& keys, ShmWindow& window) {
  std::array<std::byte, 256> frame;
  const size_t body = wire::encode(window.sizes(), std::span(frame).subspan(wire::kHeaderBytes));
  const size_t bytes = make_frame(wire::Opcode::kWindows, body, keys.server_to_client, frame);
  iovec piece{frame.data(), bytes};
  const std::array<int, 2> fds = {window.get_fd(), window.put_fd()};
  alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof fds)> control{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fds);
  std::memcpy(CMSG_DATA(header), fds.data(), sizeof fds);
  if (!send_whole(fd, message, bytes)) return Error{Status::kUnavailable, errno, "shm: the window cannot be sent"};
  window.sent();
  return {};
}

void send_no_windows(int fd, const wire::SessionKeys& keys, Status status, std::string_view text) {
  std::array<std::byte, 1024> frame;
  const size_t body = wire::encode(wire::Goodbye{status, text}, std::span(frame).subspan(wire::kHeaderBytes));
  iovec piece{frame.data(), make_frame(wire::Opcode::kGoodbye, body, keys.server_to_client, frame)};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  (void)send_whole(fd, message, piece.iov_len);
}

Result<std::shared_ptr<ShmWindow>> take_windows(std::span<const std::byte> frame, const wire::SessionKeys& keys,
                                                std::array<base::UniqueFd, 2>& descriptors, std::string& goodbye) {
  if (frame.size() < wire::kHeaderBytes) return Error{Status::kInvalid, 0, "shm: a frame too short"};
  auto header = wire::decode_header(frame.first<wire::kHeaderBytes>());
  if (!header) return header.error();
  const auto body = frame.subspan(wire::kHeaderBytes);
  if (body.size() != header->body_bytes || header->payload_bytes != 0) {
    return Error{Status::kInvalid, 0, "shm: not the frame that it says"};
  }
  if (auto checked = check_header(*header, 0); !checked) return checked.error();
  if (!wire::check_mac(keys.server_to_client, *header, body)) {
    return Error{Status::kUnauthorized, 0, "frame: wrong MAC"};
  }
  if (header->opcode == wire::Opcode::kGoodbye) {
    auto said = wire::decode_goodbye(body);
    if (!said) return said.error();
    goodbye = said->text;
    return Error{is_failure(said->status) ? said->status : Status::kUnavailable, 0, "shm: the server has no window"};
  }
  if (header->opcode != wire::Opcode::kWindows) return Error{Status::kInvalid, 0, "shm: not WINDOWS"};
  auto windows = wire::decode_windows(body);
  if (!windows) return windows.error();
  if (!descriptors[0] || !descriptors[1]) return Error{Status::kInvalid, 0, "shm: WINDOWS without its descriptors"};
  return ShmWindow::take(*windows, std::move(descriptors[0]), std::move(descriptors[1]));
}

}  // namespace memkv::transport
