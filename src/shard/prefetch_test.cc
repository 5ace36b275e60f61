/// Prefetches at a worker: answered at once, few reads at a time, dropped where they would be in the way.

#include "io/faulty_device.h"
#include "shard/rig_testing.h"

namespace memkv::shard {
namespace {

using wire::Op;
using wire::OpKind;

constexpr uint32_t kBlock = 64 * 1024;
constexpr uint64_t kOther = 78;

class PrefetchTest : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 128 << 20;

  void SetUp() override {
    identity = test_identity(1);
    identity.worker_count = 1;
    WorkerOptions options = test_worker_options();
    options.ops_max = 4096;
    options.frames_max = 512;
    options.namespaces = {kTestNamespace, kOther};
    worker = Worker::make(test_reactor(), identity, options).value();
    const auto image = io::make_memory_storage(kBytes);
    auto faulty = std::make_unique<io::FaultyDevice>(worker->reactor(), image, io::FaultPlan{}, 1);
    device = faulty.get();
    ShardPlan plan = memory_plan(*worker, image, kBytes, 0, 1, /*views=*/false);
    plan.options.tier_bytes = uint64_t{32} << 20;
    plan.options.slices[0].device = device;
    worker->stores().keep(std::move(faulty));
    worker->stores().plan(std::move(plan));
    worker->start();
    until([&] { return worker->ready(); });
    connect(client, kTestNamespace, kTestClient);
  }
  void TearDown() override {
    let_go();
    WorkerMessage message;
    message.kind = WorkerMessage::Kind::kStop;
    ASSERT_TRUE(worker->push(message));
    until([&] { return worker->state() == Worker::State::kStopped; });
    worker->check_whole();
  }
  Connection* connect(TestClient& of, uint64_t namespace_id, const ClientId& id) {
    Connection* connection = worker->connections().open(namespace_id);
    auto links = transport::make_loopback_links(worker->reactor(), kTestKeys, of, *connection);
    of.link = std::move(links.client);
    connection->attach(std::move(links.server), Transport::kTcp);
    of.introduce(id);
    until([&] { return of.count(wire::Opcode::kWelcome) == 1; });
    return connection;
  }
  void until(auto&& done) { run_until(*worker, done); }
  void settle() {
    const uint64_t end = worker->now_ns() + 50'000'000;
    while (worker->now_ns() < end) worker->turn(1'000'000);
  }
  void hold_reads() {
    device->set_gate([](const auto& op) { return op.kind == io::FaultyDevice::OpKind::kRead; });
  }
  void let_go() {
    device->set_gate({});
    device->release_all();
    settle();
  }
  const Reply& answer(TestClient& of, uint64_t request) {
    until([&] { return of.find(request) != nullptr; });
    return *of.find(request);
  }
  void put(TestClient& of, const std::string& key, uint32_t bytes = kBlock) {
    const std::string data = pattern(bytes);
    of.op({.kind = OpKind::kPut, .flags = wire::kOpServerChecksum, .key = key}, data);
    ASSERT_EQ(answer(of, of.send()).op.status, Status::kOk);
  }
  /// As many of `keys` as were taken.
  size_t prefetch(TestClient& of, const std::vector<std::string>& keys) {
    for (const std::string& key : keys) of.op({.kind = OpKind::kPrefetch, .key = key});
    const uint64_t request = of.send();
    const auto last = static_cast<uint16_t>(keys.size() - 1);
    until([&] { return of.find(request, last) != nullptr; });
    size_t taken = 0;
    for (uint16_t i = 0; i <= last; i++) taken += of.find(request, i)->op.status == Status::kOk ? 1 : 0;
    return taken;
  }
  std::vector<std::string> blocks(TestClient& of, size_t count, uint32_t bytes = kBlock) {
    std::vector<std::string> keys;
    for (size_t i = 0; i < count; i++) {
      keys.push_back("block " + std::to_string(i));
      put(of, keys.back(), bytes);
    }
    return keys;
  }
  uint64_t prefetched() { return worker->stores().shards()[0].store->counters().tier_prefetches; }
  uint32_t held_by(uint64_t namespace_id) { return worker->tenants().of(namespace_id).held(kPooledPrefetches); }

  Identity identity;
  std::unique_ptr<Worker> worker;
  io::FaultyDevice* device = nullptr;
  TestClient client;
};

TEST_F(PrefetchTest, IsAnsweredBeforeItsReadAndSharesItWithTheGet) {
  const auto keys = blocks(client, 1);
  hold_reads();
  const uint64_t before = device->counts().reads;
  client.op({.kind = OpKind::kPrefetch, .key = keys[0]});
  const Reply reply = answer(client, client.send());
  EXPECT_EQ(reply.op.status, Status::kOk);
  EXPECT_EQ(reply.op.block_bytes, kBlock);
  EXPECT_EQ(reply.op.payload_bytes, 0u);
  EXPECT_NE(reply.op.generation, 0u);
  client.op({.kind = OpKind::kGet, .length = kBlock, .key = keys[0]});
  const uint64_t get = client.send();
  settle();
  EXPECT_EQ(client.find(get), nullptr);
  let_go();
  EXPECT_EQ(answer(client, get).payload, pattern(kBlock));
  EXPECT_EQ(device->counts().reads, before + 1);
  EXPECT_EQ(prefetched(), 1u);
}

TEST_F(PrefetchTest, OfWhatIsNotThereIsAMiss) {
  client.op({.kind = OpKind::kPrefetch, .key = "nobody"});
  EXPECT_EQ(answer(client, client.send()).op.status, Status::kMiss);
  EXPECT_EQ(prefetched(), 0u);
}

/// Gets find the drives nearly free, however many hints came before.
TEST_F(PrefetchTest, FewReadsAreWithTheDriveAtATime) {
  const auto keys = blocks(client, 100);
  hold_reads();
  EXPECT_EQ(prefetch(client, keys), keys.size());
  settle();
  EXPECT_EQ(device->held(), 32u);
  EXPECT_EQ(worker->slots().arena().in_use(), 0u) << "they take no slots";
  device->release();
  settle();
  EXPECT_EQ(device->held(), 32u) << "the next one follows";
  let_go();
  until([&] { return worker->tenants().prefetches().at_rest(); });
  EXPECT_EQ(prefetched(), keys.size());
}

TEST_F(PrefetchTest, ManyBytesAreFewReads) {
  const auto keys = blocks(client, 10, kChunkBytesMax);
  hold_reads();
  EXPECT_EQ(prefetch(client, keys), keys.size());
  settle();
  EXPECT_EQ(device->held(), 4u) << "of 2 MiB each";
}

TEST_F(PrefetchTest, WhereGetsWaitForSlotsItIsRefused) {
  const auto keys = blocks(client, 1);
  // A record of which a part is read for the first time goes by a slot; there are 12 that are large enough.
  const auto many = blocks(client, 30);
  hold_reads();
  for (const std::string& key : many) client.op({.kind = OpKind::kGet, .length = 40'000, .key = key});
  client.send();
  until([&] { return worker->tenants().anyone_waits(); });
  EXPECT_EQ(prefetch(client, {keys[0]}), 0u);
  EXPECT_EQ(client.replies.back().op.status, Status::kRefused);
  EXPECT_NE(client.replies.back().op.generation, 0u) << "it is there";
  EXPECT_EQ(worker->stats().prefetches_refused, 1u);
}

/// One tenant's hints leave room for another's, which then take turns with them.
TEST_F(PrefetchTest, OneTenantLeavesRoomForAnother) {
  TestClient other;
  connect(other, kOther, {8});
  const auto keys = blocks(client, 40);
  put(other, "theirs");
  hold_reads();
  size_t taken = 0;
  for (int i = 0; i < 40; i++) taken += prefetch(client, keys);
  EXPECT_LT(taken, 1600u);
  EXPECT_LE(held_by(kTestNamespace), kPrefetches * 3 / 4);
  const size_t before = device->held();
  EXPECT_EQ(prefetch(other, {"theirs"}), 1u);
  EXPECT_EQ(held_by(kOther), 1u);
  device->release();
  until([&] { return held_by(kOther) == 0 || device->held() == before; });
  let_go();
  until([&] { return worker->tenants().prefetches().at_rest(); });
  EXPECT_EQ(held_by(kTestNamespace), 0u);
}

TEST_F(PrefetchTest, WhatAClosedConnectionAskedForIsDropped) {
  TestClient other;
  Connection* connection = connect(other, kTestNamespace, {8});
  const auto keys = blocks(client, 100);
  hold_reads();
  EXPECT_EQ(prefetch(other, keys), keys.size());
  connection->close(Status::kOk);
  until([&] { return other.closed && worker->pools().prefetches.in_use() == 32; });
  let_go();
  EXPECT_EQ(worker->pools().prefetches.in_use(), 0u);
  EXPECT_EQ(prefetched(), 32u);
}

TEST_F(PrefetchTest, PastItsDeadlineItIsDropped) {
  const auto keys = blocks(client, 100);
  hold_reads();
  for (const std::string& key : keys) client.op({.kind = OpKind::kPrefetch, .deadline_us = 200'000, .key = key});
  client.send();
  until([&] { return worker->pools().prefetches.in_use() == 32; });
  let_go();
  EXPECT_EQ(prefetched(), 32u);
}

}  // namespace
}  // namespace memkv::shard
