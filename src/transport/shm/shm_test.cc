/// A shm connection against a peer that lies, changes what it sent, truncates, punches holes, hangs or dies.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>

#include "transport/link_rig.h"
#include "transport/send_queue.h"
#include "transport/shm/offer.h"
#include "transport/shm/ring.h"

namespace memkv::transport {
namespace {

using wire::Opcode;

/// A server's link, and a client that is only memory and a socket. The test keeps both descriptors.
class Hostile : public testing::TestWithParam<Carrier> {
 protected:
  void SetUp() override {
    reactor = make_test_reactor(GetParam());
    if (!reactor) GTEST_SKIP() << "io_uring is not to be had here";
    auto made = ShmWindow::make(kTestWindows, nullptr);
    ASSERT_TRUE(made);
    get_fd.reset(dup((*made)->get_fd()));
    put_fd.reset(dup((*made)->in_fd()));
    auto taken = ShmWindow::take(kTestWindows, base::UniqueFd(dup(get_fd.get())), base::UniqueFd(dup(put_fd.get())));
    ASSERT_TRUE(taken);
    window = *taken;
    const auto [a, b] = unix_pair();
    socket.reset(a);
    server = make_shm_link(*reactor, b, Role::kServer, test_keys(), std::move(*made), owner);
    owner.destroy = &server;
  }
  void TearDown() override {
    if (server) server->close(Status::kOk);
    if (reactor) {
      EXPECT_TRUE(run([&] { return !server; }));
      EXPECT_EQ(owner.closed_count, 1);
      EXPECT_EQ(reactor->pending(), 0u);
    }
  }
  template <typename Done>
  bool run(Done&& done) {
    return run_until(*reactor, done);
  }
  void wake() { ASSERT_EQ(send(socket.get(), "!", 1, MSG_NOSIGNAL), 1); }
  /// The bytes of honest frames, as a client would put them into the ring.
  std::string bytes_of(std::initializer_list<TestFrame*> frames) {
    SendQueue queue(test_keys().client_to_server, sequence);
    for (TestFrame* frame : frames) EXPECT_TRUE(queue.push(*frame));
    std::string bytes;
    for (auto pieces = queue.fill(); !pieces.empty(); pieces = queue.fill()) {
      size_t total = 0;
      for (const iovec& piece : pieces) {
        bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
        total += piece.iov_len;
      }
      queue.sent(total);
      sequence++;
    }
    return bytes;
  }
  void put(std::string_view bytes) {
    for (const char c : bytes) window->out()[written++ % window->out().size()] = static_cast<std::byte>(c);
  }
  void publish() {
    window->own().written.store(written, std::memory_order_release);
    wake();
  }

  std::unique_ptr<io::Reactor> reactor;
  base::UniqueFd get_fd, put_fd, socket;
  std::shared_ptr<ShmWindow> window;
  TestOwner owner;
  std::unique_ptr<Link> server;
  uint64_t sequence = 0;
  uint64_t written = 0;
};

TEST_P(Hostile, HonestBytesArrive) {
  TestFrame frame(Opcode::kOps, 1, "body", pattern(50'000, 1));
  put(bytes_of({&frame}));
  publish();
  ASSERT_TRUE(run([&] { return owner.complete == 1; }));
  EXPECT_TRUE(owner.heard[0].payload == frame.payload_text);
}

TEST_P(Hostile, ImpossibleIndicesEndTheConnection) {
  const uint64_t ring = kTestWindows.put_ring_bytes;
  for (const uint64_t forged : {ring + 1, uint64_t{1} << 40, UINT64_MAX, UINT64_MAX - ring}) {
    if (!server) SetUp();
    window->own().written.store(forged, std::memory_order_release);
    wake();
    ASSERT_TRUE(run([&] { return !server; })) << forged;
    EXPECT_EQ(owner.closed.status, Status::kInvalid) << forged;
    EXPECT_TRUE(owner.heard.empty());
    owner.closed_count = 0;
  }
  owner.closed_count = 1;
}

TEST_P(Hostile, AnIndexThatGoesBackEndsTheConnection) {
  TestFrame frame(Opcode::kPing, 1, "x", "");
  put(bytes_of({&frame}));
  publish();
  ASSERT_TRUE(run([&] { return owner.complete == 1; }));
  window->own().written.store(written - 1, std::memory_order_release);
  wake();
  ASSERT_TRUE(run([&] { return !server; }));
  EXPECT_EQ(owner.closed.status, Status::kInvalid);
}

TEST_P(Hostile, MoreReadThanWrittenEndsTheConnection) {
  TestFrame reply(Opcode::kPong, 1, "y", "");
  window->own().read.store(1'000'000, std::memory_order_release);
  ASSERT_TRUE(server->send(reply));
  ASSERT_TRUE(run([&] { return !server; }));
  EXPECT_EQ(owner.closed.status, Status::kInvalid);
  EXPECT_EQ(reply.done, 1);
}

TEST_P(Hostile, WhatIsChangedAfterItWasReadChangesNothing) {
  TestFrame frame(Opcode::kOps, 1, "body", pattern(100'000, 1));
  const std::string bytes = bytes_of({&frame});
  put(bytes.substr(0, bytes.size() - 10));
  publish();
  ASSERT_TRUE(run([&] { return owner.heard.size() == 1; }));
  run_until(
      *reactor, [] { return false; }, 5'000'000);
  for (std::byte& b : window->out()) b ^= std::byte{0xff};
  put(bytes.substr(bytes.size() - 10));
  publish();
  ASSERT_TRUE(run([&] { return owner.complete == 1; }));
  EXPECT_EQ(owner.heard[0].body, "body");
  EXPECT_TRUE(owner.heard[0].payload == frame.payload_text);
}

TEST_P(Hostile, BitsThatFlipDuringTrafficAreNoticedOrHarmless) {
  // A payload may be anything: its sums are checked above the link. Headers and bodies have a MAC, so what is heard is
  // genuine.
  std::atomic<bool> stop{false};
  std::thread flipper([&] {
    uint32_t x = 1;
    while (!stop) {
      x = x * 1664525u + 1013904223u;
      window->out()[x % window->out().size()] ^= std::byte{1};
    }
  });
  for (uint32_t i = 0; i < 2000 && server; i++) {
    TestFrame frame(Opcode::kOps, i, "genuine", pattern(3000, i));
    put(bytes_of({&frame}));
    publish();
    // A length that was changed before it was read is noticed only when that many bytes are there. So the link waits
    // for them in vain.
    const bool done = run_until(
        *reactor, [&] { return !server || owner.complete == i + 1; }, 1'000'000'000);
    if (!done) break;
  }
  stop = true;
  flipper.join();
  for (const Heard& heard : owner.heard) EXPECT_EQ(heard.body, "genuine");
  if (!server) {
    EXPECT_TRUE(owner.closed.status == Status::kUnauthorized || owner.closed.status == Status::kInvalid);
  }
}

TEST_P(Hostile, SealsHold) {
  for (const int fd : {get_fd.get(), put_fd.get()}) {
    EXPECT_NE(ftruncate(fd, 0), 0);
    EXPECT_NE(ftruncate(fd, 1 << 30), 0);
    EXPECT_NE(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0) << "no more seals";
  }
  // The client can neither write to what it reads nor punch holes into it.
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, get_fd.get(), 0), MAP_FAILED);
  EXPECT_NE(fallocate(get_fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
  EXPECT_LT(pwrite(get_fd.get(), "x", 1, 0), 0);
}

TEST_P(Hostile, HolesAreZerosAndEndTheConnection) {
  TestFrame first(Opcode::kOps, 1, "one", pattern(1000, 1)), second(Opcode::kOps, 2, "two", pattern(1000, 1));
  put(bytes_of({&first}));
  publish();
  ASSERT_TRUE(run([&] { return owner.complete == 1; }));
  put(bytes_of({&second}));
  // The whole file: the ring and the page with the indices.
  ASSERT_EQ(fallocate(put_fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                      static_cast<off_t>(kTestWindows.put_ring_bytes + ShmPage::kBytes)),
            0);
  publish();
  ASSERT_TRUE(run([&] { return !server; }));
  EXPECT_NE(owner.closed.status, Status::kOk);
  EXPECT_EQ(owner.complete, 1u);
}

TEST_P(Hostile, APeerThatHangsHoldsNothingButItsWindow) {
  // The client reads nothing: the ring fills, the rest waits, and all frames come back when the owner closes the link.
  std::vector<std::unique_ptr<TestFrame>> frames;
  for (uint32_t i = 0; i < 10; i++) {
    frames.push_back(std::make_unique<TestFrame>(Opcode::kReply, i, "r", pattern(200'000, i)));
    ASSERT_TRUE(server->send(*frames.back()));
  }
  run_until(
      *reactor, [] { return false; }, 20'000'000);
  EXPECT_EQ(frames[0]->done, 1);
  EXPECT_EQ(frames[9]->done, 0);
  EXPECT_GT(server->bytes_queued(), 1'000'000u);
  server->close(Status::kDeadline);
  ASSERT_TRUE(run([&] { return !server; }));
  for (const auto& frame : frames) EXPECT_EQ(frame->done, 1);
}

TEST_P(Hostile, AClientKilledInTheMiddleIsNoticedAtOnce) {
  TestFrame frame(Opcode::kOps, 1, "body", pattern(100'000, 1));
  const std::string bytes = bytes_of({&frame});
  put(bytes.substr(0, bytes.size() / 2));
  publish();
  ASSERT_TRUE(run([&] { return owner.heard.size() == 1; }));
  const uint64_t before = reactor->now_ns();
  socket.reset();  // what the client's death does
  ASSERT_TRUE(run([&] { return !server; }));
  EXPECT_LT(reactor->now_ns() - before, 1'000'000'000u);
  EXPECT_EQ(owner.closed.status, Status::kUnavailable);
  EXPECT_EQ(owner.complete, 0u);
}

TEST_P(Hostile, WhatWasWrittenBeforeTheEndIsStillRead) {
  TestFrame frame(Opcode::kGoodbye, 1, "bye", "");
  put(bytes_of({&frame}));
  window->own().written.store(written, std::memory_order_release);
  socket.reset();
  ASSERT_TRUE(run([&] { return !server; }));
  ASSERT_EQ(owner.heard.size(), 1u);
  EXPECT_EQ(owner.heard[0].body, "bye");
}

TEST_P(Hostile, ASleeperIsWokenByOneByte) {
  std::atomic<bool> heard{false};
  std::thread writer([&] {
    usleep(50'000);  // by then the loop sleeps
    TestFrame frame(Opcode::kPing, 1, "late", "");
    ASSERT_EQ(window->peer().sleep.load() & 1, 1u);
    put(bytes_of({&frame}));
    publish();
  });
  const uint64_t started = reactor->now_ns();
  while (owner.complete == 0 && reactor->now_ns() - started < 5'000'000'000) reactor->run_once(5'000'000'000);
  EXPECT_LT(reactor->now_ns() - started, 1'000'000'000u);
  writer.join();
  EXPECT_EQ(owner.complete, 1u);
}

INSTANTIATE_TEST_SUITE_P(Reactors, Hostile, testing::Values(Carrier::kShmEpoll, Carrier::kShmUring),
                         [](const auto& param_info) { return name_of(param_info.param); });

// Both ends run in threads of their own, and sleep and wake.

TEST(ShmThreads, TwoLoopsPingAndPong) {
  const auto [a, b] = unix_pair();
  auto [client_window, server_window] = window_pair();
  std::atomic<bool> stop{false};
  std::thread server_thread([&, fd = b, window = std::move(server_window)] {
    auto reactor = make_test_reactor(Carrier::kShmEpoll);
    TestOwner owner;
    auto link = make_shm_link(*reactor, fd, Role::kServer, test_keys(), window, owner);
    owner.destroy = &link;
    std::vector<std::unique_ptr<TestFrame>> echoes;
    owner.also_on_payload = [&](Link& l) {
      echoes.push_back(std::make_unique<TestFrame>(Opcode::kReply, owner.heard.back().request_id,
                                                   owner.heard.back().body, owner.heard.back().payload));
      EXPECT_TRUE(l.send(*echoes.back()));
    };
    while (!stop || link) {
      if (stop && link) link->close(Status::kOk);
      reactor->run_once(1'000'000);
    }
  });
  auto reactor = make_test_reactor(Carrier::kShmEpoll);
  TestOwner owner;
  auto link = make_shm_link(*reactor, a, Role::kClient, test_keys(), std::move(client_window), owner);
  owner.destroy = &link;
  for (uint32_t i = 0; i < 200; i++) {
    TestFrame frame(Opcode::kOps, i, pattern(i, i), pattern(1 + i * 2500 % 400'000, i));
    ASSERT_TRUE(link->send(frame));
    ASSERT_TRUE(run_until(*reactor, [&] { return owner.complete == i + 1 && frame.done == 1; })) << i;
    EXPECT_EQ(owner.heard.back().body, frame.body_text);
    EXPECT_TRUE(owner.heard.back().payload == frame.payload_text) << i;
    if (i % 20 == 0) usleep(3000);  // both sleep
  }
  stop = true;
  ASSERT_TRUE(run_until(*reactor, [&] { return !link; }));
  server_thread.join();
}

// The first frame on the socket.

TEST(ShmOffer, AWindowCrossesTheSocket) {
  const auto [a, b] = unix_pair();
  const base::UniqueFd near(a), far(b);
  auto window = ShmWindow::make(kTestWindows, nullptr);
  ASSERT_TRUE(window);
  ASSERT_TRUE(send_windows(near.get(), test_keys(), **window));
  EXPECT_EQ((*window)->get_fd(), -1) << "what is the client's is not kept";
}

TEST(ShmOffer, WhatIsNotAsToldIsRefused) {
  auto window = ShmWindow::make(kTestWindows, nullptr);
  ASSERT_TRUE(window);
  const auto fd = [&](int which) { return base::UniqueFd(dup(which)); };
  const wire::Windows larger{kTestWindows.get_ring_bytes * 2, kTestWindows.put_ring_bytes};
  EXPECT_FALSE(ShmWindow::take(larger, fd((*window)->get_fd()), fd((*window)->in_fd())));
  EXPECT_FALSE(ShmWindow::take(kTestWindows, fd((*window)->in_fd()), fd((*window)->get_fd()))) << "swapped";
  base::UniqueFd open(memfd_create("not sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(ftruncate(open.get(), static_cast<off_t>(kTestWindows.get_ring_bytes + ShmPage::kBytes)), 0);
  EXPECT_FALSE(ShmWindow::take(kTestWindows, std::move(open), fd((*window)->in_fd()))) << "it could be truncated";
}

TEST(ShmOffer, HugePagesOfAPoolAreRefused) {
  auto window = ShmWindow::make(kTestWindows, nullptr);
  ASSERT_TRUE(window);
  base::UniqueFd pool(memfd_create("pool", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB));
  if (!pool) return;  // the kernel has none
  ASSERT_EQ(ftruncate(pool.get(), 2 << 20), 0);
  ASSERT_EQ(fcntl(pool.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  EXPECT_FALSE(ShmWindow::take(kTestWindows, base::UniqueFd(dup((*window)->get_fd())), std::move(pool)));
}

TEST(ShmOffer, AClientThatKeepsItsMappingKeepsLittle) {
  auto [client, server] = window_pair();
  const base::UniqueFd put(dup(server->in_fd()));
  struct stat info {};
  ASSERT_EQ(fstat(put.get(), &info), 0);
  ASSERT_GT(info.st_blocks, 0);
  server.reset();
  ASSERT_EQ(fstat(put.get(), &info), 0);
  EXPECT_EQ(info.st_blocks, 0);
}

TEST(ShmOffer, TheBudgetIsGivenBack) {
  ShmBudget budget(5 << 20);
  {
    auto one = ShmWindow::make(kTestWindows, &budget, {1, 10}), two = ShmWindow::make(kTestWindows, &budget, {1, 11});
    ASSERT_TRUE(one && two);
    auto three = ShmWindow::make(kTestWindows, &budget, {1, 12});
    ASSERT_FALSE(three);
    EXPECT_EQ(three.error().status, Status::kBusy);
    EXPECT_GT(budget.in_use(), uint64_t{4} << 20) << "a huge page each for what is put";
  }
  budget.collect();
  EXPECT_EQ(budget.in_use(), 0u);
}

/// What a client has of a window, as it came over its socket.
struct Kept {
  base::UniqueFd get, put;
  std::shared_ptr<ShmWindow> mapped;
  static Kept of(ShmWindow& window) {
    Kept kept{base::UniqueFd(dup(window.get_fd())), base::UniqueFd(dup(window.put_fd())), nullptr};
    window.sent();
    return kept;
  }
  void map() { mapped = ShmWindow::take(kTestWindows, std::move(get), std::move(put)).value(); }
};

TEST(CaseA4, MemoryCountsWhileAClientKeepsAMappingOrADescriptor) {
  ShmBudget budget(64 << 20);
  const uint64_t one = ShmWindow::bytes(kTestWindows);
  Kept mapping, get_only, put_only;
  for (Kept* kept : {&mapping, &get_only, &put_only}) *kept = Kept::of(**ShmWindow::make(kTestWindows, &budget));
  mapping.map();
  get_only.put.reset();
  put_only.get.reset();
  budget.collect();
  EXPECT_EQ(budget.in_use(), 3 * one) << "the connections are over, the memory is not";
  EXPECT_EQ(budget.kept(), 3 * one);
  get_only.get.reset();
  budget.collect();
  EXPECT_EQ(budget.in_use(), 2 * one);
  put_only.put.reset();
  mapping.mapped.reset();
  budget.collect();
  EXPECT_EQ(budget.in_use(), 0u);
  EXPECT_EQ(budget.kept(), 0u);
}

TEST(CaseA4, WhoReconnectsAgainAndAgainAndKeepsEachWindowFindsNoMore) {
  const uint64_t one = ShmWindow::bytes(kTestWindows);
  ShmBudget budget(8 * one, 2);
  std::vector<Kept> kept;
  for (int i = 0; i < 1500; i++) {
    auto window = ShmWindow::make(kTestWindows, &budget, {1, 10});
    if (window) kept.push_back(Kept::of(**window));
  }
  EXPECT_EQ(kept.size(), 3u) << "half of what its namespace could have";
  EXPECT_LE(budget.in_use(), budget.bytes_max());
  EXPECT_TRUE(ShmWindow::make(kTestWindows, &budget, {1, 11}).ok()) << "another process of the same namespace";
  std::vector<std::shared_ptr<ShmWindow>> others;
  for (int pid = 12; pid < 30; pid++) {
    auto window = ShmWindow::make(kTestWindows, &budget, {1, pid});
    if (window) others.push_back(std::move(*window));
  }
  EXPECT_EQ(kept.size() + others.size(), 6u) << "a quarter is the other namespace's";
  auto honest = ShmWindow::make(kTestWindows, &budget, {2, 40}), more = ShmWindow::make(kTestWindows, &budget, {2, 41});
  EXPECT_TRUE(honest && more);
  kept.clear();
  EXPECT_TRUE(ShmWindow::make(kTestWindows, &budget, {1, 10}).ok()) << "it gave the memory back";
}

}  // namespace
}  // namespace memkv::transport
