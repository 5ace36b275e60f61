#pragma once
/// For tests: the client's end of a tcp connection. It writes bytes itself, parts of a frame if the test likes, and
/// reads when the test says so.

#include <fcntl.h>
#include <sys/socket.h>

#include "base/unique_fd.h"
#include "shard/rig_testing.h"
#include "transport/frames.h"

namespace memkv::shard {

class RawClient {
 public:
  /// The worker has the other end.
  void connect(Worker& worker, uint64_t namespace_id, const transport::TcpOptions& agreed = {}) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fd = base::UniqueFd(ends[0]);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    connection = worker.connections().open(namespace_id);
    connection->attach(
        transport::make_tcp_link(worker.reactor(), ends[1], transport::Role::kServer, kTestKeys, *connection, agreed),
        Transport::kTcp);
  }
  void introduce(const ClientId& id) {
    std::array<std::byte, 64> body;
    send(wire::Opcode::kIntroduce, std::span(body).first(wire::encode(wire::Introduce{.client_id = id}, body)));
  }
  /// Sends a frame with the first `payload_sent` bytes of its payload.
  void send(wire::Opcode opcode, std::span<const std::byte> body, const std::string& payload = {},
            size_t payload_sent = 0) {
    transport::SendFrame frame;
    frame.on_done = [](transport::SendFrame&, bool) {};
    frame.opcode = opcode;
    frame.request_id = ++request;
    frame.body = body;
    const iovec piece{const_cast<char*>(payload.data()), payload.size()};
    if (!payload.empty()) frame.payload = {&piece, 1};
    ASSERT_TRUE(transport::prepare(frame));
    transport::encode_header(frame, sequence++, kTestKeys.client_to_server);
    write(frame.header.data(), frame.header.size());
    write(frame.body.data(), frame.body.size());
    write(payload.data(), payload_sent);
  }
  /// Sends the same op `count` times.
  void send_ops(wire::Op op, int count, std::span<const uint64_t> sums = {}, const std::string& payload = {},
                size_t payload_sent = 0) {
    std::array<std::byte, 4096> body;
    wire::OpsEncoder encoder(body);
    for (int i = 0; i < count; i++) {
      op.index = static_cast<uint16_t>(i);
      ASSERT_TRUE(encoder.add(op, sums));
    }
    send(wire::Opcode::kOps, encoder.finish(), payload, payload_sent);
  }
  void write(const void* data, size_t bytes) {
    ASSERT_EQ(::send(fd.get(), data, bytes, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
  }

  base::UniqueFd fd;
  Connection* connection = nullptr;

 private:
  uint64_t sequence = 0, request = 0;
};

}  // namespace memkv::shard
