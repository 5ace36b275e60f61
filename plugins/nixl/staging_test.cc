#include "staging.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <thread>

#include "cuda_testing.h"

namespace memkv::nixl {
namespace {

class StagingThreads : public testing::Test {
 protected:
  StagingThreads() {
    fake_cuda();
    cuda = CudaThread::start().value();
  }
  std::unique_ptr<StagingPool> open(size_t slots) {
    auto pool = std::make_unique<StagingPool>(slots * StagingPool::kSlotBytes + 4096);
    EXPECT_TRUE(pool->open(*cuda, 0).ok());
    return pool;
  }
  std::unique_ptr<CudaThread> cuda;
};

TEST_F(StagingThreads, memory_is_pinned_once_and_unpinned_at_the_end) {
  const uint64_t before = fake_counts().registered_bytes;
  {
    const auto pool = open(4);
    EXPECT_TRUE(pool->open(*cuda, 1).ok());
    EXPECT_EQ(pool->bytes(), 4 * StagingPool::kSlotBytes);
    EXPECT_EQ(fake_counts().registered_bytes - before, pool->bytes());
  }
  EXPECT_EQ(fake_counts().registered_bytes, before);
}

TEST_F(StagingThreads, what_cannot_be_pinned_or_is_too_small_is_told) {
  StagingPool small(StagingPool::kSlotBytes - 1);
  EXPECT_NE(small.open(*cuda, 0).error().text.find("staging_mb"), std::string::npos);
  const FailingCall failing("HostRegister", 2);
  StagingPool pool(4 * StagingPool::kSlotBytes);
  EXPECT_NE(pool.open(*cuda, 0).error().text.find("out of memory"), std::string::npos);
}

TEST_F(StagingThreads, an_exhausted_pool_serves_in_the_order_of_asking) {
  const auto pool = open(4);
  StagingPool::Ask first, large, small;
  EXPECT_TRUE(pool->ask(first, 2));
  EXPECT_FALSE(pool->ask(large, 3));
  EXPECT_FALSE(pool->ask(small, 1)) << "two are free, but somebody was first";
  pool->give_back(first);
  EXPECT_TRUE(large.granted());
  EXPECT_TRUE(small.granted());
  std::set<char*> distinct(large.slots().begin(), large.slots().end());
  distinct.insert(small.slots().begin(), small.slots().end());
  EXPECT_EQ(distinct.size(), 4u);
  pool->give_back(large);
  pool->give_back(small);
}

TEST_F(StagingThreads, who_leaves_the_line_lets_the_next_one_in) {
  const auto pool = open(2);
  StagingPool::Ask first, large, small;
  EXPECT_TRUE(pool->ask(first, 1));
  EXPECT_FALSE(pool->ask(large, 2));
  EXPECT_FALSE(pool->ask(small, 1));
  pool->give_back(large);
  EXPECT_FALSE(large.granted());
  EXPECT_TRUE(small.granted());
  pool->give_back(large);  // harmless
  pool->give_back(small);
  pool->give_back(first);
}

TEST_F(StagingThreads, a_slot_has_one_holder_at_a_time) {
  const auto pool = open(5);
  std::vector<std::thread> users;
  for (int user = 1; user <= 4; ++user) {
    users.emplace_back([&pool, user] {
      std::mt19937_64 random(static_cast<unsigned>(user));
      for (int round = 0; round < 200; ++round) {
        StagingPool::Ask ask;
        pool->ask(ask, 1 + random() % 3);
        while (!ask.granted() && random() % 50 != 0) std::this_thread::yield();
        if (ask.granted()) {
          for (char* slot : ask.slots()) *slot = static_cast<char>(user);
          for (char* slot : ask.slots()) EXPECT_EQ(*slot, user);
        }
        pool->give_back(ask);
      }
    });
  }
  for (std::thread& user : users) user.join();
}

}  // namespace
}  // namespace memkv::nixl
