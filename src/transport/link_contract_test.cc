/// What every link promises, run on every carrier.

#include "transport/link_rig.h"
#include "transport/rdma/link_testing.h"

namespace memkv::transport {
namespace {

using Kind = PayloadTarget::Kind;
using wire::Opcode;

class LinkContract : public testing::TestWithParam<Carrier> {
 protected:
  void SetUp() override {
    reactor = make_test_reactor(GetParam());
    if (!reactor) GTEST_SKIP() << "io_uring is not to be had here";
    if (GetParam() >= Carrier::kRdmaEpoll) {
      client_poller = rdma::make_test_poller(*reactor);
      server_poller = rdma::make_test_poller(*reactor);
    }
    auto pair = GetParam() >= Carrier::kRdmaEpoll
                    ? rdma::make_rdma_links(*client_poller, *server_poller, 0, test_keys(), client_owner, server_owner)
                    : make_links(GetParam(), *reactor, client_owner, server_owner);
    client = std::move(pair.client);
    server = std::move(pair.server);
    client_owner.destroy = &client;
    server_owner.destroy = &server;
  }
  void TearDown() override {
    if (client) client->close(Status::kOk);
    if (server) server->close(Status::kOk);
    if (reactor) {
      EXPECT_TRUE(run([&] { return !client && !server; }));
      EXPECT_EQ(client_owner.closed_count, 1);
      EXPECT_EQ(server_owner.closed_count, 1);
      EXPECT_EQ(reactor->pending(), 0u);
    }
  }
  TestFrame& frame(Opcode opcode, std::string body, std::string payload = {}) {
    frames.push_back(std::make_unique<TestFrame>(opcode, frames.size() + 1, std::move(body), std::move(payload)));
    return *frames.back();
  }
  template <typename Done>
  bool run(Done&& done) {
    return run_until(*reactor, done);
  }
  void expect_all_done(bool sent) {
    for (const auto& f : frames) {
      EXPECT_EQ(f->done, 1) << f->request_id;
      EXPECT_EQ(f->sent, sent) << f->request_id;
    }
  }

  std::unique_ptr<io::Reactor> reactor;
  std::unique_ptr<rdma::Poller> client_poller, server_poller;
  TestOwner client_owner;
  TestOwner server_owner;
  std::vector<std::unique_ptr<TestFrame>> frames;
  std::unique_ptr<Link> client;
  std::unique_ptr<Link> server;
};

TEST_P(LinkContract, SmallFramesKeepTheirOrderBothWays) {
  for (int i = 0; i < 1000; i++) {
    ASSERT_TRUE(client->send(frame(Opcode::kPing, pattern(static_cast<size_t>(i % 300), 1))));
    ASSERT_TRUE(server->send(frame(Opcode::kPong, pattern(static_cast<size_t>(i % 70), 2))));
  }
  for (const auto& f : frames) ASSERT_EQ(f->done, 0) << "never inside send()";
  EXPECT_GT(client->bytes_queued(), 1000u * wire::kHeaderBytes);
  ASSERT_TRUE(run([&] { return server_owner.complete == 1000 && client_owner.complete == 1000; }));
  ASSERT_TRUE(run([&] { return client->bytes_queued() == 0 && server->bytes_queued() == 0; }));
  for (size_t i = 0; i < 1000; i++) {
    EXPECT_EQ(server_owner.heard[i].request_id, frames[2 * i]->request_id);
    EXPECT_EQ(server_owner.heard[i].body, frames[2 * i]->body_text);
    EXPECT_EQ(client_owner.heard[i].body, frames[2 * i + 1]->body_text);
  }
  expect_all_done(true);
}

TEST_P(LinkContract, PayloadsOfAllSizesArriveWhole) {
  const std::vector<size_t> sizes = {1,      2,       100, 16384, 16385, 300,     65536, 2 << 20,
                                     200000, 2 << 20, 1,   65535, 65537, 1000000, 5,     48};
  for (size_t round = 0; round < 3; round++) {
    for (size_t size : sizes) {
      const auto seed = static_cast<uint32_t>(size + round);
      ASSERT_TRUE(client->send(frame(Opcode::kOps, pattern(size % 1000, 3), pattern(size, seed))));
    }
  }
  ASSERT_TRUE(run([&] { return server_owner.complete == frames.size(); }));
  for (size_t i = 0; i < frames.size(); i++) {
    EXPECT_EQ(server_owner.heard[i].body, frames[i]->body_text) << i;
    EXPECT_TRUE(server_owner.heard[i].payload == frames[i]->payload_text) << i;
  }
  ASSERT_TRUE(run([&] { return client->bytes_queued() == 0; }));
  expect_all_done(true);
}

TEST_P(LinkContract, PartsOfAPayloadAreThereWhenTheyAreTold) {
  ASSERT_TRUE(client->send(frame(Opcode::kOps, "in parts", pattern(wire::kPayloadBytesMax, 9))));
  ASSERT_TRUE(run([&] { return server_owner.complete == 1; }));
  size_t before = 0;
  for (const auto& [arrived, bytes] : server_owner.parts) {
    EXPECT_GT(arrived, before);
    EXPECT_LT(arrived, wire::kPayloadBytesMax) << "the whole is told by on_payload";
    EXPECT_TRUE(bytes == frames[0]->payload_text.substr(0, arrived)) << arrived;
    before = arrived;
  }
  EXPECT_TRUE(GetParam() == Carrier::kLoopback || server_owner.parts.size() > 2) << "large receives are cut";
}

TEST_P(LinkContract, LargestBody) {
  ASSERT_TRUE(client->send(frame(Opcode::kExists, pattern(5, 1))));
  ASSERT_TRUE(client->send(frame(Opcode::kExists, pattern(wire::kBodyBytesMax, 2))));
  ASSERT_TRUE(client->send(frame(Opcode::kOps, pattern(wire::kBodyBytesMax, 3), pattern(wire::kPayloadBytesMax, 4))));
  ASSERT_TRUE(run([&] { return server_owner.complete == 3; }));
  for (size_t i = 0; i < 3; i++) EXPECT_TRUE(server_owner.heard[i].body == frames[i]->body_text) << i;
  EXPECT_TRUE(server_owner.heard[2].payload == frames[2]->payload_text);
  const Result<void> refused = client->send(frame(Opcode::kExists, std::string(wire::kBodyBytesMax + 1, 'x')));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, Status::kInvalid);
}

TEST_P(LinkContract, SinkSwallowsPayloads) {
  server_owner.mode = Kind::kSink;
  for (size_t size : {size_t{10}, size_t{70000}, size_t{2} << 20, size_t{1}}) {
    ASSERT_TRUE(client->send(frame(Opcode::kOps, "sunk", pattern(size, 5))));
  }
  ASSERT_TRUE(client->send(frame(Opcode::kGoodbye, "last")));
  ASSERT_TRUE(run([&] { return server_owner.complete == frames.size(); }));
}

TEST_P(LinkContract, PauseStopsUntilResume) {
  server_owner.mode = Kind::kPause;
  ASSERT_TRUE(client->send(frame(Opcode::kOps, "a", pattern(500'000, 6))));
  ASSERT_TRUE(client->send(frame(Opcode::kOps, "b", pattern(500, 7))));
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 1; }));
  run_until(
      *reactor, [] { return false; }, 30'000'000);
  EXPECT_EQ(server_owner.heard.size(), 1u);
  server->resume(server_owner.target());
  EXPECT_EQ(server_owner.complete, 0u) << "nothing inside resume()";
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 2; }));
  EXPECT_TRUE(server_owner.heard[0].payload == frames[0]->payload_text);
  server->resume(PayloadTarget::sink());
  ASSERT_TRUE(run([&] { return server_owner.complete == 2; }));
}

TEST_P(LinkContract, RedirectQuietsTheMemory) {
  // Two frames: after the first one the link expects a large payload, and receives straight into the pieces.
  ASSERT_TRUE(client->send(frame(Opcode::kOps, "a", pattern(100'000, 8))));
  ASSERT_TRUE(run([&] { return server_owner.complete == 1; }));
  ASSERT_TRUE(client->send(frame(Opcode::kOps, "b", pattern(2 << 20, 9))));
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 2; }));
  const bool quiet = server->redirect();
  EXPECT_TRUE(quiet || GetParam() == Carrier::kUring || GetParam() == Carrier::kOneCopyUring);
  if (quiet && server_owner.complete == 1) {
    EXPECT_TRUE(server->redirect());
    server_owner.memory.assign(server_owner.memory.size(), '!');
    ASSERT_TRUE(run([&] { return server_owner.complete == 2; }));
    EXPECT_EQ(server_owner.memory.find_first_not_of('!'), std::string::npos);
  }
  ASSERT_TRUE(run([&] { return server_owner.complete == 2; }));
  ASSERT_TRUE(client->send(frame(Opcode::kOps, "c", pattern(3000, 10))));
  ASSERT_TRUE(run([&] { return server_owner.complete == 3; }));
  EXPECT_TRUE(server_owner.heard[2].payload == frames[2]->payload_text);
}

TEST_P(LinkContract, PlainFramesOvertakeLoadedOnes) {
  for (uint32_t i = 0; i < 20; i++) ASSERT_TRUE(client->send(frame(Opcode::kOps, "load", pattern(1 << 20, i))));
  ASSERT_TRUE(client->send(frame(Opcode::kPing, "quick")));
  ASSERT_TRUE(run([&] { return server_owner.complete == frames.size(); }));
  EXPECT_EQ(server_owner.heard[0].opcode, Opcode::kPing);
}

TEST_P(LinkContract, PlainFrameOvertakesWhileAnotherIsUnderWay) {
  for (uint32_t i = 0; i < 20; i++) ASSERT_TRUE(client->send(frame(Opcode::kOps, "load", pattern(2 << 20, i))));
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 1; }));
  ASSERT_TRUE(client->send(frame(Opcode::kPing, "quick")));
  // These are 40 MiB, and emulated NICs move 5 MiB/s when something else runs.
  ASSERT_TRUE(run_until(
      *reactor, [&] { return server_owner.complete == frames.size(); }, 40'000'000'000));
  EXPECT_NE(server_owner.heard.back().opcode, Opcode::kPing);
  for (size_t i = 0, load = 0; i < server_owner.heard.size(); i++) {
    if (server_owner.heard[i].opcode == Opcode::kOps) {
      EXPECT_TRUE(server_owner.heard[i].payload == frames[load]->payload_text) << i;
      load++;
    }
  }
}

TEST_P(LinkContract, CloseFailsWhatIsQueuedAndTellsBothEndsOnce) {
  server_owner.mode = Kind::kPause;
  for (uint32_t i = 0; i < 40; i++) ASSERT_TRUE(client->send(frame(Opcode::kOps, "load", pattern(2 << 20, i))));
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 1; }));
  client->close(Status::kCanceled);
  client->close(Status::kInternal);
  EXPECT_EQ(client_owner.closed_count, 0) << "never inside close()";
  EXPECT_EQ(client->send(frame(Opcode::kPing, "late")).error().status, Status::kUnavailable);
  frames.pop_back();
  ASSERT_TRUE(run([&] { return client == nullptr; }));
  EXPECT_EQ(client_owner.closed.status, Status::kCanceled);
  for (const auto& f : frames) EXPECT_EQ(f->done, 1);
  EXPECT_FALSE(frames.back()->sent);
  if (server && !server_owner.closed_count) server->resume(PayloadTarget::sink());
  ASSERT_TRUE(run([&] { return server == nullptr || server_owner.complete > 0; }));
}

TEST_P(LinkContract, CloseWhileAPayloadArrives) {
  ASSERT_TRUE(client->send(frame(Opcode::kOps, "a", pattern(100'000, 8))));
  ASSERT_TRUE(client->send(frame(Opcode::kOps, "b", pattern(2 << 20, 9))));
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 2; }));
  server->close(Status::kCanceled);
  ASSERT_TRUE(run([&] { return !server && !client; }));
  EXPECT_EQ(client_owner.closed.status, Status::kUnavailable);
  for (const auto& f : frames) EXPECT_EQ(f->done, 1);
}

TEST_P(LinkContract, CloseFromInsideOnFrame) {
  server_owner.also_on_frame = [](Link& link) { link.close(Status::kInvalid); };
  for (int i = 0; i < 10; i++) ASSERT_TRUE(client->send(frame(Opcode::kPing, "x")));
  ASSERT_TRUE(run([&] { return !server && !client; }));
  EXPECT_EQ(server_owner.heard.size(), 1u);
  for (const auto& f : frames) EXPECT_EQ(f->done, 1);
}

TEST_P(LinkContract, AFrameMayBeSentAgainFromItsOnDone) {
  struct Again {
    Link* link;
    int left;
  } again{client.get(), 100};
  TestFrame& f = frame(Opcode::kPing, "again");
  f.context = &again;
  f.on_done = [](SendFrame& out, bool sent) {
    auto& state = *static_cast<Again*>(out.context);
    if (!sent || --state.left == 0) return;
    ASSERT_TRUE(state.link->send(out));
  };
  ASSERT_TRUE(client->send(f));
  ASSERT_TRUE(run([&] { return server_owner.complete == 100; }));
}

INSTANTIATE_TEST_SUITE_P(Carriers, LinkContract,
                         testing::Values(Carrier::kEpoll, Carrier::kUring, Carrier::kLoopback, Carrier::kShmEpoll,
                                         Carrier::kShmUring, Carrier::kOneCopyEpoll, Carrier::kOneCopyUring),
                         [](const auto& param_info) { return name_of(param_info.param); });

// These run in the guest only, and there they must not fail.
INSTANTIATE_TEST_SUITE_P(Rails, LinkContract,
                         testing::ValuesIn(rdma::only_in_guest<Carrier>({Carrier::kRdmaEpoll, Carrier::kRdmaUring})),
                         [](const auto& param_info) { return name_of(param_info.param); });

}  // namespace
}  // namespace memkv::transport
