/// Who has nothing to do sleeps: a client and a server that are connected, and idle.

#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "memkv/client.h"
#include "tests/support/pattern.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

using namespace std::chrono_literals;

/// How often threads of process `pid` went to sleep so far. A wake-up costs 5 to 60 us, by the machine, by what others do
/// to its caches, and by the build; their number is the same everywhere.
int64_t sleeps(pid_t pid) {
  int64_t sum = 0;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::ifstream status(thread.path() / "status");
    const std::string name = "voluntary_ctxt_switches:";
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with(name)) sum += std::stoll(line.substr(name.size()));
    }
  }
  return sum;
}

/// CPU time of process `pid`. Others' work on the machine is not in it.
std::chrono::nanoseconds cpu_time(pid_t pid) {
  clockid_t clock = 0;
  EXPECT_EQ(clock_getcpuclockid(pid, &clock), 0);
  timespec time{};
  clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

class Idle : public testing::TestWithParam<Transport> {
 protected:
  static constexpr auto kIdle = 2000ms;
  static constexpr int kSleepsMax = 40;       ///< in kIdle: with 50 us each a thousandth of a core
  static constexpr auto kCpuMax = kIdle / 4;  ///< a thread that polls takes it all

  ClientOptions options() const {
    ClientOptions options;
    options.servers = {server_->address()};
    options.transport = GetParam();
    return options;
  }

  const TempDir dir_;
  const std::unique_ptr<ServerProcess> server_ = start_memory_server(dir_, "64MiB");
};

INSTANTIATE_TEST_SUITE_P(Over, Idle, testing::Values(Transport::kTcp, Transport::kShm),
                         [](const auto& one) { return std::string(to_string(one.param)); });

TEST_P(Idle, client_and_server_neither_poll_nor_wake_up_often) {
  Client client = Client::connect(options()).value();
  Session session = Session::connect(options()).value();
  for (int i = 0; i < 200; i++) {  // until they poll
    ASSERT_EQ(client.put("k", pattern("k", 1, 100'000)).status, Status::kOk);
    Batch batch;
    batch.exists("k");
    ASSERT_EQ(session.run(batch)[0].status, Status::kOk);
  }
  std::this_thread::sleep_for(300ms);
  struct Process {
    const char* name;
    pid_t pid;
    int64_t sleeps_before;
    std::chrono::nanoseconds cpu_before;
  };
  Process both[] = {{"client", getpid(), 0, 0ns}, {"server", server_->pid(), 0, 0ns}};
  for (Process& one : both) one.sleeps_before = sleeps(one.pid), one.cpu_before = cpu_time(one.pid);
  std::this_thread::sleep_for(kIdle);
  for (const Process& one : both) {
    const int64_t slept = sleeps(one.pid) - one.sleeps_before;
    const auto used = cpu_time(one.pid) - one.cpu_before;
    EXPECT_LE(slept, kSleepsMax) << one.name;
    EXPECT_LE(used, kCpuMax) << one.name;
    RecordProperty(std::string(one.name) + "_sleeps", static_cast<int>(slept));
    RecordProperty(std::string(one.name) + "_cpu_ns", static_cast<int>(used.count()));
  }
}

}  // namespace
}  // namespace memkv::test
