/// Clients that stop in the middle: what they hold comes back. Over tcp, with a client that writes bytes itself.

#include "shard/raw_client_testing.h"

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
    worker->stores().plan(memory_plan(*worker, io::make_memory_storage(kBytes), kBytes, 0, 1));
    worker->start();
    until([&] { return worker->ready(); });
    client.connect(*worker, kTestNamespace);
    connection = client.connection;
  }
  void introduce() {
    client.introduce(kTestClient);
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
  void send_put(std::string_view key, const std::string& data, size_t sent) {
    const Op put{.kind = OpKind::kPut, .length = static_cast<uint32_t>(data.size()), .key = key};
    client.send_ops(put, 1, sums_of(key, data), data, sent);
  }
  void send_gets(std::string_view key, uint32_t length, int count) {
    client.send_ops({.kind = OpKind::kGet, .length = length, .key = key}, count);
  }

  Identity identity;
  std::unique_ptr<Worker> worker;
  Connection* connection = nullptr;
  RawClient client;
};

TEST_F(StalledTest, WhoDoesNotIntroduceItselfIsCut) {
  turn_for(kStalledNs / 2);
  EXPECT_FALSE(connection->closing());
  until([&] { return connection->closing(); });
  EXPECT_EQ(worker->connections().clients().count(), 0u);
}

TEST_F(StalledTest, WhoSendsHalfABlockIsCutAndItsRoomComesBack) {
  introduce();
  const std::string data = pattern(64 * 1024);
  send_put("k", data, data.size() / 2);
  until([&] { return connection->receiver().in_payload(); });
  turn_for(kStalledNs / 2);
  EXPECT_FALSE(connection->closing());
  client.write(data.data() + data.size() / 2, 2048);  // a slow client is not a stopped one
  turn_for(kStalledNs * 3 / 4);
  EXPECT_FALSE(connection->closing());
  until([&] { return worker->pools().ops.in_use() == 0; });
  EXPECT_EQ(worker->slots().arena().in_use(), 0u);
}

TEST_F(StalledTest, WhoDoesNotReadIsCutHoweverMuchItSends) {
  introduce();
  const std::string data = pattern(64 * 1024);
  send_put("k", data, data.size());
  send_gets("k", 64 * 1024, 32);
  until([&] { return connection->link()->bytes_queued() > 0; });
  const uint64_t limit = worker->now_ns() + 10 * kStalledNs;
  while (!connection->closing() && worker->now_ns() < limit) {
    client.send(wire::Opcode::kPing, {});
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
    while (::recv(client.fd.get(), room.data(), room.size(), MSG_DONTWAIT) > 0) {
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
