/// Clients that stop in the middle: what they hold comes back. Over tcp, by a client that writes bytes itself.

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "shard/rig_testing.h"
#include "transport/frames.h"

namespace memkv::shard {
namespace {

using wire::Op;
using wire::OpKind;

constexpr uint64_t kStalledNs = 1'000'000'000;
constexpr uint64_t kBytes = 64 << 20;

class StalledTest : public testing::Test {
 protected:
  void SetUp() override {
    identity = test_identity(1);
    identity.worker_count = 1;
    WorkerOptions options = test_worker_options();
    options.stalled_ns = options.introduce_ns = kStalledNs;
    worker = Worker::make(test_reactor(), identity, options).value();
    worker->plan_shard(memory_plan(*worker, io::make_memory_storage(kBytes), kBytes, 0, 1));
    worker->start();
    until([&] { return worker->ready(); });
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    client = base::UniqueFd(ends[0]);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    connection = worker->open_connection(kTestNamespace);
    connection->attach(
        transport::make_tcp_link(worker->reactor(), ends[1], transport::Role::kServer, kTestKeys, *connection),
        Transport::kTcp);
  }
  void introduce() {
    std::array<std::byte, 64> body;
    const size_t bytes = wire::encode(wire::Introduce{.client_id = kTestClient}, body);
    send(wire::Opcode::kIntroduce, std::span(body).first(bytes), "", 0);
    until([&] { return connection->client() != nullptr; });
  }
  void TearDown() override {
    WorkerMessage message;
    message.kind = WorkerMessage::Kind::kStop;
    ASSERT_TRUE(worker->push(message));
    until([&] { return worker->state() == Worker::State::kStopped; });
    worker->check_whole();
  }
  void until(auto&& done) { run_until(*worker, done); }
  void turn_for(uint64_t ns) {
    const uint64_t end = worker->now_ns() + ns;
    while (worker->now_ns() < end) worker->turn(1'000'000);
  }
  void send(wire::Opcode opcode, std::span<const std::byte> body, const std::string& payload, size_t payload_sent) {
    transport::OutFrame frame;
    frame.on_done = [](transport::OutFrame&, bool) {};
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
  void write(const void* data, size_t bytes) {
    ASSERT_EQ(::send(client.get(), data, bytes, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
  }
  void send_put(std::string_view key, const std::string& data, size_t sent) {
    std::array<std::byte, 4096> body;
    wire::OpsEncoder encoder(body);
    ASSERT_TRUE(encoder.add({.kind = OpKind::kPut, .length = static_cast<uint32_t>(data.size()), .key = key},
                            sums_of(key, data)));
    send(wire::Opcode::kOps, encoder.finish(), data, sent);
  }
  void send_gets(std::string_view key, uint32_t length, int count) {
    std::array<std::byte, 4096> body;
    wire::OpsEncoder encoder(body);
    for (int i = 0; i < count; i++) {
      ASSERT_TRUE(
          encoder.add({.kind = OpKind::kGet, .index = static_cast<uint16_t>(i), .length = length, .key = key}, {}));
    }
    send(wire::Opcode::kOps, encoder.finish(), "", 0);
  }

  Identity identity;
  std::unique_ptr<Worker> worker;
  Connection* connection = nullptr;
  base::UniqueFd client;
  uint64_t sequence = 0, request = 0;
};

TEST_F(StalledTest, WhoDoesNotIntroduceItselfIsCut) {
  turn_for(kStalledNs / 2);
  EXPECT_FALSE(connection->closing());
  until([&] { return connection->closing(); });
  EXPECT_EQ(worker->clients().count(), 0u);
}

TEST_F(StalledTest, WhoSendsHalfABlockIsCutAndItsRoomComesBack) {
  introduce();
  const std::string data = pattern(64 * 1024);
  send_put("k", data, data.size() / 2);
  until([&] { return connection->in_payload(); });
  turn_for(kStalledNs / 2);
  EXPECT_FALSE(connection->closing());
  write(data.data() + data.size() / 2, 1);  // slow is not stopped
  turn_for(kStalledNs * 3 / 4);
  EXPECT_FALSE(connection->closing());
  until([&] { return worker->ops().in_use() == 0; });
  EXPECT_EQ(worker->slots().in_use(), 0u);
}

TEST_F(StalledTest, WhoDoesNotReadIsCutHoweverMuchItSends) {
  introduce();
  const std::string data = pattern(64 * 1024);
  send_put("k", data, data.size());
  send_gets("k", 64 * 1024, 32);
  until([&] { return connection->link()->bytes_queued() > 0; });
  const uint64_t limit = worker->now_ns() + 10 * kStalledNs;
  while (!connection->closing() && worker->now_ns() < limit) {
    send(wire::Opcode::kPing, {}, "", 0);
    turn_for(kStalledNs / 10);
  }
  EXPECT_TRUE(connection->closing());
}

TEST_F(StalledTest, WhoAsksAfterALongSilenceIsNotCut) {
  introduce();
  const std::string data = pattern(64 * 1024);
  send_put("k", data, data.size());
  std::vector<char> room(1 << 20);
  const auto drain = [&] {
    while (::recv(client.get(), room.data(), room.size(), MSG_DONTWAIT) > 0) {
    }
  };
  turn_for(3 * kStalledNs);
  drain();
  send_gets("k", 64 * 1024, 32);
  turn_for(kStalledNs / 2);
  EXPECT_FALSE(connection->closing());
  for (int i = 0; i < 100; i++) drain(), turn_for(2'000'000);
  EXPECT_EQ(connection->link()->bytes_queued(), 0u);
  EXPECT_FALSE(connection->closing());
}

}  // namespace
}  // namespace memkv::shard
