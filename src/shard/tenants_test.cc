/// Two tenants at one worker: what one of them does, the other hardly notices.

#include "shard/tenants.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <deque>

#include "base/unique_fd.h"
#include "shard/rig_testing.h"
#include "transport/frames.h"

namespace memkv::shard {
namespace {

using wire::Op;
using wire::OpKind;

constexpr uint64_t kHonest = kTestNamespace, kAttacker = 78;
constexpr uint32_t kChunk = kChunkBytesMax;
constexpr uint64_t kBytes = 64 << 20;

TEST(Share, GuaranteesEqualPartsOfOneHalf) {
  Share share;
  share.set(8, 2);
  EXPECT_EQ(share.guaranteed(), 2u);
  EXPECT_EQ(share.most(), 6u);
  uint32_t greedy = 0, other = 0;
  while (share.fits(greedy)) share.take(greedy);
  EXPECT_EQ(greedy, 6u);
  while (share.fits(other)) share.take(other);
  EXPECT_EQ(other, 2u);
  share.give(greedy);
  EXPECT_TRUE(share.fits(other)) << "what is common is for whoever comes first";
}

TEST(Share, OneAloneHasAllAndGivesBackWhenAnotherComes) {
  Share share;
  share.set(8, 1);
  uint32_t first = 0, second = 0;
  while (share.fits(first)) share.take(first);
  EXPECT_EQ(first, 8u);
  share.set(8, 2);
  share.count(first);
  share.count(second);
  for (int i = 0; i < 2; i++) {
    EXPECT_FALSE(share.fits(first));
    EXPECT_TRUE(share.fits(second));
    share.give(first);
    share.take(second);
  }
  EXPECT_FALSE(share.fits(second));
}

/// Writes frames byte by byte where it likes, and reads when it likes.
struct RawClient {
  base::UniqueFd fd;
  Connection* connection = nullptr;
  uint64_t sequence = 0, request = 0;

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
    ASSERT_EQ(::send(fd.get(), data, bytes, MSG_NOSIGNAL), static_cast<ssize_t>(bytes));
  }
  void introduce() {
    std::array<std::byte, 64> body;
    send(wire::Opcode::kIntroduce, std::span(body).first(wire::encode(wire::Introduce{.client_id = {9}}, body)), "", 0);
  }
  void send_op(const Op& op, const std::string& payload = {}, size_t payload_sent = 0) {
    std::array<std::byte, 4096> body;
    wire::OpsEncoder encoder(body);
    ASSERT_TRUE(encoder.add(op, {}));
    send(wire::Opcode::kOps, encoder.finish(), payload, payload_sent);
  }
};

class TenantsRig : public testing::Test {
 protected:
  void start(WorkerOptions options, bool memory_mode = false) {
    identity = test_identity(1);
    options.namespaces = {kHonest, kAttacker};
    worker = Worker::make(test_reactor(), identity, options).value();
    ShardPlan plan = memory_plan(*worker, io::make_memory_storage(kBytes), kBytes, 0, 1);
    plan.options.memory_mode = memory_mode;
    worker->plan_shard(std::move(plan));
    worker->start();
    until([&] { return worker->ready(); });
    connect(honest, kHonest);
  }
  static WorkerOptions options() {
    WorkerOptions options = test_worker_options();
    options.connections_max = 16;
    return options;
  }
  void TearDown() override {
    WorkerMessage message;
    message.kind = WorkerMessage::Kind::kStop;
    ASSERT_TRUE(worker->push(message));
    raw.clear();
    until([&] { return worker->state() == Worker::State::kStopped; });
    worker->check_whole();
  }
  void until(auto&& done) { run_until(*worker, done); }
  void settle() {
    const uint64_t end = worker->now_ns() + 50'000'000;
    while (worker->now_ns() < end) worker->turn(1'000'000);
  }
  bool connect(TestClient& client, uint64_t ns) {
    Connection* connection = worker->open_connection(ns);
    if (connection == nullptr) return false;
    auto links = transport::make_loopback_links(worker->reactor(), kTestKeys, client, *connection);
    client.link = std::move(links.client);
    connection->attach(std::move(links.server), Transport::kTcp);
    client.introduce();
    until([&] { return client.count(wire::Opcode::kWelcome) == 1; });
    return true;
  }
  RawClient& connect_raw(uint64_t ns) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    RawClient& client = raw.emplace_back();
    client.fd = base::UniqueFd(ends[0]);
    client.connection = worker->open_connection(ns);
    client.connection->attach(
        transport::make_tcp_link(worker->reactor(), ends[1], transport::Role::kServer, kTestKeys, *client.connection),
        Transport::kTcp);
    client.introduce();
    until([&] { return client.connection->client() != nullptr; });
    return client;
  }
  const Reply& answer(TestClient& client, uint64_t request) {
    until([&] { return client.find(request) != nullptr; });
    static const Reply none;
    const Reply* found = client.find(request);
    return found != nullptr ? *found : none;
  }
  Status put(TestClient& client, std::string_view key, const std::string& data) {
    client.op({.kind = OpKind::kPut, .flags = wire::kOpServerChecksum, .key = key}, data);
    return answer(client, client.send()).op.status;
  }
  Status get(TestClient& client, std::string_view key, uint32_t length) {
    client.op({.kind = OpKind::kGet, .length = length, .key = key});
    return answer(client, client.send()).op.status;
  }
  uint64_t ask_exists(TestClient& client, uint32_t keys) {
    return client.send_plain(wire::Opcode::kExists, [&](std::span<std::byte> body) {
      wire::ExistsEncoder encoder(body, false);
      for (uint32_t i = 0; i < keys; i++) EXPECT_TRUE(encoder.add("key " + std::to_string(i)));
      return encoder.finish().size();
    });
  }
  uint32_t held(uint64_t ns, size_t pool) { return worker->tenants().of(ns).held[pool]; }

  Identity identity;
  std::unique_ptr<Worker> worker;
  TestClient honest;
  std::deque<RawClient> raw;
};

using CaseB1 = TenantsRig;
TEST_F(CaseB1, PutsThatTrickleLeaveTheOtherTenantItsSlots) {
  start(options());
  const std::string data = pattern(kChunk);
  for (int i = 0; i < 6; i++) {
    const std::string key = "slow " + std::to_string(i);
    connect_raw(kAttacker).send_op(
        {.kind = OpKind::kPut, .flags = wire::kOpServerChecksum, .length = kChunk, .key = key}, data, 1000);
  }
  settle();
  EXPECT_EQ(worker->tenants().of(kAttacker).slots, 3u) << "of four";
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(put(honest, "block", data), Status::kOk);
    EXPECT_EQ(get(honest, "block", kChunk), Status::kOk);
  }
  // Others of its own namespace wait for what the slow ones hold: a byte now and then is no progress.
  until([&] {
    (void)::send(raw[0].fd.get(), data.data(), 1, MSG_NOSIGNAL);
    worker->turn(1'000'000);
    return raw[0].connection->closing();
  });
  EXPECT_GE(worker->stats().connections_cut.load(), 1u);
}

using CaseB2 = TenantsRig;
TEST_F(CaseB2, ReadersThatDoNotReadLeaveTheOtherTenantItsSlots) {
  start(options());
  const std::string data = pattern(kChunk);
  TestClient filler;
  ASSERT_TRUE(connect(filler, kAttacker));
  ASSERT_EQ(put(filler, "block", data), Status::kOk);
  ASSERT_EQ(put(honest, "block", data), Status::kOk);
  for (int i = 0; i < 6; i++) connect_raw(kAttacker).send_op({.kind = OpKind::kGet, .length = kChunk, .key = "block"});
  settle();
  EXPECT_EQ(worker->tenants().of(kAttacker).slots, 3u) << "of four; none of them leaves, nobody reads";
  for (int i = 0; i < 3; i++) EXPECT_EQ(get(honest, "block", kChunk), Status::kOk);
  until([&] { return raw[0].connection->closing() || raw[1].connection->closing(); });
}

using CaseB3 = TenantsRig;
TEST_F(CaseB3, IdleConnectionsLeaveRoomAndWhoIsTurnedAwayHearsWhy) {
  start(options());
  std::deque<TestClient> idle;
  while (connect(idle.emplace_back(), kAttacker)) {
  }
  idle.pop_back();
  EXPECT_EQ(idle.size(), 12u) << "of 16";
  std::deque<TestClient> more;
  for (int i = 0; i < 3; i++) EXPECT_TRUE(connect(more.emplace_back(), kHonest)) << i;

  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
  TestClient away;
  away.link = transport::make_tcp_link(worker->reactor(), ends[0], transport::Role::kClient, kTestKeys, away);
  WorkerMessage message;
  message.kind = WorkerMessage::Kind::kConnection;
  message.fd = ends[1];
  message.namespace_id = kAttacker;
  message.keys = kTestKeys;
  ASSERT_TRUE(worker->push(message));
  away.introduce();
  until([&] { return away.closed; });
  EXPECT_EQ(away.goodbye, Status::kBusy);
  EXPECT_EQ(away.count(wire::Opcode::kWelcome), 0u);
  EXPECT_EQ(worker->stats().turned_away.load(), 1u);
}

using CaseB4 = TenantsRig;
TEST_F(CaseB4, UploadsThatNeverEndLeaveRoomAndEndWithoutProgress) {
  WorkerOptions few = options();
  few.upload_idle_ns = 300'000'000;
  start(few);
  TestClient attacker;
  ASSERT_TRUE(connect(attacker, kAttacker));
  int begun = 0;
  for (int i = 0; i < 10; i++) {
    const std::string key = "large " + std::to_string(i);
    attacker.op({.kind = OpKind::kBegin, .deadline_us = UINT32_MAX, .offset = 4 << 20, .key = key});
    begun += answer(attacker, attacker.send()).op.status == Status::kOk ? 1 : 0;
  }
  EXPECT_EQ(begun, 6) << "of 8";
  for (const char* key : {"mine", "mine too"}) {
    honest.op({.kind = OpKind::kBegin, .offset = 4 << 20, .key = key});
    EXPECT_EQ(answer(honest, honest.send()).op.status, Status::kOk);
  }
  until([&] { return worker->uploads().in_use() == 0; });
  EXPECT_EQ(held(kAttacker, kPooledUploads), 0u);
}

using CaseB5 = TenantsRig;
TEST_F(CaseB5, AListGoesInStepsAndOpsInBetween) {
  start(options(), true);
  TestClient attacker;
  ASSERT_TRUE(connect(attacker, kAttacker));
  ASSERT_EQ(put(honest, "block", "x"), Status::kOk);
  ASSERT_EQ(put(attacker, "theirs", "y"), Status::kOk);
  for (int i = 0; i < 3; i++) {
    attacker.send_plain(wire::Opcode::kList, [](std::span<std::byte> body) {
      return wire::encode(wire::List{0, 100}, body);
    });
  }
  EXPECT_EQ(get(honest, "block", 1), Status::kOk);
  EXPECT_EQ(attacker.count(wire::Opcode::kListReply), 0u) << "the get waited for a whole walk";
  until([&] { return attacker.count(wire::Opcode::kListReply) + attacker.count(wire::Opcode::kReply) == 4; });
  EXPECT_GE(attacker.count(wire::Opcode::kListReply), 2u);
}

using CaseB6 = TenantsRig;
TEST_F(CaseB6, LongQuestionsGoInStepsAndLeaveRoom) {
  start(options(), true);
  TestClient attacker;
  ASSERT_TRUE(connect(attacker, kAttacker));
  ASSERT_EQ(put(honest, "block", "x"), Status::kOk);
  for (int i = 0; i < 14; i++) ask_exists(attacker, 12'000);
  EXPECT_EQ(get(honest, "block", 1), Status::kOk);
  EXPECT_EQ(attacker.count(wire::Opcode::kExistsReply), 0u) << "the get waited for a whole list";
  EXPECT_LE(held(kAttacker, kPooledQuestions), kExistsOps * 3 / 4);
  ask_exists(honest, 12'000);
  until([&] { return honest.count(wire::Opcode::kExistsReply) == 1; });
  until([&] { return attacker.count(wire::Opcode::kExistsReply) + attacker.count(wire::Opcode::kReply) == 14; });
  EXPECT_GE(attacker.count(wire::Opcode::kExistsReply), 12u);
  EXPECT_EQ(worker->exists_ops().in_use(), 0u);
}

}  // namespace
}  // namespace memkv::shard
