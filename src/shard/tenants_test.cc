/// Two tenants at one worker: the one hardly notices what the other does.

#include "shard/tenants.h"

#include <deque>
#include <random>

#include "shard/raw_client_testing.h"

namespace memkv::shard {
namespace {

using wire::Op;
using wire::OpKind;

constexpr uint64_t kHonest = kTestNamespace, kAttacker = 78;
constexpr ClientId kOtherClient = {8};
constexpr ClientId kRawClient = {9};  ///< all raw connections belong to one client
constexpr uint32_t kChunk = kChunkBytesMax;
constexpr uint64_t kBytes = 64 << 20;

/// Tenants of one pool. Each has clients that hold some pieces of it.
struct Pieces {
  Share share;
  std::deque<Part> parts;
  std::deque<std::vector<uint32_t>> held;

  Pieces(uint32_t total, std::vector<uint32_t> clients) {
    for (const uint32_t count : clients) {
      parts.emplace_back();
      held.emplace_back(count, 0u);
    }
    divide(total);
  }
  void divide(uint32_t total) {
    share.set(total, static_cast<uint32_t>(parts.size()));
    for (size_t i = 0; i < parts.size(); i++) {
      share.divide(parts[i], static_cast<uint32_t>(held[i].size()));
      for (const uint32_t of_client : held[i]) Share::add(parts[i], of_client);
      share.count(parts[i]);
    }
  }
  bool fits(size_t tenant, size_t client = 0) const { return share.fits(parts[tenant], held[tenant][client]); }
  void take(size_t tenant, size_t client = 0) { share.take(parts[tenant], held[tenant][client]); }
  void give(size_t tenant, size_t client = 0) { share.give(parts[tenant], held[tenant][client]); }
  /// Takes all pieces that the client gets.
  uint32_t flood(size_t tenant, size_t client = 0) {
    while (fits(tenant, client)) take(tenant, client);
    return held[tenant][client];
  }
};

TEST(Share, GuaranteesEqualPartsOfOneHalf) {
  Pieces pieces(8, {1, 1});
  EXPECT_EQ(pieces.share.most(), 6u);
  EXPECT_EQ(pieces.flood(0), 6u);
  EXPECT_EQ(pieces.flood(1), 2u);
  pieces.give(0);
  EXPECT_TRUE(pieces.fits(1)) << "what is common is for whoever comes first";
}

TEST(Share, OneAloneHasAllAndGivesBackWhenAnotherComes) {
  Pieces pieces(8, {1});
  EXPECT_EQ(pieces.flood(0), 8u);
  pieces.parts.emplace_back();
  pieces.held.push_back({0});
  pieces.divide(8);
  for (int i = 0; i < 2; i++) {
    EXPECT_FALSE(pieces.fits(0));
    EXPECT_TRUE(pieces.fits(1));
    pieces.give(0);
    pieces.take(1);
  }
  EXPECT_FALSE(pieces.fits(1));
}

TEST(Share, WhatIsGuaranteedToATenantIsDividedAmongItsClients) {
  Pieces pieces(16, {2, 1});
  EXPECT_EQ(pieces.flood(0, 0), 11u) << "1 of its own, 2 of its tenant's, 8 that are common";
  EXPECT_EQ(pieces.flood(0, 1), 1u);
  EXPECT_EQ(pieces.flood(1), 4u);
  pieces.give(0, 0);
  EXPECT_TRUE(pieces.fits(0, 1)) << "what one client gives back another may have";
  EXPECT_TRUE(pieces.fits(1));
}

/// In whatever order pieces are taken and given back: a client that holds less than is guaranteed to it gets a piece,
/// and no more pieces are given out than exist.
TEST(Share, WhatIsGuaranteedIsAlwaysThere) {
  std::mt19937 generator(1);
  const auto random = [&] { return static_cast<uint32_t>(generator()); };
  for (int round = 0; round < 200; round++) {
    const uint32_t total = 24 + random() % 40;
    Pieces pieces(total, {1 + random() % 3, 1 + random() % 3});
    for (int i = 0; i < 300; i++) {
      const size_t tenant = random() % 2, client = random() % pieces.held[tenant].size();
      if (random() % 3 != 0 && pieces.fits(tenant, client)) pieces.take(tenant, client);
      if (random() % 4 == 0 && pieces.held[tenant][client] > 0) pieces.give(tenant, client);
    }
    uint32_t all = 0;
    for (size_t tenant = 0; tenant < 2; tenant++) {
      for (size_t client = 0; client < pieces.held[tenant].size(); client++) {
        all += pieces.held[tenant][client];
        EXPECT_TRUE(pieces.held[tenant][client] >= pieces.parts[tenant].each || pieces.fits(tenant, client));
      }
    }
    EXPECT_LE(all, total);
  }
}

class TenantsRig : public testing::Test {
 protected:
  void start(WorkerOptions options, bool memory_mode = false) {
    identity = test_identity(1);
    options.namespaces = {kHonest, kAttacker};
    worker = Worker::make(test_reactor(), identity, options).value();
    ShardPlan plan = memory_plan(*worker, io::make_memory_storage(kBytes), kBytes, 0, 1);
    plan.options.memory_mode = memory_mode;
    worker->stores().plan(std::move(plan));
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
  /// False: the server has no room for the connection.
  bool connect(TestClient& client, uint64_t ns, const ClientId& id = kTestClient) {
    Connection* connection = worker->connections().open(ns);
    if (connection == nullptr) return false;
    auto links = transport::make_loopback_links(worker->reactor(), kTestKeys, client, *connection);
    client.link = std::move(links.client);
    connection->attach(std::move(links.server), Transport::kTcp);
    client.introduce(id);
    until([&] { return client.count(wire::Opcode::kWelcome) == 1 || client.closed; });
    return !client.closed;
  }
  RawClient& connect_raw(uint64_t ns) {
    RawClient& client = raw.emplace_back();
    client.connect(*worker, ns);
    client.introduce(kRawClient);
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
  uint32_t held(uint64_t ns, size_t pool) { return worker->tenants().of(ns).held(pool); }
  uint32_t slots_held(uint64_t ns) {
    uint32_t all = 0;
    for (size_t pool = kPooledSlots; pool < kPoolsMax; pool++) all += held(ns, pool);
    return all;
  }

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
    connect_raw(kAttacker).send_ops(
        {.kind = OpKind::kPut, .flags = wire::kOpServerChecksum, .length = kChunk, .key = key}, 1, {}, data, 1000);
  }
  settle();
  EXPECT_EQ(slots_held(kAttacker), 3u) << "of four";
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(put(honest, "block", data), Status::kOk);
    EXPECT_EQ(get(honest, "block", kChunk), Status::kOk);
  }
  // Others of the same namespace wait for what the slow clients hold: a byte now and then is no progress.
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
  for (int i = 0; i < 6; i++)
    connect_raw(kAttacker).send_ops({.kind = OpKind::kGet, .length = kChunk, .key = "block"}, 1);
  settle();
  EXPECT_EQ(slots_held(kAttacker), 3u) << "of four; none of them leaves, nobody reads";
  for (int i = 0; i < 3; i++) EXPECT_EQ(get(honest, "block", kChunk), Status::kOk);
  until([&] { return raw[0].connection->closing() || raw[1].connection->closing(); });
}

TEST_F(CaseB1, PutsThatTrickleLeaveAnotherClientOfTheirTenantASlot) {
  start(options());
  const std::string data = pattern(kChunk);
  for (int i = 0; i < 6; i++) {
    const std::string key = "slow " + std::to_string(i);
    connect_raw(kHonest).send_ops(
        {.kind = OpKind::kPut, .flags = wire::kOpServerChecksum, .length = kChunk, .key = key}, 1, {}, data, 1000);
  }
  settle();
  EXPECT_EQ(slots_held(kHonest), 3u) << "of four";
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(put(honest, "block", data), Status::kOk);
    EXPECT_EQ(get(honest, "block", kChunk), Status::kOk);
  }
}

TEST_F(CaseB2, ReadersThatDoNotReadLeaveAnotherClientOfTheirTenantASlot) {
  start(options());
  const std::string data = pattern(kChunk);
  ASSERT_EQ(put(honest, "block", data), Status::kOk);
  for (int i = 0; i < 6; i++)
    connect_raw(kHonest).send_ops({.kind = OpKind::kGet, .length = kChunk, .key = "block"}, 1);
  settle();
  EXPECT_EQ(slots_held(kHonest), 3u) << "of four";
  for (int i = 0; i < 3; i++) EXPECT_EQ(get(honest, "block", kChunk), Status::kOk);
}

/// This also holds when all slots come back at once: a client with many gets is not served before one with a single
/// get.
TEST_F(CaseB2, ClientsOfATenantThatWaitForSlotsTakeTurns) {
  start(options());
  ASSERT_EQ(put(honest, "block", pattern(kChunk)), Status::kOk);
  std::deque<TestClient> greedy(3);
  for (TestClient& client : greedy) {
    ASSERT_TRUE(connect(client, kHonest, kOtherClient));
    for (int i = 0; i < 12; i++) client.op({.kind = OpKind::kGet, .length = kChunk, .key = "block"});
    client.send();
  }
  until([&] { return worker->tenants().anyone_waits(); });
  for (int i = 0; i < 2; i++) honest.op({.kind = OpKind::kGet, .length = kChunk, .key = "block"});
  const uint64_t request = honest.send();
  until([&] { return honest.find(request, 1) != nullptr; });
  size_t before = 0;
  for (const TestClient& client : greedy) before += client.replies.size();
  EXPECT_LE(before, 18u) << "of 36";
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
  EXPECT_EQ(worker->stats().turned_away.load(), 2u) << "with the last of the idle ones";
}

TEST_F(CaseB3, IdleConnectionsOfOneClientLeaveRoomForAnotherOfItsTenant) {
  start(options());
  std::deque<TestClient> idle;
  while (connect(idle.emplace_back(), kHonest, kOtherClient)) {
  }
  EXPECT_EQ(idle.back().goodbye, Status::kBusy);
  EXPECT_GE(worker->stats().turned_away.load(), 1u);
  idle.pop_back();
  EXPECT_EQ(idle.size(), 11u) << "of 12 that their tenant may have";
  TestClient third;
  EXPECT_TRUE(connect(third, kHonest, kRawClient));
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
  until([&] { return worker->pools().uploads.in_use() == 0; });
  EXPECT_EQ(held(kAttacker, kPooledUploads), 0u);
}

TEST_F(CaseB4, UploadsOfOneClientLeaveRoomForAnotherOfItsTenant) {
  start(options());
  TestClient greedy;
  ASSERT_TRUE(connect(greedy, kHonest, kOtherClient));
  int begun = 0;
  for (int i = 0; i < 10; i++) {
    const std::string key = "large " + std::to_string(i);
    greedy.op({.kind = OpKind::kBegin, .deadline_us = UINT32_MAX, .offset = 4 << 20, .key = key});
    begun += answer(greedy, greedy.send()).op.status == Status::kOk ? 1 : 0;
  }
  EXPECT_EQ(begun, 7) << "of 8";
  honest.op({.kind = OpKind::kBegin, .offset = 4 << 20, .key = "mine"});
  EXPECT_EQ(answer(honest, honest.send()).op.status, Status::kOk);
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
  EXPECT_EQ(worker->pools().exists_ops.in_use(), 0u);
}

TEST_F(CaseB6, QuestionsOfOneClientLeaveRoomForAnotherOfItsTenant) {
  start(options(), true);
  TestClient greedy;
  ASSERT_TRUE(connect(greedy, kHonest, kOtherClient));
  for (int i = 0; i < 20; i++) ask_exists(greedy, 12'000);
  until([&] { return greedy.count(wire::Opcode::kReply) > 0; });
  EXPECT_EQ(held(kHonest, kPooledQuestions), kExistsOps - 2) << "two are the other's";
  ask_exists(honest, 12'000);
  until([&] { return honest.count(wire::Opcode::kExistsReply) == 1; });
}

TEST_F(TenantsRig, AClientWithManyConnectionsHasTheCreditOfOneClient) {
  WorkerOptions many_ops = options();
  many_ops.ops_max = 4096;
  start(many_ops);
  std::deque<TestClient> many(6);
  for (TestClient& client : many) ASSERT_TRUE(connect(client, kHonest, kOtherClient));
  for (const Holder& holder : worker->tenants().of(kHonest).clients) {
    const uint32_t ops = worker->slots().compute_credit(holder).ops * holder.held[kPooledConnections];
    EXPECT_LE(ops, many_ops.ops_max / 4) << "half of the half that all of the two clients have";
    EXPECT_GE(ops, 256u);
  }
}

}  // namespace
}  // namespace memkv::shard
