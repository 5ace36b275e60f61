#include "transport/rdma/control.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace memkv::transport::rdma {

size_t write_control(wire::Opcode opcode, std::span<const std::byte> body, const base::SipKey& key,
                     std::span<std::byte> out) {
  wire::FrameHeader header;
  header.opcode = opcode;
  header.body_bytes = static_cast<uint32_t>(body.size());
  header.mac = wire::make_mac(key, header, body);
  wire::encode(header, out.first<wire::kHeaderBytes>());
  std::memcpy(out.data() + wire::kHeaderBytes, body.data(), body.size());
  return wire::kHeaderBytes + body.size();
}

Result<wire::RdmaEnd> read_control(std::span<const std::byte> frame, const base::SipKey& key, wire::Opcode expected,
                                   std::string* goodbye) {
  auto header = wire::decode_header(frame.first<wire::kHeaderBytes>());
  if (!header) return header.error();
  if (auto checked = check_header(*header, 0); !checked) return checked.error();
  const std::span<const std::byte> body = frame.subspan(wire::kHeaderBytes);
  if (!wire::check_mac(key, *header, body)) return Error{Status::kUnauthorized, 0, "frame: wrong MAC"};
  if (header->opcode == wire::Opcode::kGoodbye) {
    const auto said = wire::decode_goodbye(body);
    if (goodbye && said) *goodbye = said->text;
    return Error{Status::kUnavailable, 0, "the server has no RDMA for us"};
  }
  if (header->opcode != expected) return Error{Status::kInvalid, 0, "rdma: another frame was expected"};
  return wire::decode_rdma_end(body);
}

void refuse(int fd, const wire::SessionKeys& keys, std::string_view why) {
  std::array<std::byte, 512> body;
  const size_t bytes = wire::encode(wire::Goodbye{Status::kUnavailable, why}, body);
  std::array<std::byte, wire::kHeaderBytes + 512> frame;
  const size_t whole =
      write_control(wire::Opcode::kGoodbye, std::span(body).first(bytes), keys.server_to_client, frame);
  (void)!::send(fd, frame.data(), whole, MSG_NOSIGNAL | MSG_DONTWAIT);
  ::close(fd);
}

}  // namespace memkv::transport::rdma
