/// Prefetches of a real client at a real server: the get after one reads no drive.

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <sstream>
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

/// A figure of the server's RAM tier.
uint64_t tier(Client& client, const std::string& name) {
  const std::string text = client.server_status(0).value();
  const size_t at = text.find('"' + name + '"', text.find("\"tier\""));
  const size_t digits = text.find_first_of("0123456789", at);
  if (at != std::string::npos && digits != std::string::npos) return std::stoull(text.substr(digits));
  ADD_FAILURE() << name << " is not in " << text;
  return 0;
}

/// The server's figures are published ten times a second.
void wait_for_tier(Client& client, const std::string& name, uint64_t value) {
  for (int i = 0; i < 100 && tier(client, name) != value; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(tier(client, name), value) << name;
}

class Prefetch : public testing::Test {
 protected:
  void start(std::vector<std::string> args, const std::string& credential) {
    server_ = ServerProcess::start({.args = std::move(args), .dir = dir_.path()});
    ClientOptions options;
    options.servers = {server_->address()};
    options.namespace_key = credential;
    client_.emplace(Client::connect(options).value());
  }
  void start_with_drive(const std::string& tier_size) {
    const std::string config = setup_file_drives(dir_, 1, "1GiB", 1);
    std::stringstream text;
    text << std::ifstream(config).rdbuf();
    std::string lines = text.str();
    const std::string memory = "\nmemory:\n";
    ASSERT_NE(lines.find(memory), std::string::npos);
    lines.insert(lines.find(memory) + memory.size(), "  tier_size: " + tier_size + "\n");
    std::ofstream(config) << lines;
    start({"--config", config, "--workers", "1"}, credential_of(dir_));
  }
  Client& client() { return *client_; }
  Bytes put(const std::string& key, uint64_t size) {
    Bytes bytes = pattern(key, 1, size);
    EXPECT_EQ(client().put(key, bytes).status, Status::kOk);
    return bytes;
  }
  void expect_get(const std::string& key, const Bytes& bytes) {
    Bytes buffer(bytes.size());
    ASSERT_EQ(client().get(key, buffer).status, Status::kOk) << key;
    ASSERT_TRUE(buffer == bytes) << key;
  }

  const TempDir dir_;
  std::unique_ptr<ServerProcess> server_;
  std::optional<Client> client_;
};

TEST_F(Prefetch, TheGetAfterItReadsNoDrive) {
  start_with_drive("64MiB");
  const Bytes small = put("small", 5000), one = put("one", kMi), large = put("large", 5 * kMi);
  Batch batch;
  batch.prefetch("small").prefetch("one").prefetch("large").prefetch("nobody").prefetch("");
  const std::vector<Outcome> outcomes = client().run(batch);
  for (size_t i = 0; i < 3; i++) {
    EXPECT_EQ(outcomes[i].status, Status::kOk) << to_string(outcomes[i].status);
    EXPECT_TRUE(outcomes[i].exists);
    EXPECT_EQ(outcomes[i].bytes, 0u);
    EXPECT_GT(outcomes[i].generation, 0u);
  }
  EXPECT_EQ(outcomes[2].block_bytes, 5 * kMi);
  EXPECT_EQ(outcomes[3].status, Status::kMiss);
  EXPECT_FALSE(outcomes[3].exists);
  EXPECT_EQ(outcomes[4].status, Status::kInvalid);
  wait_for_tier(client(), "prefetches", 5);  // the large one has three chunks
  expect_get("small", small);
  expect_get("one", one);
  expect_get("large", large);
  wait_for_tier(client(), "hits", 5);
  EXPECT_EQ(tier(client(), "misses"), 0u) << "no get read the drive";
  EXPECT_EQ(tier(client(), "prefetches_used"), 5u);
  EXPECT_EQ(tier(client(), "prefetches_wasted"), 0u);
  EXPECT_EQ(server_->stop(), 0);
}

/// Gets that come at once share the reads of the prefetches, or find them done: no record is read twice.
TEST_F(Prefetch, GetsRightBehindThemReadNothingTwice) {
  start_with_drive("256MiB");
  constexpr size_t kBlocks = 64;
  std::vector<std::string> keys;
  std::vector<Bytes> blocks, buffers(kBlocks, Bytes(kMi));
  Batch hints, gets;
  for (size_t i = 0; i < kBlocks; i++) {
    keys.push_back("block/" + std::to_string(i));
    blocks.push_back(put(keys[i], kMi));
    hints.prefetch(keys[i]);
    gets.get(keys[i], buffers[i]);
  }
  for (const Outcome& outcome : client().run(hints)) EXPECT_EQ(outcome.status, Status::kOk);
  for (const Outcome& outcome : client().run(gets)) EXPECT_EQ(outcome.status, Status::kOk);
  EXPECT_TRUE(buffers == blocks);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(tier(client(), "hits") + tier(client(), "shared_reads") + tier(client(), "misses"), kBlocks);
  EXPECT_EQ(tier(client(), "prefetches") + tier(client(), "misses"), kBlocks) << "each was read once";
  EXPECT_EQ(server_->stop(), 0);
}

TEST_F(Prefetch, WithoutATierItAnswersAsExistsWould) {
  start_with_drive("0");
  put("block", kMi);
  Batch batch;
  batch.prefetch("block").prefetch("nobody");
  const std::vector<Outcome> outcomes = client().run(batch);
  EXPECT_EQ(outcomes[0].status, Status::kOk);
  EXPECT_EQ(outcomes[1].status, Status::kMiss);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(tier(client(), "prefetches"), 0u);
  EXPECT_EQ(server_->stop(), 0);
}

TEST_F(Prefetch, InMemoryModeItAnswersAsExistsWould) {
  server_ = start_memory_server(dir_, "64MiB");
  client_.emplace(Client::connect({.servers = {server_->address()}}).value());
  put("block", kMi);
  Batch batch;
  batch.prefetch("block").prefetch("nobody");
  const std::vector<Outcome> outcomes = client().run(batch);
  EXPECT_EQ(outcomes[0].status, Status::kOk);
  EXPECT_TRUE(outcomes[0].exists);
  EXPECT_EQ(outcomes[1].status, Status::kMiss);
  EXPECT_EQ(server_->stop(), 0);
}

TEST_F(Prefetch, OfAServerThatIsGoneItIsAMiss) {
  start_with_drive("64MiB");
  put("block", kMi);
  server_->kill_now();
  Batch batch;
  batch.prefetch("block");
  const std::vector<Outcome> outcomes = client().run(batch, std::chrono::seconds(2));
  EXPECT_EQ(outcomes[0].status, Status::kMiss);
  EXPECT_TRUE(outcomes[0].unreachable);
}

}  // namespace
}  // namespace memkv::test
