/// The product's poller and helpers in a simulated process.

#include "sim/rdma.h"

#include <gtest/gtest.h>

#include "sim/calls.h"
#include "sim/loop.h"
#include "transport/rdma/poller.h"

namespace memkv::sim {
namespace {

namespace rdma = transport::rdma;

class IdleLink final : public rdma::Polled {
 public:
  explicit IdleLink(rdma::QueuePair& pair) : pair_(pair) {}
  rdma::QueuePair& queue_pair() override { return pair_; }
  size_t take_completions() override { return 0; }
  void on_device_gone() override { gone_ = true; }
  bool gone() const { return gone_; }

 private:
  rdma::QueuePair& pair_;
  bool gone_ = false;
};

class RdmaProcessTest : public testing::Test {
 protected:
  RdmaProcessTest() {
    network_.rdma().add_device(1, 0);
    process_ = std::make_unique<ProcessRdma>(world_, network_.rdma(), 1, "p", 0);
    auto poller = rdma::Poller::make(loop_, *process_->devices(), {.staging = {{4096, 1}}});
    EXPECT_TRUE(poller.ok());
    poller_ = std::move(*poller);
    auto pair = rdma::QueuePair::make(process_->devices()->rail(0).device.load(), transport::Role::kClient, 1);
    EXPECT_TRUE(pair.ok());
    pair_ = std::move(*pair);
  }
  /// Turns of the loop until it wants to sleep.
  size_t turns_until_sleep() {
    size_t turns = 0;
    do {
      loop_.run_once(kSecond);
    } while (++turns < 1000 && loop_.runnable());
    return turns;
  }

  World world_{1};
  Network network_{world_};
  SimLoop loop_{world_, network_, SimLoop::Likeness::kEpoll, 0};
  std::unique_ptr<ProcessRdma> process_;
  std::unique_ptr<rdma::Poller> poller_;
  std::unique_ptr<rdma::QueuePair> pair_;
};

TEST_F(RdmaProcessTest, a_loop_sleeps_when_its_last_queue_pair_is_gone) {
  IdleLink link(*pair_);
  ASSERT_TRUE(poller_->add(link));
  EXPECT_LT(turns_until_sleep(), 100u);
  poller_->remove(link);
  EXPECT_LT(turns_until_sleep(), 100u);
}

TEST_F(RdmaProcessTest, a_device_that_goes_is_noticed_and_is_a_rail_again_when_it_is_back) {
  IdleLink link(*pair_);
  ASSERT_TRUE(poller_->add(link));
  network_.rdma().remove_device(1, 0);
  for (int i = 0; i < 10; i++) loop_.run_once(20 * kMs);
  EXPECT_TRUE(link.gone());
  poller_->remove(link);
  loop_.run_once(kMs);
  EXPECT_EQ(process_->devices()->rail(0).device.load(), nullptr);
  network_.rdma().heal(1);
  world_.run_for(kSecond);
  const auto device = process_->devices()->rail(0).device.load();
  ASSERT_NE(device, nullptr);
  EXPECT_NE(poller_->staging_memory().keys(0, *device), nullptr) << "memory is registered anew";
}

}  // namespace
}  // namespace memkv::sim
