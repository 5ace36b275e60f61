/// Echo over loopback on both reactors: client and server each on a thread, and both on one thread with one reactor.

#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "base/assert.h"
#include "io/device.h"
#include "io/huge_memory.h"
#include "io/reactor.h"
#include "io/socket.h"

namespace memkv::io {
namespace {

std::unique_ptr<Reactor> make(bool uring) {
  auto made = make_reactor({.kind = uring ? ReactorKind::kUring : ReactorKind::kEpoll}, nullptr);
  MEMKV_ASSERT(made.ok());
  return std::move(made).value();
}

/// Moves a whole buffer over a socket, in as many ops as that takes.
class Mover {
 public:
  Mover(Reactor& reactor, int fd, size_t bytes) : reactor_(reactor), fd_(fd), buffer_(bytes) {}

  void send(void (*done)(void*), void* context) { start(true, done, context); }
  void recv(void (*done)(void*), void* context) { start(false, done, context); }
  bool closed() const { return closed_; }

 private:
  void start(bool sending, void (*done)(void*), void* context) {
    sending_ = sending;
    moved_ = 0;
    done_ = done;
    context_ = context;
    submit();
  }
  void submit() {
    piece_ = {buffer_.data() + moved_, buffer_.size() - moved_};
    op_.context = this;
    op_.on_done = [](IoOp& op, int32_t result) { static_cast<Mover*>(op.context)->on_moved(result); };
    const auto submitted = sending_ ? reactor_.send(op_, fd_, {&piece_, 1}) : reactor_.recv(op_, fd_, {&piece_, 1});
    MEMKV_ASSERT(submitted.ok());
  }
  void on_moved(int32_t result) {
    closed_ = result <= 0;
    moved_ += static_cast<size_t>(std::max(result, 0));
    if (closed_ || moved_ == buffer_.size()) return done_(context_);
    submit();
  }

  Reactor& reactor_;
  int fd_;
  std::vector<std::byte> buffer_;
  IoOp op_;
  iovec piece_{};
  size_t moved_ = 0;
  bool sending_ = false;
  bool closed_ = false;
  void (*done_)(void*) = nullptr;
  void* context_ = nullptr;
};

struct EchoServer {
  Mover mover;
  static void on_received(void* self) {
    auto& server = *static_cast<EchoServer*>(self);
    if (!server.mover.closed()) server.mover.send(on_sent, self);
  }
  static void on_sent(void* self) {
    auto& server = *static_cast<EchoServer*>(self);
    if (!server.mover.closed()) server.mover.recv(on_received, self);
  }
};

struct Connection {
  base::UniqueFd client, server;
  Connection() {
    auto listener = std::move(listen_tcp("127.0.0.1", 0, {.congestion = "cubic"})).value();
    auto address = std::move(resolve("127.0.0.1", local_port(listener.get()))).value();
    client = std::move(make_tcp_socket(address[0])).value();
    (void)set_congestion(client.get(), "cubic");
    (void)connect(client.get(), address[0].get(), address[0].length);
    while ((server = base::UniqueFd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK))).get() < 0) {
    }
    MEMKV_ASSERT(set_nodelay(server.get()).ok());
  }
};

/// Polls for 50 us before it sleeps, since a wake-up across CPUs costs more than that.
void turn(Reactor& reactor) {
  const uint64_t end = reactor.now_ns() + 50'000;
  do {
    if (reactor.run_once(0) > 0) return;
    std::this_thread::yield();
  } while (reactor.now_ns() < end);
  reactor.run_once(10'000'000);
}

void run_client(benchmark::State& state, Reactor& reactor, int fd, size_t bytes) {
  Mover mover(reactor, fd, bytes);
  struct Round {
    Mover& mover;
    bool done;
  } round{mover, false};
  const auto on_received = [](void* context) { static_cast<Round*>(context)->done = true; };
  static void (*received)(void*);
  received = on_received;
  const auto on_sent = [](void* context) { static_cast<Round*>(context)->mover.recv(received, context); };
  for (auto _ : state) {
    round.done = false;
    mover.send(on_sent, &round);
    while (!round.done) turn(reactor);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(2 * bytes));
}

void echo_two_threads(benchmark::State& state) {
  const bool uring = state.range(0) != 0;
  const auto bytes = static_cast<size_t>(state.range(1));
  Connection connection;
  std::thread server([&] {
    auto reactor = make(uring);
    EchoServer echo{Mover(*reactor, connection.server.get(), bytes)};
    echo.mover.recv(EchoServer::on_received, &echo);
    while (reactor->pending() > 0) turn(*reactor);
  });
  auto reactor = make(uring);
  run_client(state, *reactor, connection.client.get(), bytes);
  shutdown(connection.client.get(), SHUT_RDWR);
  server.join();
}

void echo_one_thread(benchmark::State& state) {
  const auto bytes = static_cast<size_t>(state.range(1));
  Connection connection;
  auto reactor = make(state.range(0) != 0);
  EchoServer echo{Mover(*reactor, connection.server.get(), bytes)};
  echo.mover.recv(EchoServer::on_received, &echo);
  run_client(state, *reactor, connection.client.get(), bytes);
  shutdown(connection.client.get(), SHUT_RDWR);
  while (reactor->pending() > 0) reactor->run_once(1'000'000);
}

void arguments(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"uring", "bytes"})->ArgsProduct({{0, 1}, {64, 1 << 20}})->UseRealTime()->MeasureProcessCPUTime();
}
BENCHMARK(echo_two_threads)->Apply(arguments);
BENCHMARK(echo_one_thread)->Apply(arguments);

/// Posts ops that complete at once: measures what the loop itself costs.
void post_and_complete(benchmark::State& state) {
  auto reactor = make(state.range(0) != 0);
  IoOp op;
  op.on_done = [](IoOp&, int32_t) {};
  for (auto _ : state) {
    benchmark::DoNotOptimize(reactor->post(op, 0).ok());
    reactor->run_once(0);
  }
}
BENCHMARK(post_and_complete)->ArgName("uring")->Arg(0)->Arg(1);

}  // namespace
}  // namespace memkv::io
