/// Real servers and a real client: the bytes that were put come back for every size, range, worker count and connection
/// count.

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "memkv/client.h"
#include "tests/support/pattern.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

using Bytes = std::vector<unsigned char>;
constexpr uint64_t kMi = 1 << 20;
const std::vector<uint64_t> kSizes = {0, 1, 4096, 549 * 1024, 2 * kMi - 1, 2 * kMi, 2 * kMi + 1, 8'262'779, 64 * kMi};

Client connect(std::vector<std::string> servers, const std::string& credential) {
  ClientOptions options;
  options.servers = std::move(servers);
  options.namespace_key = credential;
  options.get_timeout = options.put_timeout = std::chrono::seconds(60);
  auto client = Client::connect(options);
  if (!client) ADD_FAILURE() << client.error().text;
  return std::move(client).value();
}

void expect_get(Client& client, const std::string& key, uint64_t version, uint64_t block, uint64_t offset,
                uint64_t length) {
  Bytes buffer(length, 0xEE);
  const Outcome got = client.get(key, buffer, offset);
  const uint64_t expected = offset >= block ? 0 : std::min(length, block - offset);
  ASSERT_EQ(got.status, Status::kOk) << key << " " << to_string(got.status) << " offset " << offset << " length "
                                     << length;
  ASSERT_EQ(got.bytes, expected) << key;
  ASSERT_EQ(got.block_bytes, block) << key;
  ASSERT_EQ(first_mismatch(buffer.data(), expected, pattern_seed(key, version), offset), -1)
      << key << " offset " << offset;
}

void round_trip(Client& client, const std::vector<uint64_t>& sizes) {
  for (const uint64_t size : sizes) {
    const std::string key = "block/" + std::to_string(size);
    const Bytes bytes = pattern(key, 1, size);
    const Outcome stored = client.put(key, bytes);
    ASSERT_EQ(stored.status, Status::kOk) << to_string(stored.status) << " size " << size;
    ASSERT_NE(stored.generation, 0u);
  }
  for (const uint64_t size : sizes) {
    const std::string key = "block/" + std::to_string(size);
    expect_get(client, key, 1, size, 0, size);
    ASSERT_TRUE(client.exists(key).exists);
    const Outcome stat = client.stat(key);
    ASSERT_EQ(stat.block_bytes, size);
    if (size < 4) continue;
    expect_get(client, key, 1, size, size / 3, size / 2);  // in the middle
    expect_get(client, key, 1, size, size - 1, 100);       // clipped at the block's end
    if (size > 2 * kMi)
      expect_get(client, key, 1, size, 2 * kMi - 5, 10);           // across a chunk boundary, or clipped behind it
    if (size > 70000) expect_get(client, key, 1, size, 65535, 3);  // across a grain boundary
  }
}

struct Shape {
  int drives;
  int shards;
  int workers;
  const char* io;
};

class RoundTrip : public testing::TestWithParam<Shape> {};

TEST_P(RoundTrip, EverySizeSurvivesARestart) {
  const Shape shape = GetParam();
  const TempDir dir;
  const std::string config = setup_file_drives(dir, shape.drives, shape.drives <= 2 ? "1GiB" : "256MiB", shape.shards);
  const ServerProcess::Options options{
      .args = {"--config", config, "--workers", std::to_string(shape.workers), "--io", shape.io}, .dir = dir.path()};
  auto server = ServerProcess::start(options);
  {
    Client client = connect({server->address()}, credential_of(dir));
    round_trip(client, kSizes);
  }
  ASSERT_EQ(server->stop(), 0);
  server = ServerProcess::start(options);
  Client client = connect({server->address()}, credential_of(dir));
  for (const uint64_t size : kSizes) expect_get(client, "block/" + std::to_string(size), 1, size, 0, size);
  ASSERT_EQ(server->stop(), 0);
}

INSTANTIATE_TEST_SUITE_P(Shapes, RoundTrip,
                         testing::Values(Shape{1, 1, 1, "uring"}, Shape{1, 2, 2, "uring"}, Shape{12, 2, 2, "uring"},
                                         Shape{2, 2, 1, "epoll"}),
                         [](const auto& param) {
                           return "Drives" + std::to_string(param.param.drives) + "Shards" +
                                  std::to_string(param.param.shards) + "Workers" + std::to_string(param.param.workers) +
                                  param.param.io;
                         });

TEST(RoundTripMemory, EverySize) {
  const TempDir dir;
  const auto server = start_memory_server(dir, "512MiB");
  Client client = connect({server->address()}, "");
  round_trip(client, kSizes);
  ASSERT_EQ(server->stop(), 0);
}

TEST(RoundTripOneGiB, OverTwelveDrivesAndTwoShards) {
  const TempDir dir;
  const std::string config = setup_file_drives(dir, 12, "1GiB", 2);
  auto server = ServerProcess::start({.args = {"--config", config}, .dir = dir.path()});
  Client client = connect({server->address()}, credential_of(dir));
  constexpr uint64_t kSize = 1024 * kMi;
  {
    const Bytes bytes = pattern("giant", 1, kSize);
    const Outcome stored = client.put("giant", bytes, std::chrono::seconds(120));
    ASSERT_EQ(stored.status, Status::kOk) << to_string(stored.status);
  }
  Bytes buffer(kSize, 0xEE);
  const Outcome got = client.get("giant", buffer, 0, std::chrono::seconds(120));
  ASSERT_EQ(got.status, Status::kOk) << to_string(got.status);
  ASSERT_EQ(got.bytes, kSize);
  ASSERT_EQ(first_mismatch(buffer.data(), kSize, pattern_seed("giant", 1)), -1);
  ASSERT_EQ(server->stop(), 0);
}

TEST(RoundTripKeys, BinaryAndLongKeys) {
  const TempDir dir;
  const auto server = start_memory_server(dir, "128MiB");
  Client client = connect({server->address()}, "");
  for (const std::string& key :
       {std::string("\0\x01\xff\n", 4), std::string(1, '\0'), std::string(1024, 'k'), std::string("ключ")}) {
    ASSERT_EQ(client.put(key, pattern(key, 7, 5000)).status, Status::kOk);
    expect_get(client, key, 7, 5000, 0, 5000);
  }
  EXPECT_EQ(client.put("", pattern("x", 1, 10)).status, Status::kInvalid);
  EXPECT_EQ(client.put(std::string(1025, 'k'), pattern("x", 1, 10)).status, Status::kInvalid);
  Bytes buffer(10);
  EXPECT_EQ(client.get("", buffer).status, Status::kInvalid);
  EXPECT_EQ(client.get("never put", buffer).status, Status::kMiss);
  const Bytes huge(200 * kMi, 1);
  EXPECT_EQ(client.put("huge", huge).status, Status::kTooLarge);
  ASSERT_EQ(server->stop(), 0);
}

TEST(RoundTripOps, OverwriteIfAbsentRemoveTouchFlushList) {
  const TempDir dir;
  const std::string config = setup_file_drives(dir, 3, "128MiB", 2);
  const auto server = ServerProcess::start({.args = {"--config", config}, .dir = dir.path()});
  Client client = connect({server->address()}, credential_of(dir));
  for (const uint64_t size : {uint64_t{100}, uint64_t{300'000}, 5 * kMi}) {
    const std::string key = "k" + std::to_string(size);
    const Outcome first = client.put(key, pattern(key, 1, size));
    ASSERT_EQ(first.status, Status::kOk);
    const Outcome again = client.put_if_absent(key, pattern(key, 2, size));
    ASSERT_EQ(again.status, Status::kExists);
    ASSERT_EQ(again.generation, first.generation);
    expect_get(client, key, 1, size, 0, size);
    const Outcome second = client.put(key, pattern(key, 3, size / 2));
    ASSERT_EQ(second.status, Status::kOk);
    ASSERT_GT(second.generation, first.generation);
    expect_get(client, key, 3, size / 2, 0, size);
    ASSERT_EQ(client.touch(key).status, Status::kOk);
    Batch stale;
    Bytes buffer(10);
    stale.get(key, buffer, 0, first.generation);
    ASSERT_EQ(client.run(stale)[0].status, Status::kChanged);
  }
  auto listed = client.list(0);
  ASSERT_TRUE(listed.ok());
  ASSERT_EQ(listed->size(), 3u);
  ASSERT_EQ(client.remove("k100").status, Status::kOk);
  ASSERT_EQ(client.remove("k100").status, Status::kMiss);
  ASSERT_FALSE(client.exists("k100").exists);
  ASSERT_EQ(client.touch("k100").status, Status::kMiss);
  ASSERT_EQ(client.flush().status, Status::kOk);
  ASSERT_FALSE(client.exists("k300000").exists);
  Bytes buffer(10);
  ASSERT_EQ(client.get("k300000", buffer).status, Status::kMiss);
  ASSERT_EQ(client.list(0)->size(), 0u);
  ASSERT_EQ(server->stop(), 0);
}

TEST(RoundTripWrite, RangesHolesAndConcurrentWritersOfOneKey) {
  const TempDir dir;
  const std::string config = setup_file_drives(dir, 2, "256MiB", 2);
  const auto server = ServerProcess::start({.args = {"--config", config}, .dir = dir.path()});
  Client client = connect({server->address()}, credential_of(dir));
  const std::string key = "ranged";
  const uint64_t seed = pattern_seed(key, 1);
  // Range writes that overlap in time, with random sizes and from several threads, together cover all of the 9 MiB.
  constexpr uint64_t kSize = 9 * kMi + 12345;
  constexpr int kThreads = 4;
  const uint64_t cut = 333'333;
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = static_cast<uint64_t>(t); i * cut < kSize; i += kThreads) {
        const uint64_t n = std::min(cut, kSize - i * cut);
        Bytes bytes(n);
        fill_pattern(bytes.data(), n, seed, i * cut);
        if (client.write(key, bytes, i * cut).status != Status::kOk) ++failures;
      }
    });
  }
  for (auto& t : threads) t.join();
  ASSERT_EQ(failures, 0);
  expect_get(client, key, 1, kSize, 0, kSize);
  // A read of a hole is a miss; it never gives zeros.
  ASSERT_EQ(client.write("holey", pattern("holey", 1, 1000, 3 * kMi), 3 * kMi).status, Status::kOk);
  Bytes buffer(1000);
  ASSERT_EQ(client.get("holey", buffer, 0).status, Status::kMiss);
  ASSERT_EQ(client.get("holey", buffer, 3 * kMi - 10).status, Status::kMiss);
  expect_get(client, "holey", 1, 3 * kMi + 1000, 3 * kMi, 1000);
  ASSERT_EQ(client.write("holey", pattern("holey", 1, 3 * kMi, 0), 0).status, Status::kOk);
  expect_get(client, "holey", 1, 3 * kMi + 1000, 0, 3 * kMi + 1000);
  // A small block grows beyond one chunk.
  ASSERT_EQ(client.put("grows", pattern("grows", 1, 500'000)).status, Status::kOk);
  ASSERT_EQ(client.write("grows", pattern("grows", 1, 4 * kMi, 500'000), 500'000).status, Status::kOk);
  expect_get(client, "grows", 1, 4 * kMi + 500'000, 0, 4 * kMi + 500'000);
  ASSERT_EQ(server->stop(), 0);
}

/// Tries again while the server could not be asked: on a busy machine a handshake among many may take long.
std::vector<Outcome> run_reached(Session& session, Batch& batch) {
  std::vector<Outcome> outcomes = session.run(batch);
  for (int tries = 0; tries < 100 && outcomes[0].unreachable; tries++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    outcomes = session.run(batch);
  }
  return outcomes;
}

TEST(RoundTripConnections, ManyClientsAtOnce) {
  const TempDir dir;
  const auto server = start_memory_server(dir, "512MiB", {"--workers", "2"});
  for (const int connections : {1, 4, 64}) {
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int t = 0; t < connections; ++t) {
      threads.emplace_back([&, t] {
        ClientOptions options;
        options.servers = {server->address()};
        options.get_timeout = options.put_timeout = std::chrono::seconds(30);
        auto session = Session::connect(options);
        if (!session) {
          ++failures;
          return;
        }
        for (int i = 0; i < 20; ++i) {
          const std::string key = std::to_string(connections) + "/" + std::to_string(t) + "/" + std::to_string(i);
          const size_t size = 1 + mix(static_cast<uint64_t>(t * 100 + i)) % 200'000;
          const Bytes bytes = pattern(key, 1, size);
          Batch put;
          put.put(key, bytes);
          if (run_reached(*session, put)[0].status != Status::kOk) ++failures;
          Bytes buffer(size);
          Batch get;
          get.get(key, buffer).exists(key);
          const auto outcomes = run_reached(*session, get);
          if (outcomes[0].status != Status::kOk || !outcomes[1].exists || buffer != bytes) ++failures;
        }
      });
    }
    for (auto& t : threads) t.join();
    EXPECT_EQ(failures, 0) << connections << " connections";
  }
  ASSERT_EQ(server->stop(), 0);
}

TEST(RoundTripServers, TwoServersSharePlacedKeys) {
  const TempDir dir;
  const auto one = start_memory_server(dir, "128MiB");
  const auto two = start_memory_server(dir, "128MiB");
  Client client = connect({"kv1=" + one->address(), "kv2=" + two->address()}, "");
  size_t on_first = 0;
  Batch puts;
  std::vector<Bytes> blocks;
  std::vector<std::string> keys;
  for (int i = 0; i < 200; ++i) {
    keys.push_back("key" + std::to_string(i));
    blocks.push_back(pattern(keys.back(), 1, 10'000 + static_cast<size_t>(i)));
    on_first += client.server_of(keys.back()) == 0 ? 1 : 0;
  }
  for (int i = 0; i < 200; ++i) puts.put(keys[static_cast<size_t>(i)], blocks[static_cast<size_t>(i)]);
  for (const Outcome& o : client.run(puts)) ASSERT_EQ(o.status, Status::kOk);
  EXPECT_GT(on_first, 60u);
  EXPECT_LT(on_first, 140u);
  for (int i = 0; i < 200; ++i)
    expect_get(client, keys[static_cast<size_t>(i)], 1, blocks[static_cast<size_t>(i)].size(), 0, 20'000);
  ASSERT_EQ(client.list(0)->size(), on_first);
  ASSERT_EQ(client.list(1)->size(), 200 - on_first);
}

TEST(RoundTripPieces, GathersAndScattersAnywhere) {
  const TempDir dir;
  const auto server = start_memory_server(dir, "256MiB");
  Client client = connect({server->address()}, "");
  const std::string key = "pieces";
  const Bytes bytes = pattern(key, 1, 5'000'000);
  std::vector<ConstPiece> from;
  for (size_t at = 0, n = 1; at < bytes.size(); at += n, n = n * 7 % 500'009 + 1) {
    n = std::min(n, bytes.size() - at);
    from.push_back({bytes.data() + at, n});
  }
  ASSERT_EQ(client.put(key, Gather(std::span<const ConstPiece>(from))).status, Status::kOk);
  Bytes buffer(bytes.size(), 0xEE);
  std::vector<Piece> into;
  for (size_t at = 0, n = 3; at < buffer.size(); at += n, n = n * 11 % 300'007 + 1) {
    n = std::min(n, buffer.size() - at);
    into.push_back({buffer.data() + at, n});
  }
  ASSERT_EQ(client.get(key, Scatter(std::span<const Piece>(into))).status, Status::kOk);
  ASSERT_TRUE(buffer == bytes);
}

}  // namespace
}  // namespace memkv::test
