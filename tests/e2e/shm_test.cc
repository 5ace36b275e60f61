/// Shared memory with real processes: the client chooses it by itself, leaves it at once, and takes it again; clients
/// are killed; and memory stays quiet.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "memkv/client.h"
#include "tests/support/pattern.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Bytes = std::vector<unsigned char>;
constexpr size_t kBlock = 300'000;

/// The sockets lie in a folder of the test's own, so that a test may move them away.
class Shm : public testing::Test {
 protected:
  void SetUp() override {
    setenv("MEMKV_SHM_DIR", dir_.path().c_str(), 1);
    unsetenv("MEMKV_TRANSPORT");
  }
  void TearDown() override { unsetenv("MEMKV_SHM_DIR"); }
  Client connect(const std::string& address, Transport transport = Transport::kAuto) {
    ClientOptions options;
    options.servers = {address};
    options.transport = transport;
    options.io_contexts = 1;
    return Client::connect(options).value();
  }
  std::string socket() const {
    for (const auto& entry : fs::directory_iterator(dir_.path())) {
      if (entry.path().extension() == ".sock") return entry.path();
    }
    return {};
  }
  /// Runs ops until the client says `text`. Meanwhile each must succeed, if `all_succeed`.
  static bool comes_to(Client& client, const std::string& text, bool all_succeed = true) {
    for (int i = 0; i < 400; i++) {
      const Outcome outcome = client.put("k", pattern("k", 1, kBlock));
      EXPECT_TRUE(!all_succeed || outcome.status == Status::kOk) << to_string(outcome.status);
      if (client.describe().find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(10ms);
    }
    ADD_FAILURE() << client.describe() << " is not " << text;
    return false;
  }
  static void expect_bytes(Client& client) {
    Bytes buffer(kBlock);
    ASSERT_EQ(client.get("k", buffer).status, Status::kOk);
    EXPECT_EQ(first_mismatch(buffer.data(), kBlock, pattern_seed("k", 1)), -1);
  }
  const TempDir dir_;
};

TEST_F(Shm, AutoTakesItAndTellsSo) {
  const auto server = start_memory_server(dir_, "128MiB");
  Client client = connect(server->address());
  ASSERT_TRUE(comes_to(client, "connected, shm"));
  expect_bytes(client);
  EXPECT_EQ(client.counters().transport_switches, 1u);
  const std::string status = *client.server_status(0);
  EXPECT_NE(status.find("\"shm\": 1"), std::string::npos) << status;
  EXPECT_EQ(server->stop(), 0) << "pools are whole";
}

TEST_F(Shm, WithoutTheSocketTcpAndBackWhenItIsThere) {
  const auto server = start_memory_server(dir_, "128MiB");
  const std::string path = socket();
  // The server makes a socket again if it was removed. So this one is moved away, and a folder takes its name.
  fs::rename(path, path + ".away");
  fs::create_directory(path);
  Client client = connect(server->address());
  ASSERT_TRUE(comes_to(client, "connected, tcp (shm: "));
  expect_bytes(client);
  fs::remove(path);
  fs::rename(path + ".away", path);
  ASSERT_TRUE(comes_to(client, "connected, shm")) << "it latched";
  expect_bytes(client);
}

TEST_F(Shm, ARemovedSocketIsMadeAgain) {
  const auto server = start_memory_server(dir_, "128MiB");
  fs::remove(socket());
  Client client = connect(server->address());
  ASSERT_TRUE(comes_to(client, "connected, shm"));
}

TEST_F(Shm, AServerThatIsKilledAndStartedAgainIsUsedOverShmAgain) {
  auto server = start_memory_server(dir_, "128MiB");
  const std::string address = server->address();
  Client client = connect(address);
  ASSERT_TRUE(comes_to(client, "connected, shm"));
  server->kill_now();
  server = ServerProcess::start(
      {.args = {"--mode", "memory", "--memory", "128MiB"}, .address = address, .dir = dir_.path()});
  ASSERT_TRUE(comes_to(client, "connected, shm", false));
  EXPECT_EQ(client.put("k", pattern("k", 1, kBlock)).status, Status::kOk);
  expect_bytes(client);
}

TEST_F(Shm, AnExplicitOneNeverUsesTcp) {
  const auto server = start_memory_server(dir_, "128MiB", {"--no-shm"});
  Client client = connect(server->address(), Transport::kShm);
  EXPECT_EQ(client.put("k", pattern("k", 1, kBlock)).status, Status::kInvalid);
  EXPECT_NE(client.describe().find("transport shm: its socket is not on this host"), std::string::npos)
      << client.describe();
}

/// A session moves bytes only while it is driven. It learns of the new process without an op.
TEST_F(Shm, ASessionComesBackWhenItsServerIsRepaired) {
  ServerProcess::Options options{.args = {"--mode", "memory", "--memory", "128MiB", "--no-shm"}, .dir = dir_.path()};
  auto server = ServerProcess::start(options);
  ClientOptions wanted;
  wanted.servers = {server->address()};
  wanted.transport = Transport::kShm;
  Session session = Session::connect(wanted).value();
  const Bytes block = pattern("k", 1, kBlock);
  Batch batch;
  batch.put("k", block);
  EXPECT_NE(session.run(batch)[0].status, Status::kOk);
  const auto drive = [&](std::chrono::milliseconds how_long) {
    const auto end = std::chrono::steady_clock::now() + how_long;
    while (std::chrono::steady_clock::now() < end) session.poll(10ms);
  };
  drive(300ms);
  options.address = server->address();
  options.args.pop_back();
  ASSERT_EQ(server->stop(), 0) << server->log();
  server = ServerProcess::start(options);
  Status status = Status::kInternal;
  for (int i = 0; i < 50 && status != Status::kOk; i++) {
    drive(100ms);
    Batch again;
    again.put("k", block);
    status = session.run(again)[0].status;
  }
  EXPECT_EQ(status, Status::kOk);
}

TEST_F(Shm, OnlyDeadSocketsOfServersAreRemoved) {
  const std::string dead = dir_.path() + "/" + std::string(32, 'a') + ".sock", other = dir_.path() + "/other.sock";
  for (const std::string& path : {dead, other}) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::close(fd);
  }
  const auto server = start_memory_server(dir_, "128MiB");
  EXPECT_FALSE(fs::exists(dead));
  EXPECT_TRUE(fs::exists(other));
}

/// The child of a fork inherits the socket, and does nothing with it.
TEST_F(Shm, AClientThatEndsWhileAChildLivesIsGone) {
  const auto server = start_memory_server(dir_, "128MiB");
  Client watcher = connect(server->address(), Transport::kTcp);
  const auto over_shm = [&](const std::string& count) {
    for (int i = 0; i < 500; i++) {
      if (watcher.server_status(0)->find("\"shm\": " + count) != std::string::npos) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  };
  auto client = std::make_optional(connect(server->address(), Transport::kShm));
  ASSERT_EQ(client->put("k", pattern("k", 1, kBlock)).status, Status::kOk);
  ASSERT_TRUE(over_shm("1"));
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  client.reset();
  EXPECT_TRUE(over_shm("0"));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST_F(Shm, WithoutAWindowLeftTcpServes) {
  const auto server = start_memory_server(dir_, "128MiB", {"--shm-size", "3MiB"});
  ClientOptions options;
  options.servers = {server->address()};
  options.transport = Transport::kShm;
  Session takes_it = Session::connect(options).value();
  Batch batch;
  batch.exists("k");
  ASSERT_FALSE(is_failure(takes_it.run(batch)[0].status));
  Client client = connect(server->address());
  ASSERT_TRUE(comes_to(client, "used up"));
  expect_bytes(client);
}

TEST_F(Shm, AClientKilledInTheMiddleLeavesNothingBehind) {
  const auto server = start_memory_server(dir_, "256MiB");
  Client other = connect(server->address());
  ASSERT_TRUE(comes_to(other, "connected, shm"));
  for (int round = 0; round < 10; round++) {
    const pid_t child = fork();
    if (child == 0) {
      ClientOptions options;
      options.servers = {server->address()};
      options.transport = Transport::kShm;
      auto session = Session::connect(options);
      Bytes buffer(1 << 20), more = pattern("m", 1, 1 << 20);
      for (;;) {
        Batch batch;
        for (int i = 0; i < 8; i++) batch.get("k", buffer).put("m" + std::to_string(i), more);
        (void)session->run(batch);
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20 + round * 7));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    expect_bytes(other);
  }
  EXPECT_EQ(server->stop(), 0) << "slots, frames and connections are whole";
}

TEST_F(Shm, MemoryIsQuietAfterCancelAndDeadline) {
  const auto server = start_memory_server(dir_, "256MiB");
  Client client = connect(server->address(), Transport::kShm);
  constexpr size_t kSize = 8'000'000;
  ASSERT_EQ(client.put("k", pattern("k", 1, kSize)).status, Status::kOk);
  const Bytes quiet(kSize, 0x5A);
  int cut = 0;
  for (int i = 0; i < 200; i++) {
    Bytes buffer(kSize, 0xEE);
    Batch batch;
    batch.get("k", buffer);
    auto pending = client.submit(std::move(batch), std::chrono::microseconds(i % 2 == 0 ? 5'000'000 : i * 20));
    if (i % 2 == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(i * 20));
      pending.cancel();
    }
    if (pending.wait()[0].status == Status::kOk) continue;
    cut++;
    std::copy(quiet.begin(), quiet.end(), buffer.begin());
    std::this_thread::sleep_for(1ms);
    ASSERT_TRUE(buffer == quiet) << "round " << i;
  }
  EXPECT_GT(cut, 10);
  EXPECT_EQ(server->stop(), 0);
}

}  // namespace
}  // namespace memkv::test
