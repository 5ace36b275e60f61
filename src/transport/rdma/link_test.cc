/// What ends a queue pair ends its link, once, and all frames are given back. In the guest only.

#include <atomic>
#include <cstring>
#include <thread>

#include "transport/link_rig.h"
#include "transport/rdma/link_testing.h"

namespace memkv::transport::rdma {
namespace {

class RdmaLinkFaults : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    reactor = make_test_reactor(Carrier::kRdmaEpoll);
    client_poller = make_test_poller(*reactor);
    server_poller = make_test_poller(*reactor);
    auto pair = make_rdma_links(*client_poller, *server_poller, 0, test_keys(), client_owner, server_owner);
    client = std::move(pair.client);
    server = std::move(pair.server);
    client_owner.destroy = &client;
    server_owner.destroy = &server;
  }
  void TearDown() override {
    EXPECT_TRUE(run_until(*reactor, [&] { return client_poller->at_rest() && server_poller->at_rest(); }));
    EXPECT_EQ(client_poller->staging().in_use(), 0u);
  }
  bool both_end() {
    return run_until(*reactor, [&] { return !client && !server; });
  }

  std::unique_ptr<io::Reactor> reactor;
  std::unique_ptr<Poller> client_poller, server_poller;
  TestOwner client_owner, server_owner;
  std::unique_ptr<Link> client, server;
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RdmaLinkFaults);
INSTANTIATE_TEST_SUITE_P(Guest, RdmaLinkFaults, testing::ValuesIn(only_in_guest<const char*>({"rxe"})));

TEST_P(RdmaLinkFaults, AQueuePairInErrorEndsBothEnds) {
  std::vector<std::unique_ptr<TestFrame>> frames;
  for (uint64_t i = 0; i < 12; i++) {
    frames.push_back(std::make_unique<TestFrame>(wire::Opcode::kOps, i + 1, "load", pattern(1 << 20, 1)));
    ASSERT_TRUE(client->send(*frames.back()));
  }
  ASSERT_TRUE(run_until(*reactor, [&] { return server_owner.complete == 2; }));
  static_cast<RdmaLink&>(*client).queue_pair().fail();
  ASSERT_TRUE(both_end());
  for (const auto& frame : frames) EXPECT_EQ(frame->done, 1);
  EXPECT_EQ(client_owner.closed.status, Status::kUnavailable);
}

TEST_P(RdmaLinkFaults, ABadKeyEndsTheLinkAndIsCounted) {
  ASSERT_TRUE(run_until(*reactor, [&] { return static_cast<RdmaLink&>(*server).fd() >= 0; }));
  const uint64_t before = test_host().rail(0).counters.access_errors.load();
  // The server's payload lies in registered memory, so it is written by RDMA and not sent along.
  const io::Slot slot = server_poller->staging().take(100'000);
  ASSERT_TRUE(slot);
  const wire::RemotePiece nowhere{0x1000, 100'000, 0xdead};
  TestFrame frame(wire::Opcode::kReply, 1, "placed", {});
  const iovec piece{slot.data, 100'000};
  frame.payload = {&piece, 1};
  frame.remote = {&nowhere, 1};
  ASSERT_TRUE(server->send(frame));
  ASSERT_TRUE(both_end());
  EXPECT_EQ(frame.done, 1);
  EXPECT_FALSE(frame.sent);
  EXPECT_EQ(client_owner.heard.size(), 0u) << "the frame behind a failed write never arrives";
  EXPECT_GT(test_host().rail(0).counters.access_errors.load(), before);
  server_poller->staging().give_back(slot);
}

TEST_P(RdmaLinkFaults, DeregisteringWaitsWhileThePeerMayWrite) {
  std::vector<std::byte> memory(1 << 20);
  auto registration = test_host().add_memory(memory.data(), memory.size(), Access::kRemote);
  ASSERT_TRUE(registration);
  struct {
    Exposure exposure;
    int turns = 0;
  } wait;
  const iovec piece{memory.data(), memory.size()};
  ASSERT_TRUE(client->expose({&piece, 1}, Staging::kNever, wait.exposure));
  test_host().remove_memory(
      std::move(*registration),
      [](void* context) {
        auto& w = *static_cast<decltype(wait)*>(context);
        if (++w.turns == 10) w.exposure.release();
      },
      &wait);
  EXPECT_EQ(wait.turns, 10) << "it returned while the peer could write, or long after";
  Exposure again;
  EXPECT_FALSE(client->expose({&piece, 1}, Staging::kNever, again)) << "nobody may use it any more";
  client->close(Status::kOk);
  ASSERT_TRUE(both_end());
}

TEST_P(RdmaLinkFaults, AServersMemoryIsNotForItsPeerToTouch) {
  ASSERT_TRUE(run_until(*reactor, [&] { return static_cast<RdmaLink&>(*server).fd() >= 0; }));
  QueuePair& pair = static_cast<RdmaLink&>(*client).queue_pair();
  const MemoryKeys* secret = server_poller->staging_memory().keys(0, pair.device());
  const MemoryKeys* own = client_poller->staging_memory().keys(0, pair.device());
  ASSERT_TRUE(secret && own);
  const io::Slot slot = client_poller->staging().take(4096), theirs = server_poller->staging().take(4096);
  std::memset(theirs.data, 's', 4096);
  std::memset(slot.data, 0, 4096);
  pair.begin();
  pair.read({slot.data, 4096, own->local}, reinterpret_cast<uint64_t>(theirs.data), secret->remote, true);
  ASSERT_TRUE(pair.end());
  ASSERT_TRUE(both_end());
  EXPECT_EQ(client_owner.closed.status, Status::kUnavailable);
  EXPECT_EQ(slot.data[0], std::byte{0});
  client_poller->staging().give_back(slot);
  server_poller->staging().give_back(theirs);
}

TEST_P(RdmaLinkFaults, MemoryKeepsItsKeysAndIsTheDevicesNoMoreOnceItIsRemoved) {
  std::vector<std::byte> memory(1 << 20);
  auto added = test_host().add_memory(memory.data(), memory.size(), Access::kRemote);
  ASSERT_TRUE(added);
  const std::shared_ptr<Registration> registration = *added;
  auto device = test_host().rail(0).device.load();
  const uint32_t key = registration->keys(0, *device)->remote;
  ASSERT_TRUE(registration->add(0, device));
  EXPECT_EQ(registration->keys(0, *device)->remote, key) << "a peer may know it";
  std::atomic<bool> stop{false};
  std::thread user([&] {
    while (!stop) {
      if (registration->use()) registration->unuse();
    }
  });
  test_host().remove_memory(
      registration, [](void*) {}, nullptr);
  for (size_t rail = 0; rail < test_host().rail_count(); rail++) EXPECT_FALSE(registration->is_on(rail));
  stop = true;
  user.join();
  client->close(Status::kOk);
  ASSERT_TRUE(both_end());
}

/// A frame whose payload the peer reads by RDMA. `exposed`: its owner exposed the memory, as with GPU memory.
struct OfferedFrame : TestFrame {
  explicit OfferedFrame(uint64_t id, size_t body_bytes = 4)
      : TestFrame(wire::Opcode::kOps, id, pattern(body_bytes, 1), pattern(100'000, 3)) {
    auto added = test_host().add_memory(payload_text.data(), payload_text.size(), Access::kRemote);
    EXPECT_TRUE(added);
    if (added) registered = std::move(*added);
  }
  void expose_by(Link& link) {
    const iovec piece{payload_text.data(), payload_text.size()};
    ASSERT_TRUE(link.expose({&piece, 1}, Staging::kNever, exposure));
    offered = {exposure.remote_pieces.data(), exposure.count};
  }
  ~OfferedFrame() {
    exposure.release();
    test_host().remove_memory(
        registered, [](void*) {}, nullptr);
  }
  std::shared_ptr<Registration> registered;
  Exposure exposure;
};

class RdmaGivenUp : public RdmaLinkFaults {
 protected:
  void give_up(bool exposed);
};

void RdmaGivenUp::give_up(bool exposed) {
  OfferedFrame first(1), second(2), third(3);
  for (OfferedFrame* frame : {&first, &second, &third}) {
    if (exposed) frame->expose_by(*client);
  }
  server_owner.mode = PayloadTarget::Kind::kPause;
  ASSERT_TRUE(client->send(first));
  ASSERT_TRUE(client->send(second));
  ASSERT_TRUE(run_until(*reactor, [&] { return server_owner.payload_bytes == 100'000; }));
  client->withdraw(second);
  EXPECT_FALSE(run_until(
      *reactor, [&] { return first.done + second.done > 0; }, 100'000'000))
      << "the first is wanted";
  client->withdraw(first);
  ASSERT_TRUE(run_until(*reactor, [&] { return first.done == 1 && second.done == 1; }));
  EXPECT_EQ(server_owner.unwanted, 2);
  server_owner.mode = PayloadTarget::Kind::kInto;
  ASSERT_TRUE(client->send(third));
  ASSERT_TRUE(run_until(*reactor, [&] { return third.done == 1; }));
  EXPECT_EQ(server_owner.heard.back().payload, third.payload_text);
  EXPECT_EQ(client_owner.closed_count + server_owner.closed_count, 0);
  client->close(Status::kOk);
  ASSERT_TRUE(both_end());
}

GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RdmaGivenUp);
INSTANTIATE_TEST_SUITE_P(Guest, RdmaGivenUp, testing::ValuesIn(only_in_guest<const char*>({"rxe"})));

TEST_P(RdmaGivenUp, PayloadsThatWaitAreFreeAndTheLinkLives) { give_up(false); }
TEST_P(RdmaGivenUp, PayloadsOfTheirOwnersThatWaitAreFreeAndTheLinkLives) { give_up(true); }

TEST_P(RdmaLinkFaults, AServerThatTakesWhatIsStillLeavingLosesTheLink) {
  server_owner.mode = PayloadTarget::Kind::kPause;  // it reads nothing more, so credits run out
  std::vector<std::unique_ptr<OfferedFrame>> frames;
  for (uint64_t i = 1; i <= 3; i++) {
    frames.push_back(std::make_unique<OfferedFrame>(i, i == 1 ? 4 : 200'000));
    ASSERT_TRUE(client->send(*frames.back()));
  }
  ASSERT_TRUE(run_until(*reactor, [&] { return server_owner.payload_bytes == 100'000; }));
  (void)run_until(
      *reactor, [] { return false; }, 100'000'000);
  std::string body(16, 0);
  body.resize(wire::encode(wire::Taken{3}, base::mut_bytes_of(body.data(), body.size())));
  TestFrame taken(wire::Opcode::kTaken, 0, body, "");
  ASSERT_TRUE(server->send(taken));
  ASSERT_TRUE(both_end());
  EXPECT_EQ(client_owner.closed.status, Status::kInvalid);
  for (const auto& frame : frames) EXPECT_EQ(frame->done, 1);
}

TEST_P(RdmaLinkFaults, APayloadIsGivenUpWithoutCreditsAsWell) {
  OfferedFrame offered(1);
  server_owner.mode = PayloadTarget::Kind::kPause;
  ASSERT_TRUE(client->send(offered));
  ASSERT_TRUE(run_until(*reactor, [&] { return server_owner.payload_bytes == 100'000; }));
  std::vector<std::unique_ptr<TestFrame>> behind;
  for (uint64_t i = 0; i < 2 * kRecvs; i++) {  // each in a SEND of its own
    behind.push_back(std::make_unique<TestFrame>(wire::Opcode::kPing, i + 2, "small", ""));
    ASSERT_TRUE(client->send(*behind.back()));
    (void)run_until(
        *reactor, [&] { return behind.back()->done == 1; }, 20'000'000);
  }
  EXPECT_EQ(behind.back()->done, 0) << "the receives of the server are used up";
  client->withdraw(offered);
  ASSERT_TRUE(run_until(*reactor, [&] { return offered.done == 1 && behind.back()->done == 1; }));
  EXPECT_EQ(server_owner.heard.size(), 1 + behind.size());
  client->close(Status::kOk);
  ASSERT_TRUE(both_end());
}

}  // namespace
}  // namespace memkv::transport::rdma
