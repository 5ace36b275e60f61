/// A driver's lock: who needs it, and who does not.

#include "driver.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace memkv::nixl {
namespace {

/// Stands still under the driver's lock until it is told to go on.
class Standstill final : public Work {
 public:
  uint64_t weight() const override { return 0; }
  Wait start(Session&) override {
    reached.set_value();
    go_on.get_future().wait();
    return Wait::kNothing;
  }
  Wait step(Session&) override { return Wait::kNothing; }
  void cancel(Session&) override {}

  std::promise<void> reached, go_on;
};

TEST(DriverThreads, memory_is_registered_while_others_hold_the_lock) {
  const auto driver = Driver::open({.servers = {"127.0.0.1:1"}}).value();
  Standstill work;
  std::thread user([&] { driver->start(work); });
  work.reached.get_future().wait();
  std::vector<char> memory(4096);
  auto region = std::async(std::launch::async, [&] {
    return driver->register_memory(memory.data(), memory.size(), memkv::MemoryKind::kHost);
  });
  EXPECT_EQ(region.wait_for(std::chrono::seconds(5)), std::future_status::ready);
  work.go_on.set_value();
  user.join();
  auto registered = region.get();
  ASSERT_TRUE(registered.ok());
  driver->release(std::move(*registered));
}

/// Under way until it is told to end, like the puts that are fed from a GPU: those take their deadline from their
/// request, which asks the driver as this does.
class Weighty final : public Work {
 public:
  explicit Weighty(Driver& driver) : driver_(driver) {}
  uint64_t weight() const override { return uint64_t{64} << 20; }  // a second at the slowest rate
  Wait start(Session&) override {
    allowance_ns = driver_.allowance_ns();
    return Wait::kCopy;
  }
  Wait step(Session&) override { return ends.load() ? Wait::kNothing : Wait::kCopy; }
  void cancel(Session&) override { ends = true; }

  uint64_t allowance_ns = 0;
  std::atomic<bool> ends{false};

 private:
  Driver& driver_;
};

TEST(CaseC15Threads, a_default_deadline_allows_for_all_that_is_ahead_and_for_nothing_that_has_ended) {
  constexpr uint64_t kSecond = 1'000'000'000;
  const auto driver = Driver::open({.servers = {"127.0.0.1:1"}}).value();
  Weighty first(*driver), second(*driver), third(*driver), last(*driver);
  driver->start(first);
  driver->start(second);
  driver->start(third);
  EXPECT_EQ(first.allowance_ns, kSecond);
  EXPECT_EQ(second.allowance_ns, 2 * kSecond);
  EXPECT_EQ(third.allowance_ns, 3 * kSecond);
  for (Weighty* work : {&first, &second}) {
    while (!driver->stop(*work)) driver->poll();
  }
  driver->start(last);
  EXPECT_EQ(last.allowance_ns, 2 * kSecond);
  for (Weighty* work : {&third, &last}) {
    while (!driver->stop(*work)) driver->poll();
  }
}

}  // namespace
}  // namespace memkv::nixl
