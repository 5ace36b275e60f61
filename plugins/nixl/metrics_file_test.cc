#include "metrics_file.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace memkv::nixl {
namespace {

namespace fs = std::filesystem;

/// A folder that goes with the test.
struct Folder {
  Folder() {
    char name[] = "/tmp/memkv-metrics-XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

std::vector<RailCounters> no_rails() { return {}; }

TEST(MetricsFileThreads, agents_that_share_a_file_do_not_fail_each_other) {
  const Folder folder;
  const std::string path = folder.path / "shared.prom";
  const Counters counters;
  std::atomic<int> failed{0};
  std::vector<std::thread> agents;
  for (int agent = 0; agent < 8; agent++) {
    agents.emplace_back([&, agent] {
      const MetricsFile file(path, "agent" + std::to_string(agent), counters, no_rails);
      for (int round = 0; round < 200; round++) failed += !file.write_now();
    });
  }
  for (std::thread& agent : agents) agent.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 1) << "no drafts are left";
}

TEST(MetricsFile, a_draft_that_cannot_take_the_files_place_does_not_stay) {
  const Folder folder;
  fs::create_directories(folder.path / "taken.prom" / "by a folder");
  const Counters counters;
  EXPECT_FALSE(MetricsFile(folder.path / "taken.prom", "agent", counters, no_rails).write_now());
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path), {}), 1);
}

}  // namespace
}  // namespace memkv::nixl
