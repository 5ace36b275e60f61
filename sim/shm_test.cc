/// What the simulator has of shared memory: files in memory, unix sockets, and seeds whose clients use shm.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "io/socket.h"
#include "sim/calls.h"
#include "sim/fork.h"
#include "sim/loop.h"
#include "sim/network.h"
#include "sim/plan.h"
#include "transport/shm/window.h"

namespace memkv::sim {
namespace {

using transport::ShmBudget;
using transport::ShmWindow;

constexpr uint32_t kServer = 1, kClient = 2;
constexpr wire::Windows kWindows{.get_ring_bytes = 4096, .put_ring_bytes = 4096};

class SimulatedShm : public testing::Test {
 protected:
  SimulatedShm() { network_.place(kClient, kServer); }

  /// The server's window; what it sends along with it is in `given_`.
  std::shared_ptr<ShmWindow> make(ShmBudget* budget) {
    use_host(kServer);
    auto made = ShmWindow::make(kWindows, budget, {0, kClient});
    EXPECT_TRUE(made.ok());
    given_ = {memory().description((*made)->get_fd()), memory().description((*made)->put_fd())};
    (*made)->sent();
    return *made;
  }
  std::shared_ptr<ShmWindow> take() {
    use_host(kClient);
    const auto fd = [&](size_t i) { return base::UniqueFd(memory().install(kClient, std::move(given_[i]))); };
    auto taken = ShmWindow::take(kWindows, fd(0), fd(1));
    EXPECT_TRUE(taken.ok());
    return *taken;
  }
  MemoryFiles& memory() { return network_.memory(); }

  World world_{1};
  Network network_{world_};
  std::array<std::shared_ptr<MemoryFiles::Description>, 2> given_;
};

TEST_F(SimulatedShm, both_ends_of_a_window_see_the_same_bytes_and_the_clients_ring_is_the_clients) {
  auto server = make(nullptr), client = take();
  std::memset(server->out().data(), 7, 10);
  EXPECT_EQ(client->in()[9], std::byte{7});
  std::memset(client->out().data(), 9, 10);
  std::array<std::byte, 10> read{};
  const iovec piece{read.data(), read.size()};
  EXPECT_EQ(preadv(server->in_fd(), &piece, 1, 0), 10);
  EXPECT_EQ(read[9], std::byte{9});
  EXPECT_EQ(memory().writable(kClient).size(), 1u);
  use_host(kClient), client.reset();
  use_host(kServer), server.reset();
  EXPECT_EQ(memory().files(), 0u);
}

TEST_F(SimulatedShm, what_a_client_keeps_counts_until_it_is_gone) {
  ShmBudget budget(ShmWindow::bytes(kWindows));
  auto server = make(&budget), client = take();
  use_host(kServer), server.reset();
  budget.collect();
  EXPECT_EQ(budget.kept(), budget.bytes_max()) << "the client has it mapped";
  use_host(kServer);
  EXPECT_FALSE(ShmWindow::make(kWindows, &budget, {0, kClient}).ok());
  memory().keep_all(kClient, true);
  use_host(kClient), client.reset();
  budget.collect();
  EXPECT_EQ(budget.kept(), budget.bytes_max()) << "it unmapped its window, and kept another mapping";
  memory().kill(kClient);
  budget.collect();
  EXPECT_EQ(budget.in_use(), 0u);
  EXPECT_EQ(memory().files(), 0u);
}

TEST_F(SimulatedShm, a_sealed_ring_cannot_be_mapped_for_writing_and_a_refused_process_gets_no_file) {
  auto server = make(nullptr);
  const int get = memory().install(kClient, given_[0]), put = memory().install(kClient, given_[1]);
  EXPECT_EQ(memory().map(kClient, get, 4096, true, 0), reinterpret_cast<void*>(-EPERM));
  EXPECT_NE(memory().map(kClient, put, 4096, true, 0), reinterpret_cast<void*>(-EPERM));
  EXPECT_EQ(memory().truncate(put, 0), -EPERM);
  memory().refuse_until(kServer, world_.now_ns() + 1);
  EXPECT_EQ(memory().create(kServer), -ENFILE);
  world_.run_for(1);
  EXPECT_GE(memory().create(kServer), MemoryFiles::kFirstFd);
  use_host(kServer);
}

/// The socket of a server on this machine.
class SimulatedUnixSocket : public SimulatedShm {
 protected:
  struct Op {
    io::IoOp op;
    std::array<std::byte, 8> bytes{};
    iovec piece{bytes.data(), bytes.size()};
    int32_t result = 1 << 30;
  };
  Op& prepare(Op& op) {
    op.op.context = &op;
    op.op.on_done = [](io::IoOp& done, int32_t result) { static_cast<Op*>(done.context)->result = result; };
    op.result = 1 << 30;
    return op;
  }
  int32_t receive(int fd) {
    EXPECT_TRUE(loop_.recv(prepare(in_).op, fd, {&in_.piece, 1}).ok());
    loop_.run_once(0);
    return in_.result;
  }
  int32_t connect() {
    use_host(kClient);
    client_ = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const auto to = io::unix_address(kPath);
    EXPECT_TRUE(loop_.connect(prepare(out_).op, client_, to->get(), to->length).ok());
    loop_.run_once(0);
    return out_.result;
  }
  static constexpr const char* kPath = "/sim/memkv/x.sock";
  SimLoop loop_{world_, network_, SimLoop::Likeness::kEpoll, 0};
  Op in_, out_;
  int client_ = -1;
};

TEST_F(SimulatedUnixSocket, carries_bytes_and_the_end_at_once_and_names_the_peer) {
  const int listener = network_.listen_local(kServer, kPath);
  ASSERT_EQ(connect(), 0);
  ASSERT_TRUE(loop_.accept(prepare(in_).op, listener).ok());
  loop_.run_once(0);
  const int server = in_.result;
  ucred peer{};
  socklen_t size = sizeof peer;
  ASSERT_EQ(getsockopt(server, SOL_SOCKET, SO_PEERCRED, &peer, &size), 0);
  EXPECT_EQ(peer.pid, static_cast<pid_t>(kClient));
  EXPECT_EQ(::send(server, "!", 1, MSG_DONTWAIT), 1);
  EXPECT_EQ(receive(client_), 1);
  ::close(server);
  EXPECT_EQ(receive(client_), 0);
  EXPECT_EQ(::send(client_, "!", 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EPIPE);
}

TEST_F(SimulatedUnixSocket, a_killed_server_leaves_its_file_and_no_other_machine_finds_it) {
  network_.listen_local(kServer, kPath);
  use_host(kClient);
  EXPECT_EQ(access(kPath, F_OK), 0);
  use_host(77);
  EXPECT_NE(access(kPath, F_OK), 0);
  network_.kill_host(kServer);
  use_host(kClient);
  EXPECT_EQ(access(kPath, F_OK), 0);
  EXPECT_EQ(connect(), -ECONNREFUSED);
}

TEST(SimulatedShmRun, a_fifth_of_the_seeds_have_shm_and_the_others_stay_as_they_are) {
  size_t shm = 0, alone = 0;
  for (uint64_t seed = 1; seed <= 1000; seed++) {
    const Plan plan = make_plan(seed), without = make_plan(seed, {.shm = false});
    EXPECT_FALSE(without.setup.has_shm());
    shm += plan.setup.has_shm() ? 1 : 0;
    for (const ClientPlace& place : plan.setup.shm.clients) alone += place.transport == Transport::kShm ? 1 : 0;
    if (plan.setup.has_shm()) continue;
    EXPECT_EQ(plan.actions.size(), without.actions.size());
  }
  EXPECT_GT(shm, 160u);
  EXPECT_LT(shm, 240u);
  EXPECT_GT(alone, 0u) << "clients that may use nothing else";
}

TEST(SimulatedShmRun, two_runs_are_the_same_to_the_byte) {
  size_t windows = 0, switches = 0;
  for (uint64_t seed = 1, runs = 0; runs < 12; seed++) {
    if (!make_plan(seed).setup.has_shm()) continue;
    runs++;
    const SeedReport first = run_forked(seed), second = run_forked(seed);
    EXPECT_EQ(first.result.violation, "") << "seed " << seed;
    EXPECT_TRUE(first.result.shm);
    EXPECT_EQ(first.result.trace_lines, second.result.trace_lines) << "seed " << seed;
    EXPECT_EQ(first.result.trace_hash, second.result.trace_hash) << "seed " << seed;
    windows += first.result.windows;
    switches += first.result.switches;
  }
  EXPECT_GT(windows, 24u);
  EXPECT_GT(switches, 24u);
}

}  // namespace
}  // namespace memkv::sim
