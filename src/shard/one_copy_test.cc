/// Gets whose payloads are lent to the socket: from slots, and from the log of memory mode.

#include "transport/one_copy.h"
#include "shard/raw_client_testing.h"

namespace memkv::shard {
namespace {

using wire::Op;
using wire::OpKind;

constexpr uint64_t kStalledNs = 300'000'000;
constexpr uint64_t kBytes = 64 << 20;
constexpr uint32_t kBlockBytes = 1 << 20;

class OneCopyTest : public testing::Test {
 protected:
  /// `views`: memory mode; else as with a drive.
  void start(bool one_copy = true, bool views = false, uint64_t tier_bytes = 0) {
    identity = test_identity(1);
    identity.worker_count = 1;
    WorkerOptions options = test_worker_options();
    options.stalled_ns = kStalledNs;
    options.tcp_one_copy = one_copy;
    worker = Worker::make(test_reactor(), identity, options).value();
    auto plan = memory_plan(*worker, io::make_memory_storage(kBytes), kBytes, 0, 1, views);
    plan.options.tier_bytes = tier_bytes;
    worker->stores().plan(std::move(plan));
    worker->start();
    until([&] { return worker->ready(); });
  }
  void TearDown() override {
    WorkerMessage message;
    message.kind = WorkerMessage::Kind::kStop;
    ASSERT_TRUE(worker->push(message));
    until([&] { return worker->state() == Worker::State::kStopped && (!client.link || client.closed); });
    worker->check_whole();
  }
  /// As the door does it.
  int adopt(uint32_t features) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    WorkerMessage message;
    message.kind = WorkerMessage::Kind::kConnection;
    message.fd = ends[1];
    message.namespace_id = kTestNamespace;
    message.keys = kTestKeys;
    message.features = features;
    EXPECT_TRUE(worker->push(message));
    return ends[0];
  }
  void connect(uint32_t features) {
    client.link = transport::make_tcp_link(worker->reactor(), adopt(features), transport::Role::kClient, kTestKeys,
                                           client, {.features = features});
    client.introduce(kTestClient);
    until([&] { return client.count(wire::Opcode::kWelcome) == 1; });
  }
  Reply reply(uint64_t request) {
    const auto whole = [](const Reply* heard) { return heard && heard->payload.size() == heard->op.payload_bytes; };
    until([&] { return whole(client.find(request)); });
    return whole(client.find(request)) ? *client.find(request) : Reply{};
  }
  void put() { put_as("k", data); }
  void put_as(const std::string& key, const std::string& bytes) {
    const Op op{.kind = OpKind::kPut, .key = key};
    ASSERT_EQ(reply(client.op(op, bytes, sums_of(key, bytes)).send()).op.status, Status::kOk);
  }
  /// Asks for the block and reports nothing, until it is cut.
  void be_cut(RawClient& silent) {
    silent.fd = base::UniqueFd(adopt(wire::kFeatures));
    silent.introduce({8, 8, 8});
    const uint64_t before = lent();
    silent.send_ops({.kind = OpKind::kGet, .length = kBlockBytes, .key = "k"}, 1);
    until([&] { return lent() > before; });
    until([&] { return worker->stats().connections_cut == 1; });
  }
  /// What its socket still holds.
  static std::string seen_by(const RawClient& silent) {
    std::string seen(2 * kBlockBytes, '\0');
    size_t bytes = 0;
    for (ssize_t n; (n = ::recv(silent.fd.get(), seen.data() + bytes, seen.size() - bytes, MSG_DONTWAIT)) > 0;)
      bytes += static_cast<size_t>(n);
    seen.resize(bytes);
    EXPECT_GT(bytes, 64u << 10) << "else this test shows nothing";
    return seen;
  }
  std::string get() {
    const Op op{.kind = OpKind::kGet, .length = kBlockBytes, .key = "k"};
    return reply(client.op(op).send()).payload;
  }
  uint64_t lent() const { return worker->stats().one_copy.lent_bytes; }
  void until(auto&& done) { run_until(*worker, done); }

  Identity identity;
  std::unique_ptr<Worker> worker;
  TestClient client;
  const std::string data = pattern(kBlockBytes);
};

TEST_F(OneCopyTest, GetsAreLentAndSlotsComeBackWhenTheyAreConsumed) {
  start();
  connect(wire::kFeatures);
  put();
  for (int i = 0; i < 8; i++) EXPECT_TRUE(get() == data);
  EXPECT_GE(lent(), 8 * kBlockBytes * 9 / 10);
  until([&] { return worker->slots().arena().in_use() == 0; });
  EXPECT_EQ(worker->tenants().of(kTestNamespace).lent_bytes, 0u);
}

TEST_F(OneCopyTest, AClientThatDoesNotReportGetsCopies) {
  start();
  connect(0);
  put();
  EXPECT_TRUE(get() == data);
  EXPECT_EQ(lent(), 0u);
}

TEST_F(OneCopyTest, SwitchedOffNothingIsLent) {
  start(false);
  connect(wire::kFeatures);
  put();
  EXPECT_TRUE(get() == data);
  EXPECT_EQ(lent(), 0u);
}

/// Takes replies and never says so: it is cut. What lies in its socket must not change when the slot is used again.
TEST_F(OneCopyTest, TheSlotOfAClientThatIsCutLiesOnOtherPages) {
  start();
  connect(wire::kFeatures);
  put();
  RawClient silent;
  be_cut(silent);
  until([&] { return worker->slots().arena().in_use() == 0; });

  const io::Slot slot = worker->slots().arena().take(kBlockBytes);
  std::fill(slot.data, slot.data + slot.capacity, std::byte{'!'});
  worker->slots().arena().give_back(slot);
  EXPECT_EQ(seen_by(silent).find("!!!!!!!!!!!!!!!!"), std::string::npos) << "somebody else's bytes";
}

TEST_F(OneCopyTest, InMemoryModeTheLogIsLent) {
  start(true, /*views=*/true);
  connect(wire::kFeatures);
  put();
  for (int i = 0; i < 8; i++) EXPECT_TRUE(get() == data);
  EXPECT_GE(lent(), 8 * kBlockBytes * 9 / 10);
  until([&] { return worker->tenants().of(kTestNamespace).lent_bytes == 0; });
}

/// The log wraps, and other blocks lie where the block was.
TEST_F(OneCopyTest, WhatAClientThatIsCutSeesOfTheLogIsNotWrittenAgain) {
  start(true, /*views=*/true);
  connect(wire::kFeatures);
  put();
  RawClient silent;
  be_cut(silent);
  const std::string others(kBlockBytes, '!');
  for (uint64_t i = 0; i < 3 * kBytes / kBlockBytes; i++) put_as("other" + std::to_string(i), others);
  EXPECT_FALSE(get() == data) << "its place was not needed: this test shows nothing";
  EXPECT_EQ(seen_by(silent).find("!!!!!!!!!!!!!!!!"), std::string::npos) << "somebody else's bytes";
}

/// Its pages are used again as soon as nobody holds them.
TEST_F(OneCopyTest, WhatTheTierHasIsNotLent) {
  start(true, /*views=*/false, kBytes / 2);
  connect(wire::kFeatures);
  put();
  for (int i = 0; i < 8; i++) EXPECT_TRUE(get() == data);
  EXPECT_GT(worker->stores().shards().front().store->counters().tier_hits, 0u) << "else this test shows nothing";
  EXPECT_LE(lent(), 2 * kBlockBytes) << "the first two may have come by a slot";
}

TEST_F(OneCopyTest, ATenantsPartIsNotExceeded) {
  start();
  connect(wire::kFeatures);
  put();
  Tenant& tenant = worker->tenants().of(kTestNamespace);
  tenant.lent_bytes = worker->slots().lent_bytes_max();  // others of its connections lend as much as may be
  EXPECT_TRUE(get() == data);
  EXPECT_EQ(lent(), 0u);
  EXPECT_GE(worker->stats().one_copy.limit_bytes, kBlockBytes);
  tenant.lent_bytes = 0;
}

}  // namespace
}  // namespace memkv::shard
