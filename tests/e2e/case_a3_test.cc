/// Case A3: blocks that a start dropped since its index was too small never come back, not even at a later start with
/// room for all.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "memkv/client.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

constexpr size_t kBlocks = 9000;  // a drive of 24 MiB has an index for at least 5,900
constexpr size_t kBlockBytes = 100;
constexpr auto kDeadline = std::chrono::seconds(60);
const std::string kLargeIndex = "1KiB", kSmallIndex = "32KiB";  // memory.index_block_size

std::string key_of(size_t i) { return "block" + std::to_string(i); }

/// All bytes are the same, and not 0.
std::vector<unsigned char> version_of(size_t i, size_t number) {
  return std::vector<unsigned char>(kBlockBytes, static_cast<unsigned char>(1 + i % 100 + (number - 1) * size_t{100}));
}

class CaseA3Processes : public testing::Test {
 protected:
  CaseA3Processes() : config_(setup_file_drives(dir_, 1, "24MiB", 1)) {}

  void start(const std::string& index_block_size) {
    std::ifstream in(config_);
    std::stringstream text;
    text << in.rdbuf();
    std::string yaml = text.str();
    const std::string name = "index_block_size: ";
    const size_t at = yaml.find(name) + name.size();
    yaml.replace(at, yaml.find_first_of(" \n", at) - at, index_block_size);
    std::ofstream(config_) << yaml;
    server_ = ServerProcess::start({.args = {"--config", config_, "--no-shm"}, .dir = dir_.path()});
    ClientOptions options;
    options.servers = {server_->address()};
    options.namespace_key = credential_of(dir_);
    client_.emplace(Client::connect(options).value());
  }
  void stop() {
    client_.reset();
    ASSERT_EQ(server_->stop(), 0);
  }

  /// Every `step`th block gets its version of this number.
  void put_each(size_t step, size_t number) {
    std::vector<std::vector<unsigned char>> data;
    for (size_t i = 0; i < kBlocks; i += step) data.push_back(version_of(i, number));
    Batch batch;
    for (size_t i = 0; i < kBlocks; i += step) batch.put(key_of(i), data[i / step]);
    for (const Outcome& outcome : client_->run(batch, kDeadline)) ASSERT_EQ(outcome.status, Status::kOk);
  }
  void remove_each(size_t step) {
    Batch batch;
    for (size_t i = 0; i < kBlocks; i += step) batch.remove(key_of(i));
    for (const Outcome& outcome : client_->run(batch, kDeadline)) ASSERT_TRUE(is_outcome(outcome.status));
  }
  /// The first byte of every block; 0 where it is a miss.
  std::vector<int> read_all() {
    std::vector<std::vector<unsigned char>> buffers(kBlocks, std::vector<unsigned char>(kBlockBytes));
    Batch batch;
    for (size_t i = 0; i < kBlocks; ++i) batch.get(key_of(i), buffers[i]);
    const std::vector<Outcome> outcomes = client_->run(batch, kDeadline);
    std::vector<int> found;
    for (size_t i = 0; i < kBlocks; ++i) {
      EXPECT_TRUE(is_outcome(outcomes[i].status)) << to_string(outcomes[i].status);
      found.push_back(outcomes[i].status == Status::kOk ? buffers[i][0] : 0);
    }
    return found;
  }

  TempDir dir_;
  std::string config_;
  std::unique_ptr<ServerProcess> server_;
  std::optional<Client> client_;
};

size_t misses_of(const std::vector<int>& found) {
  return static_cast<size_t>(std::count(found.begin(), found.end(), 0));
}

TEST_F(CaseA3Processes, WhatASmallerIndexDroppedNeverComesBack) {
  start(kLargeIndex);
  put_each(1, 1);
  stop();

  start(kSmallIndex);
  std::vector<int> newest = read_all();
  EXPECT_GT(misses_of(newest), 1000u);
  EXPECT_LT(misses_of(newest), kBlocks);
  remove_each(2);
  put_each(14, 2);
  for (size_t i = 0; i < kBlocks; i += 2) newest[i] = i % 14 == 0 ? version_of(i, 2)[0] : 0;
  stop();

  start(kLargeIndex);
  const std::vector<int> found = read_all();
  size_t returned = 0, older = 0;
  for (size_t i = 0; i < kBlocks; ++i) {
    if (found[i] == 0 || found[i] == newest[i]) continue;
    ++(newest[i] == 0 ? returned : older);
  }
  EXPECT_EQ(returned, 0u) << "of the blocks that were removed, or dropped";
  EXPECT_EQ(older, 0u);
  EXPECT_GT(kBlocks - misses_of(found), 1000u);
  stop();
}

}  // namespace
}  // namespace memkv::test
