/// A driver's lock: who needs it, and who does not.

#include "driver.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace memkv::nixl
