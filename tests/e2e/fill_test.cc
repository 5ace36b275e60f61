/// Three times the capacity is put: no put fails, memory does not grow, blocks that are read again and again survive,
/// and the counters add up.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "memkv/client.h"
#include "tests/support/pattern.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

/// VmRSS of a process in KiB.
uint64_t resident_kib(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/status");
  std::string word;
  while (in >> word) {
    if (word == "VmRSS:") {
      uint64_t kib = 0;
      in >> kib;
      return kib;
    }
  }
  return 0;
}

uint64_t json_number(const std::string& json, const std::string& name) {
  const size_t at = json.find('"' + name + '"');
  if (at == std::string::npos) return ~uint64_t{0};
  return std::stoull(json.substr(json.find(':', at) + 1));
}

TEST(Fill, ThreeTimesTheCapacityEvictsAndNeverFails) {
  const TempDir dir;
  const std::string config = setup_file_drives(dir, 2, "128MiB", 1);
  auto server = ServerProcess::start({.args = {"--config", config}, .dir = dir.path()});
  ClientOptions options;
  options.servers = {server->address()};
  options.namespace_key = credential_of(dir);
  options.put_timeout = std::chrono::seconds(30);
  Client client = Client::connect(options).value();
  const std::vector<size_t> sizes = {4096, 65536, 549 * 1024, 1 << 20, 5'000'000};
  std::vector<std::string> hot;
  // Together they are less than half a segment, which is how much reclaim may move (docs/data-file.md).
  for (int i = 0; i < 8; ++i) {
    hot.push_back("hot" + std::to_string(i));
    ASSERT_EQ(client.put(hot.back(), pattern(hot.back(), 1, 100'000)).status, Status::kOk);
  }
  uint64_t written = 0, resident_early = 0;
  const uint64_t capacity = 256ull << 20;
  std::vector<unsigned char> buffer(5'000'000);
  for (int i = 0; written < 3 * capacity; ++i) {
    const std::string key = "fill" + std::to_string(i);
    const size_t size = sizes[static_cast<size_t>(i) % sizes.size()];
    const Outcome stored = client.put(key, pattern(key, 1, size));
    ASSERT_EQ(stored.status, Status::kOk) << to_string(stored.status) << " after " << written << " bytes";
    written += size;
    if (i % 10 == 0) {
      for (const std::string& key_hot : hot) {
        const Outcome got = client.get(key_hot, buffer);
        ASSERT_EQ(got.status, Status::kOk)
            << key_hot << " was evicted although it is read all the time, after " << written << " bytes";
        ASSERT_EQ(first_mismatch(buffer.data(), 100'000, pattern_seed(key_hot, 1)), -1);
      }
    }
    if (written > capacity && resident_early == 0) resident_early = resident_kib(server->pid());
  }
  EXPECT_LT(resident_kib(server->pid()), resident_early + 16 * 1024) << "memory grows with the data";
  int present = 0, index = 0;
  for (uint64_t total = 0; total < written; ++index) {
    const std::string key = "fill" + std::to_string(index);
    const size_t size = sizes[static_cast<size_t>(index) % sizes.size()];
    total += size;
    const Outcome got = client.get(key, buffer);
    if (got.status == Status::kMiss) continue;
    ASSERT_EQ(got.status, Status::kOk) << key << " " << to_string(got.status);
    ASSERT_EQ(first_mismatch(buffer.data(), size, pattern_seed(key, 1)), -1) << key;
    ++present;
  }
  EXPECT_GT(present, index / 8);
  EXPECT_LT(present, index / 2);
  const auto status = client.server_status(0);
  ASSERT_TRUE(status.ok());
  const uint64_t user = json_number(*status, "user_bytes_written"),
                 device = json_number(*status, "device_bytes_written");
  EXPECT_GE(device, user) << *status;
  EXPECT_LT(device, user * 2) << *status;
  EXPECT_LE(json_number(*status, "used_bytes_total"), json_number(*status, "usable_bytes_total")) << *status;
  for (int d = 0; d < 2; ++d) {
    EXPECT_EQ(std::filesystem::file_size(dir / ("store-d" + std::to_string(d) + ".memkv")), 128u << 20);
  }
  ASSERT_EQ(server->stop(), 0);
}

}  // namespace
}  // namespace memkv::test
