/// Payloads whose pages are lent to the socket.

#include "transport/one_copy.h"

#include <sys/mman.h>

#include "transport/link_rig.h"

namespace memkv::transport {
namespace {

using wire::Opcode;

constexpr size_t kMiB = 1 << 20;
constexpr uint64_t kSomeBytes = 64 * 1024;  // fit the sockets of a peer that reads nothing

TEST(PageRun, HasWholePagesOnly) {
  alignas(kPageBytes) static std::array<std::byte, 80 * kPageBytes> memory;
  const PageRun all = page_run(memory.data(), memory.size());
  EXPECT_EQ(all.head, 0u);
  EXPECT_EQ(all.bytes, memory.size());
  const PageRun inner = page_run(memory.data() + 1, memory.size() - 2);
  EXPECT_EQ(inner.head, kPageBytes - 1);
  EXPECT_EQ(inner.bytes, memory.size() - 2 * kPageBytes);
  EXPECT_EQ(page_run(memory.data(), kLentRunMin).bytes, kLentRunMin);
  EXPECT_EQ(page_run(memory.data(), kLentRunMin - 1).bytes, 0u);
  EXPECT_EQ(page_run(memory.data() + 1, kLentRunMin + kPageBytes - 2).bytes, 0u);
}

/// A client that lends to a server, both on one reactor.
class OneCopy : public testing::TestWithParam<Carrier> {
 protected:
  void SetUp() override {
    reactor = make_test_reactor(GetParam());
    if (!reactor) GTEST_SKIP() << "io_uring is not to be had here";
  }
  void connect(uint32_t features = wire::kFeatures) {
    const auto [a, b] = tcp_pair();
    client = make_tcp_link(*reactor, a, Role::kClient, test_keys(), client_owner,
                           {.features = features, .one_copy = &stats});
    server = make_tcp_link(*reactor, b, Role::kServer, test_keys(), server_owner, {.features = features});
    client_owner.destroy = &client;
    server_owner.destroy = &server;
  }
  void TearDown() override {
    if (client) client->close(Status::kOk);
    if (server) server->close(Status::kOk);
    if (!reactor) return;
    EXPECT_TRUE(run([&] { return !client && !server; }));
    EXPECT_EQ(stats.pipes, 0u) << "a link that is gone has no pipe";
  }
  TestFrame& send(size_t bytes, uint32_t seed = 1) {
    frames.push_back(
        std::make_unique<TestFrame>(Opcode::kOps, frames.size() + 1, "body", seed == 0 ? "" : pattern(bytes, seed)));
    EXPECT_TRUE(client->send(*frames.back()));
    return *frames.back();
  }
  template <typename Done>
  bool run(Done&& done) {
    return run_until(*reactor, done);
  }
  void settle() {
    run_until(
        *reactor, [] { return false; }, 30'000'000);
  }

  OneCopyStats stats;
  std::unique_ptr<io::Reactor> reactor;
  TestOwner client_owner, server_owner;
  std::vector<std::unique_ptr<TestFrame>> frames;
  std::unique_ptr<Link> client, server;
};

TEST_P(OneCopy, ALentFrameIsDoneWhenThePeerHasConsumedIt) {
  connect();
  server_owner.mode = PayloadTarget::Kind::kPause;
  TestFrame& frame = send(kMiB);
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 1; }));
  ASSERT_TRUE(run([&] { return stats.lent_bytes > kSomeBytes; }));
  settle();
  EXPECT_EQ(frame.done, 0) << "in the sockets, not consumed";
  EXPECT_GT(client->bytes_queued(), 0u);
  server->resume(server_owner.target());
  ASSERT_TRUE(run([&] { return frame.done == 1; }));
  EXPECT_TRUE(frame.sent);
  EXPECT_TRUE(frame.lent);
  EXPECT_TRUE(server_owner.heard[0].payload == frame.payload_text);
  EXPECT_EQ(client->bytes_queued(), 0u);
}

TEST_P(OneCopy, APageThatChangesUnderWayArrivesChanged) {
  connect();
  server_owner.mode = PayloadTarget::Kind::kPause;
  TestFrame& frame = send(kMiB);
  ASSERT_TRUE(run([&] { return stats.lent_bytes > kSomeBytes && server_owner.heard.size() == 1; }));
  const std::string before = frame.payload_text;
  std::fill(frame.payload_text.begin(), frame.payload_text.end(), '!');  // what no owner may do
  server->resume(server_owner.target());
  ASSERT_TRUE(run([&] { return frame.done == 1; }));
  EXPECT_FALSE(server_owner.heard[0].payload == before) << "else the pages were copied";
}

TEST_P(OneCopy, APeerThatDoesNotReportGetsCopies) {
  connect(0);
  server_owner.mode = PayloadTarget::Kind::kPause;
  TestFrame& frame = send(kMiB / 4);
  ASSERT_TRUE(run([&] { return frame.done == 1; })) << "done when it has left";
  EXPECT_FALSE(frame.lent);
  EXPECT_EQ(stats.lent_bytes, 0u);
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 1; }));
  server->resume(server_owner.target());
  ASSERT_TRUE(run([&] { return server_owner.complete == 1; }));
  EXPECT_TRUE(server_owner.heard[0].payload == frame.payload_text);
}

TEST_P(OneCopy, AboveTheLimitPayloadsWaitForReports) {
  connect();
  server_owner.mode = PayloadTarget::Kind::kPause;
  for (uint32_t i = 0; i < 6; i++) send(kMiB, i + 1);
  ASSERT_TRUE(run([&] { return server_owner.heard.size() == 1; }));
  settle();
  EXPECT_LE(stats.lent_bytes, kLentBytesMax);
  TestFrame& small = send(1000, 7);
  server_owner.mode = PayloadTarget::Kind::kInto;
  server->resume(server_owner.target());
  ASSERT_TRUE(run([&] { return server_owner.complete == 7; }));
  for (size_t i = 0; i < 7; i++) EXPECT_TRUE(server_owner.heard[i].payload == frames[i]->payload_text) << i;
  ASSERT_TRUE(run([&] { return client->bytes_queued() == 0; }));
  for (const auto& f : frames) EXPECT_TRUE(f->done == 1 && f->sent);
  EXPECT_GE(stats.lent_bytes, 6 * (kMiB - 2 * kPageBytes)) << "all six, but what stands around whole pages";
  EXPECT_EQ(stats.limit_bytes, 0u);
  EXPECT_FALSE(small.lent);
}

TEST_P(OneCopy, ACutLinkSaysThatPagesMayStillBeReferredTo) {
  connect();
  server_owner.mode = PayloadTarget::Kind::kPause;
  TestFrame& lent = send(kMiB);
  TestFrame& small = send(1000);
  ASSERT_TRUE(run([&] { return stats.lent_bytes > kSomeBytes; }));
  client->close(Status::kCanceled);
  ASSERT_TRUE(run([&] { return client == nullptr; }));
  EXPECT_EQ(lent.done, 1);
  EXPECT_FALSE(lent.sent);
  EXPECT_TRUE(lent.lent);
  EXPECT_EQ(small.done, 1);
  EXPECT_FALSE(small.lent);
  ASSERT_TRUE(run([&] { return server_owner.closed_count == 1 || server_owner.heard.size() == 1; }));
}

TEST_P(OneCopy, APeerThatVanishesRaisesNoSignal) {
  connect();  // SIGPIPE would end this program
  server_owner.mode = PayloadTarget::Kind::kPause;
  for (uint32_t i = 0; i < 8; i++) send(2 * kMiB, i + 1);
  ASSERT_TRUE(run([&] { return stats.lent_bytes > kSomeBytes; }));
  io::reset_tcp(server->fd());
  ASSERT_TRUE(run([&] { return client == nullptr; }));
  for (const auto& f : frames) EXPECT_EQ(f->done, 1);
}

TEST_P(OneCopy, WithoutAPipePayloadsAreCopied) {
  connect();
  stats.pipes = 64;  // as many as one process may have
  TestFrame& frame = send(kMiB);
  ASSERT_TRUE(run([&] { return server_owner.complete == 1 && frame.done == 1; }));
  EXPECT_TRUE(server_owner.heard[0].payload == frame.payload_text);
  EXPECT_EQ(stats.lent_bytes, 0u);
  EXPECT_GT(stats.no_pipe_bytes, kMiB / 2);
  TestFrame& next = send(kMiB, 2);
  ASSERT_TRUE(run([&] { return next.done == 1; }));
  EXPECT_FALSE(next.lent);
  stats.pipes = 0;
}

TEST_P(OneCopy, WhatThePeerCannotHaveConsumedEndsTheLink) {
  for (const uint64_t said : {uint64_t{1} << 40, uint64_t{0}}) {
    SCOPED_TRACE(said);
    connect();
    if (said == 0) {
      TestFrame& frame = send(kMiB);
      ASSERT_TRUE(run([&] { return frame.done == 1; }));
    }
    std::string body(8, '\0');
    (void)wire::encode(wire::Consumed{said}, std::as_writable_bytes(std::span(body)));
    TestFrame lie(Opcode::kConsumed, 1, body, "");
    ASSERT_TRUE(server->send(lie));
    ASSERT_TRUE(run([&] { return !client && !server; }));
    EXPECT_EQ(client_owner.closed.status, Status::kInvalid);
    client_owner.closed_count = server_owner.closed_count = 0;
  }
}

TEST_P(OneCopy, MemoryWithoutPagesIsCopied) {
  connect();
  // A view of a device's memory has none. Here: pages that may not be read, so that the call fails in the same way.
  constexpr size_t kBytes = 256 * 1024;
  void* memory = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  PageLender lender(stats);
  ASSERT_TRUE(lender.open(client->fd()));
  EXPECT_EQ(lender.send(client->fd(), {static_cast<std::byte*>(memory), kBytes}, false), -ENOTSUP);
  munmap(memory, kBytes);
}

INSTANTIATE_TEST_SUITE_P(Carriers, OneCopy, testing::Values(Carrier::kEpoll, Carrier::kUring),
                         [](const auto& param_info) { return name_of(param_info.param); });

}  // namespace
}  // namespace memkv::transport
