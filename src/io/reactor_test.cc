/// The contract of Reactor, run on every implementation.

#include "io/reactor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "io/sim_reactor.h"
#include "io/socket.h"
#include "io/test_ops.h"

namespace memkv::io {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kPatienceNs = 10'000 * kMs;

struct TestTimer {
  Timer timer;
  std::function<void()> then;
  TestTimer() {
    timer.context = this;
    timer.on_done = [](Timer& t) { static_cast<TestTimer*>(t.context)->then(); };
  }
};

struct Pair {
  base::UniqueFd a, b;
  Pair() {
    std::array<int, 2> fds{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()), 0);
    a.reset(fds[0]);
    b.reset(fds[1]);
  }
};

iovec piece_of(auto& container) { return {container.data(), container.size()}; }

/// A file that is gone when closed.
base::UniqueFd temporary_file() {
  std::string path = ::testing::TempDir() + "/memkv-io-XXXXXX";
  base::UniqueFd fd(mkstemp(path.data()));
  EXPECT_TRUE(fd);
  unlink(path.c_str());
  return fd;
}

std::unique_ptr<Reactor> make(const std::string& name, const ReactorOptions& base = {}) {
  if (name == "sim") return std::make_unique<SimReactor>(SimReactor::Options{.ops_max = base.ops_max});
  ReactorOptions options = base;
  options.kind = name == "epoll" ? ReactorKind::kEpoll : ReactorKind::kUring;
  auto made = make_reactor(options, nullptr);
  return made ? std::move(made).value() : nullptr;
}

class ReactorSuite : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    reactor = make(GetParam());
    if (!reactor) GTEST_SKIP() << GetParam() << " cannot be used on this machine";
  }
  bool run_until(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::nanoseconds(kPatienceNs);
    while (!done() && std::chrono::steady_clock::now() < end) reactor->run_once(10 * kMs);
    return done();
  }
  bool run_until_done(const TestOp& op, int count = 1) {
    return run_until([&] { return op.count >= count; });
  }
  /// Runs some turns in which nothing is expected.
  void settle() {
    for (int i = 0; i < 10; i++) reactor->run_once(1 * kMs);
  }
  std::unique_ptr<Reactor> reactor;
};

// --- What every reactor does, the simulated one included.

using ReactorCore = ReactorSuite;
INSTANTIATE_TEST_SUITE_P(All, ReactorCore, ::testing::Values("io_uring", "epoll", "sim"),
                         [](const auto& at) { return std::string(at.param); });

TEST_P(ReactorCore, NameIsItsOwn) { EXPECT_EQ(reactor->name(), GetParam()); }

TEST_P(ReactorCore, PostCompletesLaterAndOnce) {
  TestOp op;
  ASSERT_TRUE(reactor->post(op.op, 42));
  EXPECT_TRUE(op.op.pending());
  EXPECT_EQ(op.count, 0);
  EXPECT_EQ(reactor->pending(), 1u);
  ASSERT_TRUE(run_until_done(op));
  settle();
  EXPECT_EQ(op.count, 1);
  EXPECT_EQ(op.result, 42);
  EXPECT_EQ(reactor->pending(), 0u);
}

TEST_P(ReactorCore, PostsRunInOrderAndMaySubmitAgain) {
  std::vector<int> order;
  std::array<TestOp, 3> ops;
  for (int i = 0; i < 3; i++) {
    ops[static_cast<size_t>(i)].then = [&, i](TestOp& self) {
      order.push_back(i);
      if (self.count < 3) {
        ASSERT_TRUE(reactor->post(self.arm(), 0));
      }
    };
    ASSERT_TRUE(reactor->post(ops[static_cast<size_t>(i)].op, 0));
  }
  ASSERT_TRUE(run_until([&] { return order.size() == 9; }));
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 0, 1, 2, 0, 1, 2}));
}

/// Does so many things a turn, and writes down what the loop does with it.
struct TestSource final : PollSource {
  size_t poll() override {
    polls++;
    armed_when_polled = armed_when_polled || armed;
    if (then) then();
    return std::exchange(work, 0);
  }
  bool arm() override {
    arms++;
    armed = true;
    return work == 0 && idle;
  }
  void disarm() override { armed = false; }
  size_t work = 0;
  bool idle = true, armed = false, armed_when_polled = false;
  int polls = 0, arms = 0;
  std::function<void()> then;
};

TEST_P(ReactorCore, SourcesArePolledAtEveryTurnAndCountAsWork) {
  TestSource source;
  reactor->add(source);
  source.work = 3;
  EXPECT_EQ(reactor->run_once(0), 3u);
  EXPECT_EQ(reactor->run_once(0), 0u);
  EXPECT_GE(source.polls, 2);
  EXPECT_EQ(source.arms, 0) << "a loop that does not wait arms nothing";
  reactor->remove(source);
  const int polls = source.polls;
  reactor->run_once(0);
  EXPECT_EQ(source.polls, polls);
  EXPECT_EQ(reactor->pending(), 0u);
}

TEST_P(ReactorCore, ASourceIsArmedBeforeTheLoopSleepsAndDisarmedAfter) {
  TestSource source;
  reactor->add(source);
  reactor->run_once(1 * kMs);
  EXPECT_EQ(source.arms, 1);
  EXPECT_FALSE(source.armed);
  EXPECT_FALSE(source.armed_when_polled);
  reactor->remove(source);
}

TEST_P(ReactorCore, ASourceThatSaysNoKeepsTheLoopAwake) {
  TestSource source;
  source.idle = false;
  reactor->add(source);
  const auto started = std::chrono::steady_clock::now();
  reactor->run_once(5000 * kMs);
  EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(2));
  EXPECT_EQ(source.arms, 1);
  reactor->remove(source);
}

TEST_P(ReactorCore, SourcesMayRemoveThemselvesAndOthersWhileTheyArePolled) {
  std::array<TestSource, 3> sources;
  for (TestSource& source : sources) reactor->add(source);
  sources[0].then = [&] {
    reactor->remove(sources[0]);
    reactor->remove(sources[1]);
  };
  reactor->run_once(0);
  EXPECT_EQ(sources[1].polls, 0);
  EXPECT_EQ(sources[2].polls, 1);
  reactor->run_once(0);
  EXPECT_EQ(sources[0].polls, 1);
  EXPECT_EQ(sources[2].polls, 2);
  reactor->remove(sources[2]);
}

TEST_P(ReactorCore, CanceledPostSaysSo) {
  TestOp op;
  ASSERT_TRUE(reactor->post(op.op, 1));
  reactor->cancel(op.op);
  reactor->cancel(op.op);
  ASSERT_TRUE(run_until_done(op));
  EXPECT_EQ(op.result, -ECANCELED);
  reactor->cancel(op.op);  // idle: nothing to do
  settle();
  EXPECT_EQ(op.count, 1);
}

TEST_P(ReactorCore, MoreOpsThanAllowedAreBusy) {
  auto small = make(GetParam(), {.ops_max = 4});
  std::array<TestOp, 5> ops;
  for (size_t i = 0; i < 4; i++) ASSERT_TRUE(small->post(ops[i].op, 0));
  auto refused = small->post(ops[4].op, 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, Status::kBusy);
  EXPECT_FALSE(ops[4].op.pending());
  while (small->pending() > 0) small->run_once(0);
  EXPECT_TRUE(small->post(ops[4].op, 0));
  while (small->pending() > 0) small->run_once(0);
  EXPECT_EQ(ops[4].count, 1);
}

TEST_P(ReactorCore, TimersFireInOrderOfDeadlineThenOfArming) {
  const uint64_t start = reactor->now_ns();
  const std::array<uint64_t, 6> delays_ms = {7, 3, 5, 3, 1, 5};
  std::array<TestTimer, 6> timers;
  std::vector<int> order;
  for (size_t i = 0; i < timers.size(); i++) {
    timers[i].then = [&, i] {
      EXPECT_GE(reactor->now_ns(), start + delays_ms[i] * kMs);
      order.push_back(static_cast<int>(i));
    };
    reactor->start(timers[i].timer, start + delays_ms[i] * kMs);
  }
  ASSERT_TRUE(run_until([&] { return order.size() == 6; }));
  EXPECT_EQ(order, (std::vector<int>{4, 1, 3, 2, 5, 0}));
}

TEST_P(ReactorCore, ThousandTimersWithStopsFireOnceEach) {
  std::vector<TestTimer> timers(1000);
  std::vector<int> fired(timers.size(), 0);
  const uint64_t start = reactor->now_ns();
  size_t total = 0;
  for (size_t i = 0; i < timers.size(); i++) {
    timers[i].then = [&, i] { fired[i]++, total++; };
    reactor->start(timers[i].timer, start + (i * 7919 % 1000) * kMs / 50);
  }
  for (size_t i = 0; i < timers.size(); i += 3) reactor->stop(timers[i].timer);
  ASSERT_TRUE(run_until([&] { return total == 666; }));
  settle();
  for (size_t i = 0; i < timers.size(); i++) EXPECT_EQ(fired[i], i % 3 == 0 ? 0 : 1) << i;
}

TEST_P(ReactorCore, TimerRearmsAndStops) {
  TestTimer timer;
  int count = 0;
  timer.then = [&] {
    if (++count < 3) reactor->start(timer.timer, reactor->now_ns() + kMs);
  };
  reactor->start(timer.timer, reactor->now_ns() + 3600'000 * kMs);
  EXPECT_TRUE(timer.timer.armed());
  reactor->start(timer.timer, reactor->now_ns());  // armed again: the earlier deadline counts
  ASSERT_TRUE(run_until([&] { return count == 3; }));
  EXPECT_FALSE(timer.timer.armed());
  reactor->start(timer.timer, reactor->now_ns());
  reactor->stop(timer.timer);
  reactor->stop(timer.timer);
  settle();
  EXPECT_EQ(count, 3);
}

TEST_P(ReactorCore, WakeOnTheOwnThreadRunsTheHook) {
  int woken = 0;
  reactor->set_on_wake([](void* count) { ++*static_cast<int*>(count); }, &woken);
  reactor->wake();
  reactor->wake();
  reactor->run_once(0);
  EXPECT_EQ(woken, 1);  // coalesced
  reactor->wake();
  reactor->run_once(0);
  EXPECT_EQ(woken, 2);
}

// --- Sockets and files.

using ReactorIo = ReactorSuite;
INSTANTIATE_TEST_SUITE_P(Real, ReactorIo, ::testing::Values("io_uring", "epoll"),
                         [](const auto& at) { return std::string(at.param); });

TEST_P(ReactorIo, RecvWaitsForBytes) {
  Pair pair;
  std::string buffer(16, 0);
  const iovec into = piece_of(buffer);
  TestOp recv;
  ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
  settle();
  EXPECT_EQ(recv.count, 0);
  ASSERT_EQ(write(pair.b.get(), "hello", 5), 5);
  ASSERT_TRUE(run_until_done(recv));
  EXPECT_EQ(recv.result, 5);
  EXPECT_EQ(buffer.substr(0, 5), "hello");
}

TEST_P(ReactorIo, RecvNeverCompletesInsideTheSubmit) {
  Pair pair;
  ASSERT_EQ(write(pair.b.get(), "x", 1), 1);
  char byte = 0;
  const iovec into{&byte, 1};
  TestOp recv;
  ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
  EXPECT_EQ(recv.count, 0);
  ASSERT_TRUE(run_until_done(recv));
  EXPECT_EQ(byte, 'x');
}

TEST_P(ReactorIo, ReadableTellsOfWhatIsNoSocketAndReadsNothing) {
  const base::UniqueFd event(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  TestOp op;
  ASSERT_TRUE(reactor->readable(op.op, event.get()));
  reactor->run_once(5'000'000);
  EXPECT_EQ(op.count, 0);
  const uint64_t one = 1;
  ASSERT_EQ(write(event.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  ASSERT_TRUE(run_until_done(op));
  EXPECT_GE(op.result, 0);
  uint64_t count = 0;
  EXPECT_EQ(read(event.get(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  ASSERT_TRUE(reactor->readable(op.op, event.get()));
  reactor->cancel(op.op);
  for (int turns = 0; op.count < 2 && turns < 100; turns++) reactor->run_once(5'000'000);
  EXPECT_EQ(op.count, 2);
  EXPECT_EQ(op.result, -ECANCELED);
}

TEST_P(ReactorIo, WritableTellsWhenASocketTakesBytesAgain) {
  Pair pair;
  const std::string load(1 << 20, 'x');
  while (::send(pair.a.get(), load.data(), load.size(), MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
  }
  TestOp op;
  ASSERT_TRUE(reactor->writable(op.op, pair.a.get()));
  settle();
  EXPECT_EQ(op.count, 0);
  std::string into(1 << 20, 0);
  while (::recv(pair.b.get(), into.data(), into.size(), MSG_DONTWAIT) > 0) {
  }
  ASSERT_TRUE(run_until_done(op));
  EXPECT_GE(op.result, 0);
}

TEST_P(ReactorIo, EndOfStreamIsZero) {
  Pair pair;
  char byte = 0;
  const iovec into{&byte, 1};
  TestOp recv;
  ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
  settle();
  pair.b.reset();
  ASSERT_TRUE(run_until_done(recv));
  EXPECT_EQ(recv.result, 0);
}

TEST_P(ReactorIo, EndOfStreamRightBehindAShortRecvIsSeen) {
  Pair pair;
  std::string buffer(64, 0);
  const iovec into = piece_of(buffer);
  TestOp recv;
  std::vector<int32_t> results;
  recv.then = [&](TestOp& self) {
    results.push_back(self.result);
    if (self.result > 0) {
      ASSERT_TRUE(reactor->recv(self.arm(), pair.a.get(), {&into, 1}));
    }
  };
  ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
  settle();
  ASSERT_EQ(write(pair.b.get(), "last", 4), 4);
  pair.b.reset();
  ASSERT_TRUE(run_until([&] { return results.size() == 2; }));
  EXPECT_EQ(results, (std::vector<int32_t>{4, 0}));
}

TEST_P(ReactorIo, SendToAClosedPeerIsAnErrorAndNoSignal) {
  Pair pair;
  pair.b.reset();
  std::string bytes(8, 'x');
  const iovec from = piece_of(bytes);
  TestOp send;
  ASSERT_TRUE(reactor->send(send.op, pair.a.get(), {&from, 1}));
  ASSERT_TRUE(run_until_done(send));
  EXPECT_EQ(send.result, -EPIPE);
  std::array<iovec, 2> two = {from, from};
  ASSERT_TRUE(reactor->send(send.arm(), pair.a.get(), two));
  ASSERT_TRUE(run_until_done(send, 2));
  EXPECT_EQ(send.result, -EPIPE);
}

TEST_P(ReactorIo, PartialSendsReachASlowReaderWhole) {
  Pair pair;
  const size_t total = 8u << 20;
  std::string out(total, 0);
  for (size_t i = 0; i < total; i++) out[i] = static_cast<char>(i * 31 >> 3);
  std::string in;
  size_t sent = 0;
  int sends = 0;
  iovec from{};
  TestOp send;
  const auto send_rest = [&] {
    from = {out.data() + sent, total - sent};
    ASSERT_TRUE(reactor->send(send.arm(), pair.a.get(), {&from, 1}));
  };
  send.then = [&](TestOp& self) {
    ASSERT_GT(self.result, 0);
    sent += static_cast<size_t>(self.result);
    sends++;
    if (sent < total) send_rest();
  };
  send_rest();
  std::string chunk(100'000, 0);
  iovec into = piece_of(chunk);
  TestOp recv;
  recv.then = [&](TestOp& self) {
    ASSERT_GT(self.result, 0);
    in.append(chunk, 0, static_cast<size_t>(self.result));
    if (in.size() < total) {
      ASSERT_TRUE(reactor->recv(self.arm(), pair.b.get(), {&into, 1}));
    }
  };
  ASSERT_TRUE(reactor->recv(recv.op, pair.b.get(), {&into, 1}));
  ASSERT_TRUE(run_until([&] { return in.size() == total; }));
  EXPECT_TRUE(in == out);
  EXPECT_GT(sends, 1);
}

TEST_P(ReactorIo, ManyPiecesGoThroughAndTooManyAreRefused) {
  Pair pair;
  std::string out(64 * 7, 0);
  for (size_t i = 0; i < out.size(); i++) out[i] = static_cast<char>('a' + i % 26);
  std::string in(out.size(), 0);
  std::vector<iovec> from(64), into(64);
  for (size_t i = 0; i < 64; i++) from[i] = {out.data() + 7 * i, 7}, into[i] = {in.data() + 7 * i, 7};
  TestOp send, recv;
  ASSERT_TRUE(reactor->send(send.op, pair.a.get(), from));
  ASSERT_TRUE(reactor->recv(recv.op, pair.b.get(), into));
  ASSERT_TRUE(run_until([&] { return send.count == 1 && recv.count == 1; }));
  EXPECT_EQ(send.result, static_cast<int32_t>(out.size()));
  EXPECT_EQ(recv.result, static_cast<int32_t>(out.size()));
  EXPECT_EQ(in, out);
  std::vector<iovec> many(1025, from[0]);
  TestOp refused;
  EXPECT_FALSE(reactor->send(refused.op, pair.a.get(), many));
  EXPECT_FALSE(reactor->recv(refused.op, pair.a.get(), {}));
  EXPECT_FALSE(refused.op.pending());
}

TEST_P(ReactorIo, SendAndRecvOfOneSocketGoSideBySide) {
  Pair pair;
  std::string a_in(4, 0);
  const iovec into = piece_of(a_in);
  TestOp recv, send;
  ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
  std::string fill(4u << 20, 'f');  // more than the socket takes, so that the send waits as well
  const iovec from = piece_of(fill);
  send.then = [&](TestOp& self) {
    if (self.count < 3) {
      ASSERT_TRUE(reactor->send(self.arm(), pair.a.get(), {&from, 1}));
    }
  };
  ASSERT_TRUE(reactor->send(send.op, pair.a.get(), {&from, 1}));
  settle();
  EXPECT_EQ(recv.count, 0);
  ASSERT_EQ(write(pair.b.get(), "ping", 4), 4);
  ASSERT_TRUE(run_until_done(recv));
  std::string drain(1u << 20, 0);
  ASSERT_TRUE(run_until([&] {
    while (read(pair.b.get(), drain.data(), drain.size()) > 0) {
    }
    return send.count == 3;
  }));
  EXPECT_EQ(a_in, "ping");
}

TEST_P(ReactorIo, CanceledRecvCompletesOnceAndItsMemoryIsQuiet) {
  Pair pair;
  std::string buffer(8, '-');
  const iovec into = piece_of(buffer);
  TestOp recv;
  ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
  settle();
  reactor->cancel(recv.op);
  if (reactor->name() == "epoll") {
    ASSERT_EQ(write(pair.b.get(), "late", 4), 4);
  }
  EXPECT_EQ(recv.count, 0);
  ASSERT_TRUE(run_until_done(recv));
  settle();
  EXPECT_EQ(recv.count, 1);
  EXPECT_EQ(recv.result, -ECANCELED);
  EXPECT_EQ(buffer, "--------");
  // The same op lives on, and the cancel of its former life does not reach it.
  ASSERT_TRUE(reactor->recv(recv.arm(), pair.a.get(), {&into, 1}));
  if (reactor->name() != "epoll") {
    ASSERT_EQ(write(pair.b.get(), "late", 4), 4);
  }
  ASSERT_TRUE(run_until_done(recv, 2));
  EXPECT_EQ(recv.result, 4);
}

TEST_P(ReactorIo, CancelBeforeTheFirstTurn) {
  Pair pair;
  char byte = 0;
  const iovec into{&byte, 1};
  TestOp recv;
  ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
  reactor->cancel(recv.op);
  ASSERT_TRUE(run_until_done(recv));
  EXPECT_EQ(recv.result, -ECANCELED);
  EXPECT_EQ(reactor->pending(), 0u);
}

TEST_P(ReactorIo, DescriptorNumbersAreReused) {
  for (int round = 0; round < 20; round++) {
    Pair pair;  // the same two numbers each time
    char byte = 0;
    const iovec into{&byte, 1};
    TestOp recv;
    ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
    reactor->run_once(kMs);
    reactor->run_once(kMs);
    if (round % 3 == 0) {
      reactor->cancel(recv.op);
      ASSERT_TRUE(run_until_done(recv)) << round;
      continue;
    }
    ASSERT_EQ(write(pair.b.get(), "r", 1), 1);
    ASSERT_TRUE(run_until_done(recv)) << round;
    EXPECT_EQ(byte, 'r');
  }
}

TEST_P(ReactorIo, ClosedDescriptorIsAnError) {
  int gone = -1;
  {
    Pair pair;
    gone = pair.a.get();
  }
  char byte = 0;
  const iovec into{&byte, 1};
  TestOp recv;
  ASSERT_TRUE(reactor->recv(recv.op, gone, {&into, 1}));
  ASSERT_TRUE(run_until_done(recv));
  EXPECT_EQ(recv.result, -EBADF);
}

TEST_P(ReactorIo, ThousandRecvsAtOnce) {
  constexpr size_t kCount = 400;  // descriptors are limited to 1,024 in many places; two a pair
  std::vector<Pair> pairs(kCount);
  std::vector<TestOp> ops(kCount);
  std::vector<char> bytes(kCount);
  std::vector<iovec> into(kCount);
  size_t done = 0;
  for (size_t i = 0; i < kCount; i++) {
    into[i] = {&bytes[i], 1};
    ops[i].then = [&done](TestOp&) { done++; };
    ASSERT_TRUE(reactor->recv(ops[i].op, pairs[i].a.get(), {&into[i], 1}));
  }
  reactor->run_once(kMs);
  for (size_t i = 0; i < kCount; i++) ASSERT_EQ(write(pairs[kCount - 1 - i].b.get(), "t", 1), 1);
  ASSERT_TRUE(run_until([&] { return done == kCount; }));
  settle();
  for (const TestOp& op : ops) EXPECT_EQ(op.count, 1);
}

/// A listener and one connection to it, made through the reactor.
TEST_P(ReactorIo, AcceptAndConnectOverLoopback) {
  auto listener = listen_tcp("127.0.0.1", 0, {});
  ASSERT_TRUE(listener);
  auto address = resolve("127.0.0.1", local_port(listener->get()));
  ASSERT_TRUE(address);
  auto client = make_tcp_socket((*address)[0]);
  ASSERT_TRUE(client);
  TestOp accept, connect;
  ASSERT_TRUE(reactor->accept(accept.op, listener->get()));
  settle();
  EXPECT_EQ(accept.count, 0);
  {
    SocketAddress gone = (*address)[0];
    ASSERT_TRUE(reactor->connect(connect.op, client->get(), gone.get(), gone.length));
    std::memset(&gone.storage, 0xff, sizeof gone.storage);  // the address was copied
  }
  EXPECT_EQ(connect.count, 0);
  ASSERT_TRUE(run_until([&] { return accept.count == 1 && connect.count == 1; }));
  EXPECT_EQ(connect.result, 0);
  ASSERT_GE(accept.result, 0);
  base::UniqueFd server(accept.result);
  EXPECT_NE(fcntl(server.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(server.get(), F_GETFD) & FD_CLOEXEC, 0);
  ASSERT_EQ(write(client->get(), "tcp", 3), 3);
  std::string buffer(3, 0);
  const iovec into = piece_of(buffer);
  TestOp recv;
  ASSERT_TRUE(reactor->recv(recv.op, server.get(), {&into, 1}));
  ASSERT_TRUE(run_until_done(recv));
  EXPECT_EQ(buffer, "tcp");
}

TEST_P(ReactorIo, RefusedConnection) {
  uint16_t port = 0;
  {
    auto listener = listen_tcp("127.0.0.1", 0, {});
    ASSERT_TRUE(listener);
    port = local_port(listener->get());
  }
  auto address = resolve("127.0.0.1", port);
  ASSERT_TRUE(address);
  auto client = make_tcp_socket((*address)[0]);
  TestOp connect;
  ASSERT_TRUE(reactor->connect(connect.op, client->get(), (*address)[0].get(), (*address)[0].length));
  ASSERT_TRUE(run_until_done(connect));
  EXPECT_EQ(connect.result, -ECONNREFUSED);
}

TEST_P(ReactorIo, CanceledAccept) {
  auto listener = listen_tcp("127.0.0.1", 0, {});
  ASSERT_TRUE(listener);
  TestOp accept;
  ASSERT_TRUE(reactor->accept(accept.op, listener->get()));
  settle();
  reactor->cancel(accept.op);
  ASSERT_TRUE(run_until_done(accept));
  EXPECT_EQ(accept.result, -ECANCELED);
}

TEST_P(ReactorIo, FileReadsWritesAndSyncs) {
  base::UniqueFd file = temporary_file();
  std::string out = "0123456789abcdef";
  std::string in(16, 0);
  const std::array<iovec, 2> from = {iovec{out.data(), 6}, iovec{out.data() + 6, 10}};
  const iovec into = piece_of(in);
  TestOp write_op, sync_op, read_op;
  ASSERT_TRUE(reactor->write(write_op.op, file.get(), 4096, from, true));
  ASSERT_TRUE(run_until_done(write_op));
  EXPECT_EQ(write_op.result, 16);
  ASSERT_TRUE(reactor->sync(sync_op.op, file.get()));
  ASSERT_TRUE(run_until_done(sync_op));
  EXPECT_EQ(sync_op.result, 0);
  ASSERT_TRUE(reactor->read(read_op.op, file.get(), 4096, {&into, 1}));
  ASSERT_TRUE(run_until_done(read_op));
  EXPECT_EQ(read_op.result, 16);
  EXPECT_EQ(in, out);
  ASSERT_TRUE(reactor->read(read_op.arm(), file.get(), 1 << 20, {&into, 1}));
  ASSERT_TRUE(run_until_done(read_op, 2));
  EXPECT_EQ(read_op.result, 0);  // beyond the end
}

TEST_P(ReactorIo, RegisteredMemoryReadsAndWritesAlike) {
  base::UniqueFd file = temporary_file();
  std::vector<std::byte> memory(64 << 10);
  reactor->register_memory(memory);
  std::memset(memory.data(), 7, 4096);
  const iovec from{memory.data(), 4096};
  const iovec into{memory.data() + 8192, 4096};
  TestOp write_op, read_op;
  ASSERT_TRUE(reactor->write(write_op.op, file.get(), 0, {&from, 1}, true));
  ASSERT_TRUE(run_until_done(write_op));
  EXPECT_EQ(write_op.result, 4096);
  ASSERT_TRUE(reactor->read(read_op.op, file.get(), 0, {&into, 1}));
  ASSERT_TRUE(run_until_done(read_op));
  EXPECT_EQ(read_op.result, 4096);
  EXPECT_EQ(std::memcmp(memory.data(), memory.data() + 8192, 4096), 0);
}

TEST_P(ReactorIo, ThousandFileOpsAtOnceCompleteOnceEach) {
  base::UniqueFd file = temporary_file();
  constexpr size_t kCount = 1000;
  std::vector<TestOp> ops(kCount);
  std::vector<uint32_t> values(kCount);
  std::vector<iovec> from(kCount);
  size_t done = 0;
  for (size_t i = 0; i < kCount; i++) {
    values[i] = static_cast<uint32_t>(i * 2654435761u);
    from[i] = {&values[i], sizeof values[i]};
    ops[i].then = [&done](TestOp&) { done++; };
    ASSERT_TRUE(reactor->write(ops[i].op, file.get(), i * 4, {&from[i], 1}, false));
  }
  EXPECT_EQ(reactor->pending(), kCount);
  ASSERT_TRUE(run_until([&] { return done == kCount; }));
  settle();
  std::vector<uint32_t> back(kCount);
  ASSERT_EQ(pread(file.get(), back.data(), kCount * 4, 0), static_cast<ssize_t>(kCount * 4));
  EXPECT_EQ(back, values);
  for (const TestOp& op : ops) EXPECT_TRUE(op.count == 1 && op.result == 4);
}

TEST_P(ReactorIo, CanceledFileOpStillCompletesOnce) {
  base::UniqueFd file = temporary_file();
  std::string bytes(4096, 'c');
  const iovec from = piece_of(bytes);
  std::vector<TestOp> ops(50);
  size_t done = 0;
  for (TestOp& op : ops) {
    op.then = [&done](TestOp&) { done++; };
    ASSERT_TRUE(reactor->write(op.op, file.get(), 0, {&from, 1}, true));
  }
  for (TestOp& op : ops) reactor->cancel(op.op);
  ASSERT_TRUE(run_until([&] { return done == ops.size(); }));
  settle();
  for (const TestOp& op : ops)
    EXPECT_TRUE(op.count == 1 && (op.result == 4096 || op.result == -ECANCELED)) << op.result;
}

TEST_P(ReactorIo, TimerThatRearmsInThePastStarvesNobody) {
  TestTimer greedy, other;
  bool reached = false;
  greedy.then = [&] { reactor->start(greedy.timer, 0); };
  other.then = [&] { reached = true; };
  reactor->start(greedy.timer, 0);
  reactor->start(other.timer, reactor->now_ns() + kMs);
  EXPECT_TRUE(run_until([&] { return reached; }));
  reactor->stop(greedy.timer);
  reactor->stop(other.timer);
}

TEST_P(ReactorIo, WaitEndsAtTheNextTimer) {
  TestTimer timer;
  bool fired = false;
  timer.then = [&] { fired = true; };
  const uint64_t start = reactor->now_ns();
  reactor->start(timer.timer, start + 5 * kMs);
  while (!fired) reactor->run_once(kPatienceNs);
  EXPECT_GE(reactor->now_ns() - start, 5 * kMs);
  EXPECT_LT(reactor->now_ns() - start, 2'000 * kMs);
}

TEST_P(ReactorIo, RunOnceWithNothingToDoReturnsInTime) {
  const uint64_t start = reactor->now_ns();
  EXPECT_EQ(reactor->run_once(0), 0u);
  // A wait may be interrupted (the kernel interrupts a thread as it takes down a ring of it), but not spin.
  int waits = 0;
  while (reactor->now_ns() - start < 3 * kMs) EXPECT_EQ(reactor->run_once(3 * kMs), 0u), waits++;
  EXPECT_LE(waits, 5);
  EXPECT_LT(reactor->now_ns() - start, 2'000 * kMs);
}

// --- Threads.

using ReactorThreads = ReactorSuite;
INSTANTIATE_TEST_SUITE_P(Real, ReactorThreads, ::testing::Values("io_uring", "epoll"),
                         [](const auto& at) { return std::string(at.param); });

TEST_P(ReactorThreads, WakeEndsALongWait) {
  int woken = 0;
  reactor->set_on_wake([](void* count) { ++*static_cast<int*>(count); }, &woken);
  for (int round = 1; round <= 20; round++) {
    std::thread other([&] {
      if (round % 2) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      reactor->wake();
    });
    while (woken < round) reactor->run_once(kPatienceNs);
    other.join();
  }
  EXPECT_EQ(woken, 20);
}

TEST_P(ReactorThreads, NoWakeIsLostUnderLoad) {
  constexpr int kEach = 5000;
  std::atomic<int> asked{0};
  int seen = 0;
  struct Context {
    std::atomic<int>& asked;
    int& seen;
  } context{asked, seen};
  reactor->set_on_wake([](void* c) { static_cast<Context*>(c)->seen = static_cast<Context*>(c)->asked.load(); },
                       &context);
  std::vector<std::thread> others;
  for (int i = 0; i < 2; i++) {
    others.emplace_back([&] {
      for (int k = 0; k < kEach; k++) asked++, reactor->wake();
    });
  }
  while (seen < 2 * kEach) reactor->run_once(kPatienceNs);
  for (auto& other : others) other.join();
  EXPECT_EQ(seen, 2 * kEach);
}

TEST_P(ReactorThreads, MayBeMadeHereAndRunThere) {
  Pair pair;
  char byte = 0;
  const iovec into{&byte, 1};
  TestOp recv;
  ASSERT_EQ(write(pair.b.get(), "m", 1), 1);
  std::thread runner([&] {
    ASSERT_TRUE(reactor->recv(recv.op, pair.a.get(), {&into, 1}));
    ASSERT_TRUE(run_until_done(recv));
  });
  runner.join();
  EXPECT_EQ(byte, 'm');
}

TEST_P(ReactorThreads, DeviceOpsMixWithWakes) {
  base::UniqueFd file = temporary_file();
  std::string bytes(4096, 'd');
  const iovec from = piece_of(bytes);
  std::vector<TestOp> ops(16);
  size_t done = 0;
  for (TestOp& op : ops) {
    op.then = [&](TestOp& self) {
      done++;
      if (self.count < 20) {
        ASSERT_TRUE(reactor->write(self.arm(), file.get(), 0, {&from, 1}, false));
      }
    };
    ASSERT_TRUE(reactor->write(op.op, file.get(), 0, {&from, 1}, false));
  }
  std::thread waker([&] {
    for (int i = 0; i < 200; i++) reactor->wake();
  });
  ASSERT_TRUE(run_until([&] { return done == 16 * 20; }));
  waker.join();
}

// --- Choice.

TEST(MakeReactor, AutoTakesWhatWorks) {
  std::string why;
  auto made = make_reactor({}, &why);
  ASSERT_TRUE(made);
  EXPECT_EQ((*made)->name() == "epoll", !why.empty()) << why;
}

TEST(MakeReactor, EpollWithoutDeviceThreadsRefusesDeviceIo) {
  auto made = make_reactor({.kind = ReactorKind::kEpoll, .device_threads = 0}, nullptr);
  ASSERT_TRUE(made);
  base::UniqueFd file = temporary_file();
  char byte = 0;
  const iovec into{&byte, 1};
  TestOp op;
  auto refused = (*made)->read(op.op, file.get(), 0, {&into, 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().status, Status::kInvalid);
  EXPECT_FALSE(op.op.pending());
}

/// Makes the system call `number` fail with `error` for the rest of this process.
bool forbid(uint32_t number, uint32_t error) {
  std::array<sock_filter, 4> filter = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

struct Forbidden {
  uint32_t call, error;
  const char* expected;
};

int child_sees_epoll(const Forbidden& forbidden) {
  if (!forbid(forbidden.call, forbidden.error)) return 77;
  std::string why;
  auto chosen = make_reactor({}, &why);
  if (!chosen || (*chosen)->name() != "epoll") return 1;
  if (why.find(forbidden.expected) == std::string::npos || why.find('\n') != std::string::npos) return 2;
  (*chosen)->run_once(0);
  auto demanded = make_reactor({.kind = ReactorKind::kUring}, nullptr);
  return demanded || demanded.error().sys_errno != static_cast<int>(forbidden.error) ? 3 : 0;
}

class CaseC5 : public ::testing::TestWithParam<Forbidden> {};
INSTANTIATE_TEST_SUITE_P(Calls, CaseC5,
                         ::testing::Values(Forbidden{SYS_io_uring_setup, EPERM, "forbidden here, by "},
                                           Forbidden{SYS_io_uring_setup, ENOSYS, "no io_uring"},
                                           Forbidden{SYS_io_uring_setup, ENOMEM, "ulimit -l"},
                                           Forbidden{SYS_io_uring_register, EPERM, "(io_uring_register: EPERM)"},
                                           Forbidden{SYS_io_uring_register, ENOSYS,
                                                     "forbidden here, by a seccomp filter (io_uring_register"},
                                           Forbidden{SYS_io_uring_register, EACCES, "(io_uring_register: EACCES)"},
                                           Forbidden{SYS_io_uring_enter, EPERM, "(io_uring_enter: EPERM)"},
                                           Forbidden{SYS_io_uring_enter, ENOSYS, "(io_uring_enter: ENOSYS)"}));

TEST_P(CaseC5, whichever_call_of_io_uring_is_denied_epoll_serves_and_says_why) {
  const pid_t child = fork();
  if (child == 0) _exit(child_sees_epoll(GetParam()));
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

int child_refuses(uint32_t error) {
  if (!forbid(SYS_eventfd2, error)) return 77;
  auto made = make_reactor({}, nullptr);
  return !made && made.error().sys_errno == static_cast<int>(error) && made.error().what == std::string_view("eventfd")
             ? 0
             : 1;
}

TEST(CaseC5Client, without_an_eventfd_the_true_reason_is_told) {
  for (const uint32_t error : {EPERM, ENOSYS}) {
    const pid_t child = fork();
    if (child == 0) _exit(child_refuses(error));
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
  }
}

// --- The simulated reactor's own.

TEST(SimReactor, ClockStandsStillUntilMoved) {
  SimReactor sim;
  const uint64_t start = sim.now_ns();
  TestTimer timer;
  std::vector<uint64_t> fired;
  timer.then = [&] {
    fired.push_back(sim.now_ns() - start);
    if (fired.size() < 3) sim.start(timer.timer, sim.now_ns() + 10);
  };
  sim.start(timer.timer, start + 10);
  EXPECT_EQ(sim.run_until_idle(), 0u);
  EXPECT_EQ(sim.now_ns(), start);
  sim.advance(25);
  EXPECT_EQ(fired, (std::vector<uint64_t>{10, 20}));
  EXPECT_EQ(sim.now_ns(), start + 25);
  sim.run_once(100);  // waiting lets time pass up to the next timer
  EXPECT_EQ(sim.now_ns(), start + 30);
  EXPECT_EQ(fired.size(), 3u);
}

TEST(SimReactor, HasNoDescriptors) {
  SimReactor sim;
  TestOp op;
  char byte = 0;
  const iovec into{&byte, 1};
  EXPECT_FALSE(sim.recv(op.op, 0, {&into, 1}));
  EXPECT_FALSE(sim.sync(op.op, 0));
  EXPECT_FALSE(op.op.pending());
}

}  // namespace
}  // namespace memkv::io
