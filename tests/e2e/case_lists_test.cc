/// Long lists of ops: the client sends only as many as the server has room for, and nothing else waits behind them.

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "memkv/client.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

constexpr size_t kBlock = 4096;
constexpr size_t kKeys = 512;

class ListTest : public testing::TestWithParam<Transport> {
 protected:
  ListTest() : server_(start_memory_server(dir_, "64MiB", {"--workers", "1"})) {}
  Session open() {
    Session session = Session::connect({.servers = {server_->address()}, .transport = GetParam()}).value();
    Batch batch;
    const std::string block(kBlock, 'b');
    for (size_t i = 0; i < kKeys; i++) batch.put(key(i), block);
    for (const Outcome& outcome : session.run(batch, std::chrono::seconds(30))) EXPECT_TRUE(outcome.hit());
    return session;
  }
  static std::string key(size_t i) { return "block " + std::to_string(i % kKeys); }
  uint64_t busy() const {
    auto client = Client::connect({.servers = {server_->address()}, .transport = Transport::kTcp}).value();
    const std::string status = client.server_status(0).value(), name = "\"busy\": ";
    return std::stoull(status.substr(status.find(name) + name.size()));
  }

  TempDir dir_;
  std::unique_ptr<ServerProcess> server_;
};

class CaseC11 : public ListTest {};
INSTANTIATE_TEST_SUITE_P(Over, CaseC11, testing::Values(Transport::kTcp, Transport::kShm),
                         [](const auto& of) { return std::string(to_string(of.param)); });

TEST_P(CaseC11, a_long_list_of_gets_is_never_told_busy) {
  Session session = open();
  constexpr size_t kOps = 40'000;
  std::vector<char> memory(kKeys * kBlock);
  Batch list;
  for (size_t i = 0; i < kOps; i++) list.get(key(i), {memory.data() + i % kKeys * kBlock, kBlock});
  const uint64_t retries = session.counters().retries, busy_before = busy();
  size_t hits = 0;
  for (const Outcome& outcome : session.run(list, std::chrono::seconds(60))) hits += outcome.hit() ? 1 : 0;
  EXPECT_EQ(hits, kOps);
  EXPECT_LE(session.counters().retries - retries, kOps / 1000);
  EXPECT_LE(busy() - busy_before, kOps / 1000);
}

TEST_P(CaseC11, a_small_get_does_not_wait_for_the_list_that_it_meets) {
  Session session = open();
  constexpr size_t kOps = 100'000;
  std::vector<char> memory(kKeys * kBlock), one(kBlock);
  Batch list;
  for (size_t i = 0; i < kOps; i++) list.get(key(i), {memory.data() + i % kKeys * kBlock, kBlock});
  const auto ticket = session.submit(list, std::chrono::seconds(60));
  while (session.completed(ticket).size() < kOps / 100) session.poll(std::chrono::milliseconds(100));
  int round = 0;
  for (; round < 20 && !session.done(ticket); round++) {
    const size_t before = session.completed(ticket).size();
    Batch small;
    const auto single = session.submit(small.get(key(7), one), std::chrono::seconds(60));
    while (!session.done(single)) session.poll(std::chrono::milliseconds(100));
    EXPECT_TRUE(session.collect(single).front().hit());
    EXPECT_LE(session.completed(ticket).size() - before, 1200u) << "of the list overtook it, round " << round;
  }
  EXPECT_GE(round, 5) << "the list is to be longer than what is measured beside it";
  while (!session.done(ticket)) session.poll(std::chrono::milliseconds(100));
  session.collect(ticket);
}

TEST_P(CaseC11, large_gets_and_small_ones_of_two_lists_share_the_connection) {
  Session session = open();
  const std::string block(64 << 10, 'c');
  Batch put;
  ASSERT_TRUE(session.run(put.put("large", block), std::chrono::seconds(30)).front().hit());
  std::vector<char> small(kKeys * kBlock), large(block.size());
  Batch many, big;
  for (size_t i = 0; i < 20'000; i++) many.get(key(i), {small.data() + i % kKeys * kBlock, kBlock});
  for (size_t i = 0; i < 400; i++) big.get("large", large);
  const uint64_t retries = session.counters().retries;
  const auto first = session.submit(many, std::chrono::seconds(60));
  const auto second = session.submit(big, std::chrono::seconds(60));
  while (!session.done(second)) session.poll(std::chrono::milliseconds(100));
  EXPECT_FALSE(session.done(first)) << "the large gets waited for all small ones";
  while (!session.done(first)) session.poll(std::chrono::milliseconds(100));
  for (const auto ticket : {first, second}) {
    for (const Outcome& outcome : session.collect(ticket)) ASSERT_TRUE(outcome.hit());
  }
  EXPECT_LE(session.counters().retries - retries, 20u);
}

TEST_P(CaseC11, a_list_that_is_canceled_or_out_of_time_ends_whole) {
  Session session = open();
  std::vector<char> memory(kKeys * kBlock);
  for (const bool canceled : {true, false}) {
    Batch list;
    for (size_t i = 0; i < 20'000; i++) list.get(key(i), {memory.data() + i % kKeys * kBlock, kBlock});
    list.remove("nothing").remove("nothing").chained();
    if (!canceled) server_->freeze();
    const auto ticket = session.submit(list, canceled ? std::chrono::seconds(60) : std::chrono::milliseconds(50));
    if (canceled) session.cancel(ticket);
    while (!session.done(ticket)) session.poll(std::chrono::milliseconds(100));
    EXPECT_EQ(session.completed(ticket).size(), list.size());
    for (const Outcome& outcome : session.collect(ticket)) {
      ASSERT_NE(outcome.status, Status::kInternal);
      ASSERT_FALSE(outcome.hit());
    }
    if (!canceled) server_->thaw();
  }
  Batch again;
  std::vector<char> one(kBlock);
  EXPECT_TRUE(session.run(again.get(key(3), one), std::chrono::seconds(30)).front().hit());
}

class CaseC15 : public ListTest {};
INSTANTIATE_TEST_SUITE_P(Over, CaseC15, testing::Values(Transport::kTcp, Transport::kShm),
                         [](const auto& of) { return std::string(to_string(of.param)); });

/// With 128 MiB under way the default deadline is two seconds longer than its floor, which is over before the server
/// goes on.
TEST_P(CaseC15, default_deadlines_allow_for_the_bytes_under_way_and_stated_ones_are_kept) {
  ClientOptions options{.servers = {server_->address()}, .transport = GetParam()};
  options.get_timeout = std::chrono::milliseconds(20);
  Session session = Session::connect(options).value();
  const std::string block(1 << 20, 'm');
  Batch put;
  ASSERT_TRUE(session.run(put.put("block", block), std::chrono::seconds(30)).front().hit());
  std::vector<char> memory(128 << 20);
  const auto list = [&] {
    Batch batch;
    for (size_t i = 0; i < 128; i++) batch.get("block", {memory.data() + (i << 20), size_t{1} << 20});
    return batch;
  };
  const auto run_frozen = [&](Deadline deadline) {
    Batch batch = list();
    server_->freeze();
    const auto ticket = session.submit(batch, deadline);
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (std::chrono::steady_clock::now() < end) session.poll(std::chrono::milliseconds(10));
    const bool over = session.done(ticket);
    server_->thaw();
    while (!session.done(ticket)) session.poll(std::chrono::milliseconds(100));
    session.collect(ticket);
    return over;
  };
  EXPECT_FALSE(run_frozen({})) << "ended by the floor";
  EXPECT_TRUE(run_frozen(std::chrono::milliseconds(20))) << "what is stated is kept";
  Batch batch = list();
  size_t hits = 0;
  for (const Outcome& outcome : session.run(batch, std::chrono::seconds(60))) hits += outcome.hit() ? 1 : 0;
  EXPECT_EQ(hits, 128u);
}

}  // namespace
}  // namespace memkv::test
