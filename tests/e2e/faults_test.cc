/// A server is killed, frozen or unplugged in the middle of batches: deadlines hold, memory is not touched any more,
/// others go on, and the server is used again later.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "memkv/client.h"
#include "tests/support/pattern.h"
#include "tests/support/server_process.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MEMKV_SANITIZED 1
#else
#define MEMKV_SANITIZED 0
#endif

namespace memkv::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Bytes = std::vector<unsigned char>;
constexpr auto kGrace = MEMKV_SANITIZED ? 500ms : 50ms;

/// Measures how late a thread wakes that only sleeps: nothing else can be expected to be less late on this machine.
class LatenessGauge {
 public:
  LatenessGauge() : thread_([this] { run(); }) {}
  ~LatenessGauge() {
    stop_ = true;
    thread_.join();
  }
  std::chrono::nanoseconds worst() const { return std::chrono::nanoseconds(worst_ns_.load()); }

 private:
  void run() {
    while (!stop_) {
      const auto due = Clock::now() + 2ms;
      std::this_thread::sleep_until(due);
      const int64_t late = std::chrono::nanoseconds(Clock::now() - due).count();
      if (late > worst_ns_) worst_ns_ = late;
    }
  }
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> worst_ns_{0};
  std::thread thread_;
};

/// While it lives, nothing reaches a port of loopback or comes from it, as if its cable were out. Needs root.
class Unplugged {
 public:
  explicit Unplugged(const std::string& address) : table_("memkv_test_" + std::to_string(getpid())) {
    const std::string port = address.substr(address.rfind(':') + 1);
    nft("add table inet " + table_);
    nft("add chain inet " + table_ + " in { type filter hook input priority 0 ; }");
    nft("add rule inet " + table_ + " in tcp dport " + port + " drop");
    nft("add rule inet " + table_ + " in tcp sport " + port + " drop");
  }
  ~Unplugged() { nft("delete table inet " + table_); }

 private:
  static void nft(const std::string& command) {
    const std::string whole = std::string(geteuid() == 0 ? "" : "sudo -n ") + "nft '" + command + "'";
    if (std::system(whole.c_str()) != 0) ADD_FAILURE() << "needs root for: " << whole;
  }
  const std::string table_;
};

enum class Fault { kKill, kFreeze, kUnplug };

class FaultsThreads : public testing::TestWithParam<Fault> {};

TEST_P(FaultsThreads, DeadlinesHoldMemoryIsQuietAndOthersGoOn) {
  const TempDir dir;
  auto sick = start_memory_server(dir, "128MiB");
  const std::string sick_address = sick->address();
  const auto well = start_memory_server(dir, "128MiB");
  ClientOptions options;
  options.servers = {"sick=" + sick_address, "well=" + well->address()};
  Client client = Client::connect(options).value();

  constexpr size_t kBlock = 300'000;
  std::vector<std::string> keys;
  for (int i = 0; i < 64; ++i) {
    keys.push_back("key" + std::to_string(i));
    ASSERT_EQ(client.put(keys.back(), pattern(keys.back(), 1, kBlock)).status, Status::kOk);
  }
  LatenessGauge gauge;
  std::atomic<bool> stop{false}, faulty{false};
  std::atomic<int64_t> worst_over_ns{0}, wrong{0}, disturbed{0}, well_hits{0}, sick_hits_after{0};
  std::atomic<bool> back{false};
  const auto reader = [&](unsigned id) {
    uint64_t random = id + 1;
    while (!stop) {
      std::vector<Bytes> buffers(8, Bytes(kBlock, 0xEE));
      Batch batch;
      std::vector<size_t> chosen;
      for (Bytes& b : buffers) {
        random = mix(random);
        chosen.push_back(random % keys.size());
        batch.get(keys[chosen.back()], b);
      }
      const auto deadline = 200ms;
      const auto started = Clock::now();
      const auto outcomes = client.run(batch, deadline);
      const int64_t over = std::chrono::nanoseconds(Clock::now() - started - deadline).count();
      if (over > worst_over_ns) worst_over_ns = over;
      for (size_t i = 0; i < buffers.size(); ++i) {
        const std::string& key = keys[chosen[i]];
        const bool on_sick = client.server_of(key) == 0;
        if (outcomes[i].status == Status::kOk) {
          if (first_mismatch(buffers[i].data(), kBlock, pattern_seed(key, 1)) != -1) ++wrong;
          if (!on_sick && faulty) ++well_hits;
          if (on_sick && back) ++sick_hits_after;
        }
        std::fill(buffers[i].begin(), buffers[i].end(), 0x5A);  // the completed op must not change this any more
      }
      std::this_thread::sleep_for(3ms);
      for (const Bytes& b : buffers) {
        for (const unsigned char c : b) disturbed += c != 0x5A;
      }
    }
  };
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 3; ++t) threads.emplace_back(reader, t);
  std::this_thread::sleep_for(300ms);
  faulty = true;
  std::unique_ptr<Unplugged> unplugged;
  switch (GetParam()) {
    case Fault::kKill:
      sick->kill_now();
      break;
    case Fault::kFreeze:
      sick->freeze();
      break;
    case Fault::kUnplug:
      unplugged = std::make_unique<Unplugged>(sick_address);
      break;
  }
  std::this_thread::sleep_for(3s);
  if (GetParam() == Fault::kKill) {
    sick = ServerProcess::start(
        {.args = {"--mode", "memory", "--memory", "128MiB"}, .address = sick_address, .dir = dir.path()});
    ClientOptions alone;
    alone.servers = {"sick=" + sick_address};
    Client refill = Client::connect(alone).value();
    for (const std::string& key : keys) ASSERT_EQ(refill.put(key, pattern(key, 1, kBlock)).status, Status::kOk);
  } else if (GetParam() == Fault::kFreeze) {
    sick->thaw();
  }
  unplugged.reset();
  back = true;
  for (int i = 0; i < 200 && sick_hits_after == 0; ++i) std::this_thread::sleep_for(50ms);
  stop = true;
  for (auto& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(disturbed, 0) << "a caller's buffer was written after its op had ended";
  EXPECT_GT(well_hits, 0) << "keys of the healthy server stopped";
  EXPECT_GT(sick_hits_after, 0) << "the server was not used again";
  const auto allowed = kGrace + gauge.worst();
  EXPECT_LE(worst_over_ns.load(), std::chrono::nanoseconds(allowed).count())
      << "worst lateness of the machine " << gauge.worst().count();
}

INSTANTIATE_TEST_SUITE_P(Kinds, FaultsThreads, testing::Values(Fault::kKill, Fault::kFreeze, Fault::kUnplug),
                         [](const auto& param) {
                           return param.param == Fault::kKill     ? "Killed"
                                  : param.param == Fault::kFreeze ? "Frozen"
                                                                  : "Unplugged";
                         });

TEST(Faults, TheChildOfAForkIsToldAndTheParentGoesOn) {
  const TempDir dir;
  const auto server = start_memory_server(dir, "128MiB");
  ClientOptions options;
  options.servers = {server->address()};
  auto client = std::make_unique<Client>(Client::connect(options).value());
  auto session = std::make_unique<Session>(Session::connect(options).value());
  const Bytes bytes = pattern("key", 1, 5000);
  ASSERT_EQ(client->put("key", bytes).status, Status::kOk);
  Batch batch;
  Bytes buffer(5000);
  batch.get("key", buffer);
  ASSERT_EQ(session->run(batch)[0].status, Status::kOk);
  const pid_t child = fork();
  if (child == 0) {
    bool told = client->put("key", pattern("key", 2, 5000)).status == Status::kForked;
    told = told && session->run(batch)[0].status == Status::kForked;
    Batch more;
    more.exists("key");
    told = told && client->submit(std::move(more)).wait()[0].status == Status::kForked;
    const auto region = client->register_memory(&told, sizeof told);
    told = told && !region && region.error().status == Status::kForked;
    client.reset();  // the child ends neither the parent's threads nor its connections
    session.reset();
    _exit(told ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(client->get("key", buffer).status, Status::kOk);
  EXPECT_EQ(buffer, bytes);
  EXPECT_EQ(session->run(batch)[0].status, Status::kOk);
}

TEST(Faults, PutsToADeadServerAreRefusedOrUnknownAndNeverHang) {
  const TempDir dir;
  auto server = start_memory_server(dir, "128MiB");
  ClientOptions options;
  options.servers = {server->address()};
  Client client = Client::connect(options).value();
  const Bytes block = pattern("k", 1, 1'000'000);
  ASSERT_EQ(client.put("k", block).status, Status::kOk);
  server->kill_now();
  for (int i = 0; i < 20; ++i) {
    const auto started = Clock::now();
    const Outcome o = client.put("k", block, 100ms);
    EXPECT_NE(o.status, Status::kOk);
    EXPECT_LT(Clock::now() - started, 100ms + kGrace + 300ms);
  }
  Bytes buffer(10);
  const Outcome got = client.get("k", buffer, 0, 100ms);
  EXPECT_NE(got.status, Status::kOk);
}

TEST(Faults, CancelLeavesMemoryQuiet) {
  const TempDir dir;
  const auto server = start_memory_server(dir, "256MiB");
  ClientOptions options;
  options.servers = {server->address()};
  Client client = Client::connect(options).value();
  constexpr size_t kSize = 8'000'000;
  ASSERT_EQ(client.put("k", pattern("k", 1, kSize)).status, Status::kOk);
  const Bytes quiet(kSize, 0x5A);
  for (int i = 0; i < 100; ++i) {
    Bytes buffer(kSize, 0xEE);
    Batch batch;
    batch.get("k", buffer);
    auto pending = client.submit(std::move(batch), 5s);
    std::this_thread::sleep_for(std::chrono::microseconds(i * 40));
    pending.cancel();
    const Outcome outcome = pending.wait()[0];
    if (outcome.status == Status::kOk) continue;
    std::copy(quiet.begin(), quiet.end(), buffer.begin());
    std::this_thread::sleep_for(3ms);
    ASSERT_TRUE(buffer == quiet) << "round " << i;
  }
}

TEST(Faults, GracefulStopFinishesWhatIsUnderWay) {
  const TempDir dir;
  const std::string config = setup_file_drives(dir, 1, "256MiB", 1);
  const auto server = ServerProcess::start({.args = {"--config", config}, .dir = dir.path()});
  ClientOptions options;
  options.servers = {server->address()};
  options.namespace_key = credential_of(dir);
  Client client = Client::connect(options).value();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      const std::string key = "k" + std::to_string(i % 50);
      (void)client.put(key, pattern(key, 1, 500'000), 500ms);
    }
  });
  std::this_thread::sleep_for(300ms);
  EXPECT_EQ(server->stop(), 0);
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace memkv::test
