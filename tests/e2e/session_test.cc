/// A Session that several threads drive in turn, and one whose caller waits outside of it.

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
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

TEST_F(SessionTest, gpu_memory_that_no_nic_reaches_is_refused_with_the_reason) {
  std::vector<char> memory(4096);
  Session tcp = Session::connect({.servers = {server_->address()}, .transport = Transport::kTcp}).value();
  const auto region = tcp.register_memory(memory.data(), memory.size(), MemoryKind::kCuda, 0);
  ASSERT_FALSE(region.ok());
  EXPECT_EQ(region.error().status, Status::kUnsupported);
  EXPECT_STREQ(region.error().what, "GPU memory goes over rdma only: this client does not use it");
  EXPECT_EQ(tcp.register_memory(nullptr, 1, MemoryKind::kCuda, 0).error().status, Status::kInvalid);
  auto client = Client::connect({.servers = {server_->address()}, .transport = Transport::kAuto}).value();
  const auto other = client.register_memory(memory.data(), memory.size(), MemoryKind::kCuda, 0);
  ASSERT_FALSE(other.ok()) << "it is no memory of a GPU";
  EXPECT_TRUE(tcp.register_memory(memory.data(), memory.size()).ok());
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

/// Memory of which only the front is readable so far. Reading the rest ends the process.
class FedMemory {
 public:
  explicit FedMemory(size_t bytes)
      : bytes_(bytes), data_(static_cast<char*>(mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {}
  ~FedMemory() { munmap(data_, bytes_); }
  FedMemory(const FedMemory&) = delete;
  FedMemory& operator=(const FedMemory&) = delete;
  const char* data() const { return data_; }
  size_t size() const { return bytes_; }
  /// Makes the next `bytes` readable, each with `value`. Returns how many are readable now.
  uint64_t add(size_t bytes, char value) {
    EXPECT_EQ(mprotect(data_ + ready_, bytes, PROT_READ | PROT_WRITE), 0);
    std::memset(data_ + ready_, value, bytes);
    return ready_ += bytes;
  }

 private:
  const size_t bytes_;
  char* data_;
  uint64_t ready_ = 0;
};

constexpr size_t kMi = 1 << 20;

void poll_for(Session& session, std::chrono::milliseconds time) {
  for (const auto end = std::chrono::steady_clock::now() + time; std::chrono::steady_clock::now() < end;)
    session.poll(std::chrono::milliseconds(1));
}

Outcome finish(Session& session, Session::Ticket ticket) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!session.done(ticket) && std::chrono::steady_clock::now() < end) session.poll(std::chrono::milliseconds(1));
  return session.collect(ticket).front();
}

TEST_F(SessionTest, a_fed_put_reads_no_byte_before_its_time_and_is_seen_when_all_are_there) {
  Session session = open(), other = open();
  Batch old, batch;
  const std::vector<char> before(7 * kMi, 'o');
  session.run(old.put("fed", before));
  FedMemory memory(7 * kMi);
  const auto ticket = session.submit(batch.put("fed", Gather(memory.data(), memory.size())).fed());
  std::vector<char> got(7 * kMi);
  for (size_t piece = 0; piece < 7; piece++) {
    poll_for(session, std::chrono::milliseconds(10));
    EXPECT_FALSE(session.done(ticket));
    Batch get;
    EXPECT_TRUE(other.run(get.get("fed", got)).front().hit());
    EXPECT_EQ(got, before) << "old or new as a whole";
    session.feed(ticket, 0, memory.add(kMi, static_cast<char>('a' + piece)));
  }
  EXPECT_EQ(finish(session, ticket).status, Status::kOk);
  Batch get;
  EXPECT_TRUE(other.run(get.get("fed", got)).front().hit());
  EXPECT_EQ(std::memcmp(got.data(), memory.data(), got.size()), 0);
}

TEST_F(SessionTest, small_puts_and_writes_over_a_chunk_border_are_fed_too) {
  Session session = open();
  Batch batch;
  FedMemory small(4096), range(3 * kMi);
  const std::vector<char> zeros(6 * kMi, '0');
  session.run(batch.put("range", zeros));
  batch.clear();
  batch.put("small", Gather(small.data(), small.size())).fed();
  batch.write("range", Gather(range.data(), range.size()), kMi + 5).fed();
  const auto ticket = session.submit(batch);
  poll_for(session, std::chrono::milliseconds(10));
  session.feed(ticket, 0, small.add(4096, 's'));
  for (int piece = 0; piece < 3; piece++) session.feed(ticket, 1, range.add(kMi, 'r'));
  EXPECT_EQ(finish(session, ticket).status, Status::kOk);
  std::vector<char> got(6 * kMi), one(4096);
  batch.clear();
  const auto outcomes = session.run(batch.get("range", got).get("small", one));
  EXPECT_TRUE(outcomes[0].hit() && outcomes[1].hit());
  EXPECT_EQ(std::count(got.begin(), got.end(), 'r'), static_cast<ptrdiff_t>(3 * kMi));
  EXPECT_EQ(got[kMi + 4], '0');
  EXPECT_EQ(got[kMi + 5], 'r');
  EXPECT_EQ(one, std::vector<char>(4096, 's'));
}

TEST_F(SessionTest, a_fed_put_that_is_canceled_or_starves_leaves_the_old_block) {
  Session session = open();
  const std::vector<char> before(5 * kMi, 'o');
  Batch batch;
  session.run(batch.put("kept", before));
  for (const bool cancel : {true, false}) {
    FedMemory memory(5 * kMi);
    batch.clear();
    batch.put("kept", Gather(memory.data(), memory.size())).fed();
    const auto ticket = session.submit(batch, cancel ? Deadline{} : std::chrono::milliseconds(100));
    session.feed(ticket, 0, memory.add(3 * kMi, 'n'));
    poll_for(session, std::chrono::milliseconds(20));
    if (cancel) session.cancel(ticket);
    EXPECT_EQ(finish(session, ticket).status, cancel ? Status::kCanceled : Status::kDeadline);
    std::vector<char> got(5 * kMi);
    batch.clear();
    EXPECT_TRUE(session.run(batch.get("kept", got)).front().hit());
    EXPECT_EQ(got, before);
  }
}

TEST_F(SessionTest, a_fed_put_ends_when_its_server_dies) {
  Session session = open();
  FedMemory memory(5 * kMi);
  Batch batch;
  const auto ticket = session.submit(batch.put("orphan", Gather(memory.data(), memory.size())).fed());
  session.feed(ticket, 0, memory.add(3 * kMi, 'n'));
  poll_for(session, std::chrono::milliseconds(20));
  server_->kill_now();
  poll_for(session, std::chrono::milliseconds(20));
  session.feed(ticket, 0, memory.add(2 * kMi, 'n'));
  EXPECT_EQ(finish(session, ticket).status, Status::kRefused);
}

TEST_F(SessionTest, ops_tell_that_they_are_complete_before_the_rest_of_their_batch_is) {
  Session session = open();
  FedMemory memory(4096);
  std::vector<char> block(10, 'x');
  Batch batch;
  session.run(batch.put("there", block));
  batch.clear();
  batch.put("late", Gather(memory.data(), memory.size())).fed();
  const auto ticket = session.submit(batch.get("there", block).get("absent", block));
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (session.completed(ticket).size() < 2 && std::chrono::steady_clock::now() < end) session.poll();
  EXPECT_FALSE(session.done(ticket));
  ASSERT_EQ(session.completed(ticket).size(), 2u);
  for (const uint32_t op : session.completed(ticket))
    EXPECT_EQ(session.outcome(ticket, op).status, op == 1 ? Status::kOk : Status::kMiss);
  session.feed(ticket, 0, memory.add(4096, 'l'));
  EXPECT_EQ(finish(session, ticket).status, Status::kOk);
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
