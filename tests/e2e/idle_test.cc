/// Who has nothing to do uses no CPU: a client and a server that are connected, and idle.

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "memkv/client.h"
#include "tests/support/pattern.h"
#include "tests/support/server_process.h"

namespace memkv::test {
namespace {

using namespace std::chrono_literals;

/// Not by the clock: others' work on the machine is not in it.
std::chrono::nanoseconds cpu_time(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

clockid_t cpu_clock_of(pid_t pid) {
  clockid_t clock = 0;
  EXPECT_EQ(clock_getcpuclockid(pid, &clock), 0);
  return clock;
}

class Idle : public testing::TestWithParam<Transport> {
 protected:
  static constexpr auto kIdle = 2s;
  static constexpr int kWindows = 3;  // the quietest counts: caches that others emptied make each wake-up dearer
  static constexpr std::chrono::microseconds kMost = std::chrono::microseconds(kIdle) / 1000;  // 0.1 % of a core

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

TEST_P(Idle, client_and_server_use_at_most_a_thousandth_of_a_core_each) {
  Client client = Client::connect(options()).value();
  Session session = Session::connect(options()).value();
  for (int i = 0; i < 200; i++) {  // until they poll
    ASSERT_EQ(client.put("k", pattern("k", 1, 100'000)).status, Status::kOk);
    Batch batch;
    batch.exists("k");
    ASSERT_EQ(session.run(batch)[0].status, Status::kOk);
  }
  std::this_thread::sleep_for(300ms);
  const clockid_t server_clock = cpu_clock_of(server_->pid());
  std::chrono::nanoseconds client_least = kIdle, server_least = kIdle;
  for (int i = 0; i < kWindows; i++) {
    const auto client_before = cpu_time(CLOCK_PROCESS_CPUTIME_ID), server_before = cpu_time(server_clock);
    std::this_thread::sleep_for(kIdle);
    client_least = std::min(client_least, cpu_time(CLOCK_PROCESS_CPUTIME_ID) - client_before);
    server_least = std::min(server_least, cpu_time(server_clock) - server_before);
  }
  EXPECT_LE(client_least, kMost) << client_least.count() << " ns";
  EXPECT_LE(server_least, kMost) << server_least.count() << " ns";
  RecordProperty("client_ns", static_cast<int>(client_least.count()));
  RecordProperty("server_ns", static_cast<int>(server_least.count()));
}

/// A program that looks in again and again, each time with a short wait.
TEST_P(Idle, a_session_that_is_asked_again_and_again_sleeps_in_between) {
  Session session = Session::connect(options()).value();
  Batch batch;
  batch.put("k", pattern("k", 1, 1000));
  ASSERT_EQ(session.run(batch)[0].status, Status::kOk);
  std::chrono::nanoseconds least = kIdle;
  for (int window = 0; window < kWindows; window++) {
    const auto before = cpu_time(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < 1000; i++) session.poll(1ms);
    least = std::min(least, cpu_time(CLOCK_PROCESS_CPUTIME_ID) - before);
  }
  EXPECT_LE(least, 40ms) << least.count() << " ns; to poll for 50 us each time alone takes 50 ms";
}

}  // namespace
}  // namespace memkv::test
