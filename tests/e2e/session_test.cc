/// A Session that several threads drive in turn, and one that is waited for from outside.

#include <gtest/gtest.h>
#include <poll.h>

#include <mutex>
#include <thread>

#include "memkv/client.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

class SessionTest : public testing::Test {
 protected:
  SessionTest() : server_(start_memory_server(dir_, "64MiB")) {}
  Session open() { return Session::connect({.servers = {server_->address()}}).value(); }

  TempDir dir_;
  std::unique_ptr<ServerProcess> server_;
};
using SessionThreads = SessionTest;

void wait_outside(Session& session) {
  const auto limit = session.arm_wait();
  pollfd fd{session.wait_fd(), POLLIN, 0};
  const timespec timeout{limit.count() / 1'000'000'000, limit.count() % 1'000'000'000};
  ppoll(&fd, 1, &timeout, nullptr);
}

TEST_F(SessionTest, its_descriptor_becomes_readable_when_there_is_something_to_do) {
  Session session = open();
  std::vector<char> block(3 << 20, 'x');
  for (int round = 0; round < 20; round++) {
    Batch batch;
    batch.put("k" + std::to_string(round), block);
    const auto ticket = session.submit(batch);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);  // timers alone would take longer
    while (session.poll(), !session.done(ticket)) {
      ASSERT_LT(std::chrono::steady_clock::now(), end) << "round " << round;
      wait_outside(session);
    }
    EXPECT_TRUE(session.collect(ticket).front().hit());
  }
}

TEST_F(SessionTest, a_wait_outside_is_limited_by_the_deadline) {
  Session session = open();
  Batch batch;
  std::vector<char> block(10, 'x');
  session.run(batch.put("k", block));
  server_->freeze();
  batch.clear();
  const auto started = std::chrono::steady_clock::now();
  const auto ticket = session.submit(batch.get("k", block), std::chrono::milliseconds(100));
  while (session.poll(), !session.done(ticket)) wait_outside(session);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(1));
  EXPECT_EQ(session.collect(ticket).front().status, Status::kDeadline);
  server_->thaw();
}

TEST_F(SessionTest, questions_that_touch_and_others_go_in_one_batch) {
  Session session = open();
  std::vector<char> block(10, 'x');
  Batch batch;
  session.run(batch.put("a", block).put("b", block));
  batch.clear();
  batch.exists("a", true).exists("no").exists("b").exists("none", true).exists("b", true).exists("a");
  const auto outcomes = session.run(batch);
  std::vector<bool> there;
  for (const Outcome& outcome : outcomes) there.push_back(outcome.exists);
  EXPECT_EQ(there, (std::vector<bool>{true, false, true, false, true, true}));
}

TEST_F(SessionThreads, take_turns_under_a_lock) {
  Session session = open();
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int id = 0; id < 4; id++) {
    threads.emplace_back([&, id] {
      std::vector<char> out(20'000, static_cast<char>('a' + id)), in(20'000);
      for (int round = 0; round < 50; round++) {
        const std::string key = std::to_string(id) + "/" + std::to_string(round);
        Batch batch;
        batch.put(key, out).get(key, in).chained();
        std::unique_lock lock(mutex);
        const auto ticket = session.submit(batch);
        while (session.poll(), !session.done(ticket)) {
          lock.unlock();
          std::this_thread::yield();
          lock.lock();
        }
        const auto outcomes = session.collect(ticket);
        EXPECT_TRUE(outcomes[0].hit() && outcomes[1].hit());
        EXPECT_EQ(in, out);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace memkv::test
