/// Case A1: a change that the client has given up never undoes one that was acknowledged later, over every transport,
/// context, session and reconnect. Uses only the public API and the server program. CASE_A1_TRANSPORTS names other
/// transports than those of every host: "rdma" in the guest (tools/guest_rdma.sh).
/// Not under ThreadSanitizer: it slows client and server so much that their short deadlines mean nothing. session_test
/// and roundtrip_test run the threads of a client and its sessions there.
#if !defined(__SANITIZE_THREAD__)

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "memkv/client.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

using namespace std::chrono_literals;

constexpr auto kShort = 60ms;  ///< deadline of changes that are to be given up while the server is stopped
constexpr auto kLong = 20s;
constexpr int kAbsent = -1;
const std::string kKey = "X";

/// A block of version `v`. Its first, middle and last byte tell the version.
std::vector<unsigned char> block_of(int v, size_t size = 1000) {
  return std::vector<unsigned char>(size, static_cast<unsigned char>(v));
}

/// Something that can run a batch: a Client or a Session.
using Runner = std::function<Outcome(Batch&, Deadline)>;

Runner runner_of(Client& client) {
  return [&client](Batch& batch, Deadline deadline) { return client.run(batch, deadline).front(); };
}
Runner runner_of(Session& session) {
  return [&session](Batch& batch, Deadline deadline) { return session.run(batch, deadline).front(); };
}

/// A change of kKey, and the version that it makes.
struct Change {
  const char* name;
  int version;
  std::function<Outcome(const Runner&, Deadline)> run;
};

Outcome put(const Runner& by, const std::string& key, const std::vector<unsigned char>& data, Deadline deadline) {
  Batch batch;
  batch.put(key, data);
  return by(batch, deadline);
}

Change put_of(int version, size_t size = 1000) {
  return {"put", version, [=](const Runner& by, Deadline deadline) {
            const auto data = block_of(version, size);
            return put(by, kKey, data, deadline);
          }};
}
Change write_of(int version) {
  return {"write", version, [=](const Runner& by, Deadline deadline) {
            const auto data = block_of(version);
            Batch batch;
            batch.write(kKey, data, 0);
            return by(batch, deadline);
          }};
}
Change removal() {
  return {"remove", kAbsent, [](const Runner& by, Deadline deadline) {
            Batch batch;
            batch.remove(kKey);
            return by(batch, deadline);
          }};
}

/// The version that a key holds now. Fails if the key cannot be read, or holds bytes of several versions.
int version_at(const Runner& by, const std::string& key, size_t size = 1000) {
  std::vector<unsigned char> data(size);
  Outcome outcome;
  const auto end = std::chrono::steady_clock::now() + kLong;
  do {
    Batch batch;
    batch.get(key, data);
    outcome = by(batch, kLong);
    if (outcome.status == Status::kOk || (outcome.status == Status::kMiss && !outcome.unreachable)) break;
    std::this_thread::sleep_for(2ms);  // on a busy machine the client may take the server for away, for a moment
  } while (std::chrono::steady_clock::now() < end);
  EXPECT_FALSE(outcome.unreachable);
  if (outcome.status == Status::kMiss) return kAbsent;
  EXPECT_EQ(outcome.status, Status::kOk);
  EXPECT_TRUE(std::all_of(data.begin(), data.begin() + static_cast<ptrdiff_t>(outcome.bytes),
                          [&](unsigned char c) { return c == data[0]; }));
  return data[0];
}

/// Tries until the change is done, since on a busy machine the client may take the server for away, for a moment.
Outcome acknowledged(const Change& change, const Runner& by) {
  const auto end = std::chrono::steady_clock::now() + kLong;
  for (;;) {
    const Outcome outcome = change.run(by, kLong);
    const bool done = outcome.status == Status::kOk ||
                      (change.version == kAbsent && outcome.status == Status::kMiss && !outcome.unreachable);
    if (done || std::chrono::steady_clock::now() > end) return outcome;
    std::this_thread::sleep_for(2ms);
  }
}

std::vector<Transport> transports() {
  const char* named = std::getenv("CASE_A1_TRANSPORTS");
  if (named == nullptr) return {Transport::kTcp, Transport::kShm};
  return {std::string(named) == "rdma" ? Transport::kRdma : Transport::kTcp};
}

class CaseA1Threads : public testing::TestWithParam<Transport> {
 protected:
  CaseA1Threads() : server_(start_memory_server(dir_, "512MiB")) {}

  ClientOptions options(uint32_t contexts = 2) const {
    ClientOptions options;
    options.servers = {server_->address()};
    options.transport = GetParam();
    options.io_contexts = contexts;
    return options;
  }
  Client client(uint32_t contexts = 2) const {
    Client made = Client::connect(options(contexts)).value();
    warm(runner_of(made));
    return made;
  }
  Session session() const {
    Session made = Session::connect(options()).value();
    warm(runner_of(made));
    return made;
  }
  /// Makes sure that every context has a connection, over the transport that it should use.
  static void warm(const Runner& by) {
    for (int i = 0; i < 12; i++) ASSERT_EQ(put(by, "warm", block_of(1), kLong).status, Status::kOk);
  }
  /// Runs gets behind everything that the connections still had to deliver.
  static void settle(const Runner& by) {
    for (int i = 0; i < 6; i++) ASSERT_NE(version_at(by, "warm"), kAbsent);
  }

  /// `old` is given up while the server is stopped. Then `fresh` is sent, and it is acknowledged when the server runs
  /// again.
  void round(const Change& old, const Change& fresh, const Runner& by_old, const Runner& by_fresh, size_t size = 1000) {
    SCOPED_TRACE(std::string(old.name) + " given up, then " + fresh.name);
    ASSERT_EQ(put(by_fresh, kKey, block_of(9), kLong).status, Status::kOk);
    server_->freeze();
    const Status status = old.run(by_old, kShort).status;
    EXPECT_NE(status, Status::kOk) << "it is unknown, or a deadline, or the server was found away";
    Outcome outcome;
    std::thread newer([&] { outcome = acknowledged(fresh, by_fresh); });
    std::this_thread::sleep_for(20ms);  // by now it has probably left; if not, that is a case as well
    server_->thaw();
    newer.join();
    ASSERT_TRUE(outcome.status == Status::kOk || outcome.status == Status::kMiss) << to_string(outcome.status);
    EXPECT_EQ(version_at(by_fresh, kKey, size), fresh.version);
    settle(by_old);
    settle(by_fresh);
    EXPECT_EQ(version_at(by_fresh, kKey, size), fresh.version);
  }

  TempDir dir_;
  std::unique_ptr<ServerProcess> server_;
};

INSTANTIATE_TEST_SUITE_P(Over, CaseA1Threads, testing::ValuesIn(transports()),
                         [](const auto& of) { return std::string(to_string(of.param)); });

TEST_P(CaseA1Threads, TwoContexts) {
  Client client = this->client();
  const Runner by = runner_of(client);
  for (int i = 0; i < 3; i++) {
    round(put_of(1), put_of(2), by, by);
    round(put_of(1), removal(), by, by);
    round(removal(), put_of(2), by, by);
    round(write_of(1), put_of(2), by, by);
    round(put_of(1), write_of(2), by, by);
  }
  round(put_of(1), put_of(2, 5'000'000), by, by, 5'000'000);
}

TEST_P(CaseA1Threads, TwoSessionsAndAClient) {
  Session one = session(), other = session();
  Client client = this->client(1);
  for (int i = 0; i < 3; i++) {
    round(put_of(1), put_of(2), runner_of(one), runner_of(other));
    round(put_of(1), removal(), runner_of(other), runner_of(client));
    round(removal(), put_of(2), runner_of(client), runner_of(one));
  }
}

TEST_P(CaseA1Threads, AFlush) {
  Client client = this->client();
  const Runner by = runner_of(client);
  const Change flush{"flush", kAbsent, [&](const Runner&, Deadline deadline) { return client.flush(deadline); }};
  for (int i = 0; i < 2; i++) {
    for (const auto& [old, fresh] : {std::pair(put_of(1), flush), std::pair(flush, put_of(2))}) {
      SCOPED_TRACE(std::string(old.name) + " given up, then " + fresh.name);
      server_->freeze();
      EXPECT_TRUE(is_failure(old.run(by, kShort).status));
      Outcome outcome;
      std::thread newer([&] { outcome = acknowledged(fresh, by); });
      std::this_thread::sleep_for(20ms);
      server_->thaw();
      newer.join();
      ASSERT_TRUE(is_outcome(outcome.status));
      EXPECT_EQ(version_at(by, kKey), fresh.version);
      warm(by);  // the blocks that settle() reads were flushed
      EXPECT_EQ(version_at(by, kKey), fresh.version);
    }
  }
}

/// The client takes the server for dead, closes its connections, and connects again.
TEST_P(CaseA1Threads, AReconnect) {
  Client client = this->client(1);
  const Runner by = runner_of(client);
  for (const Change& fresh : {put_of(2), removal()}) {
    ASSERT_EQ(put(by, kKey, block_of(9), kLong).status, Status::kOk);
    server_->freeze();
    EXPECT_TRUE(is_failure(put_of(1).run(by, 10s).status)) << "the breaker opens, or the connection is lost";
    server_->thaw();
    const Outcome outcome = acknowledged(fresh, by);
    ASSERT_TRUE(is_outcome(outcome.status));
    EXPECT_EQ(version_at(by, kKey), fresh.version);
    settle(by);
    EXPECT_EQ(version_at(by, kKey), fresh.version);
  }
}

/// As it was first met: the server is stopped for 1.1 s, the first put has 1 s, and `auto` takes shm.
TEST_P(CaseA1Threads, AServerThatStandsForASecond) {
  ClientOptions usual = options();
  if (usual.transport == Transport::kShm) usual.transport = Transport::kAuto;
  Client client = Client::connect(usual).value();
  warm(runner_of(client));
  const Runner by = runner_of(client);
  for (const Change& fresh : {put_of(2), removal()}) {
    ASSERT_EQ(put(by, kKey, block_of(9), kLong).status, Status::kOk);
    server_->freeze();
    std::thread thaw([&] {
      std::this_thread::sleep_for(1100ms);
      server_->thaw();
    });
    EXPECT_TRUE(is_failure(put_of(1).run(by, 1s).status));
    (void)acknowledged(fresh, by);
    thaw.join();
    EXPECT_EQ(version_at(by, kKey), fresh.version);
    settle(by);
    EXPECT_EQ(version_at(by, kKey), fresh.version);
  }
}

/// The given-up put lies behind megabytes that the server has not read.
TEST_P(CaseA1Threads, FullSockets) {
  Client client = this->client();
  const Runner by = runner_of(client);
  const auto heavy = block_of(3, 1 << 20);
  for (const Change& fresh : {put_of(2), removal()}) {
    ASSERT_EQ(put(by, kKey, block_of(9), kLong).status, Status::kOk);
    server_->freeze();
    Batch batch;
    for (int i = 0; i < 6; i++) batch.put(i == 2 ? kKey : "heavy" + std::to_string(i), heavy);
    for (const Outcome& outcome : client.run(batch, 150ms)) EXPECT_TRUE(is_failure(outcome.status));
    Outcome outcome;
    std::thread newer([&] { outcome = acknowledged(fresh, by); });
    std::this_thread::sleep_for(20ms);
    server_->thaw();
    newer.join();
    ASSERT_TRUE(is_outcome(outcome.status)) << fresh.name;
    for (int i = 0; i < 4; i++) settle(by);
    EXPECT_EQ(version_at(by, kKey), fresh.version);
  }
}

/// What one key may hold: what the newest acknowledged change made of it, or a change that was given up since.
struct Model {
  size_t size;
  int certain = kAbsent;
  std::set<int> given_up = {};
};

/// Stops the server for a moment, again and again, until it is destroyed.
class Stutter {
 public:
  explicit Stutter(ServerProcess& server, uint64_t seed) : thread_([this, &server, seed] { run(server, seed); }) {}
  ~Stutter() {
    stop_ = true;
    thread_.join();
  }

 private:
  void run(ServerProcess& server, uint64_t seed) {
    std::mt19937_64 random(seed);
    while (!stop_) {
      server.freeze();
      std::this_thread::sleep_for(std::chrono::milliseconds(2 + random() % 20));
      server.thaw();
      std::this_thread::sleep_for(std::chrono::milliseconds(1 + random() % 8));
    }
  }
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST_P(CaseA1Threads, RandomChangesOfWhichManyAreGivenUp) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  Client client = this->client();
  Session session = this->session();
  const std::array<Runner, 2> runners = {runner_of(client), runner_of(session)};
  // Together they are smaller than the server's store, so nothing is evicted.
  std::vector<Model> models = {{1000}, {1000}, {70'000}, {2'500'000}};
  int done = 0, given_up = 0;
  {
    const Stutter stutter(*server_, seed);
    for (int i = 0; i < 400; i++) {
      const size_t place = random() % models.size();
      Model& model = models[place];
      const std::string key = "key" + std::to_string(place);
      const int version = 1 + i % 250;
      const auto data = block_of(version, model.size);
      Batch batch;
      const uint64_t kind = random() % 3;
      if (kind == 0) batch.put(key, data);
      if (kind == 1) batch.write(key, data, 0);  // the whole block
      if (kind == 2) batch.remove(key);
      const bool hasty = random() % 4 != 0;
      const auto deadline = hasty ? std::chrono::milliseconds(1 + random() % 15) : std::chrono::milliseconds(10'000);
      const Status status = runners[random() % 2](batch, deadline).status;
      const int becomes = kind == 2 ? kAbsent : version;
      if (status == Status::kOk || (kind == 2 && status == Status::kMiss)) {
        model.certain = becomes;
        model.given_up.clear();
        done++;
      } else {
        model.given_up.insert(becomes);
        given_up++;
      }
      if (i % 4 != 0) continue;
      const int found = version_at(runners[random() % 2], key, model.size);
      ASSERT_TRUE(found == model.certain || model.given_up.contains(found))
          << key << " is " << found << ", not " << model.certain << " as acknowledged, in step " << i;
    }
  }
  for (const Runner& by : runners) settle(by);
  for (size_t place = 0; place < models.size(); place++) {
    const Model& model = models[place];
    const int found = version_at(runners[0], "key" + std::to_string(place), model.size);
    EXPECT_TRUE(found == model.certain || model.given_up.contains(found)) << place << " is " << found;
  }
  EXPECT_GT(done, 20);
  EXPECT_GT(given_up, 5);  // a quick machine answers most of them in time
}

}  // namespace
}  // namespace memkv::test
#endif
