/// The simulated NICs, with the product's own queue pairs on them.

#include "sim/fabric.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "sim/calls.h"
#include "sim/network.h"
#include "sim/wire.h"
#include "transport/rdma/queue_pair.h"

namespace memkv::sim {
namespace {

namespace rdma = transport::rdma;

constexpr uint32_t kClient = 100, kServer = 1;

/// A client's and a server's queue pair, connected, and a page of the client's memory.
class FabricTest : public testing::Test {
 protected:
  FabricTest() {
    for (const uint32_t host : {kClient, kServer}) {
      fabric_.add_device(host, 0);
      use_host(host);
      auto device = rdma::Device::open(Fabric::verbs(), "sim0");
      EXPECT_TRUE(device.ok());
      devices_.push_back(std::move(*device));
      const auto role = host == kClient ? transport::Role::kClient : transport::Role::kServer;
      auto pair = rdma::QueuePair::make(devices_.back(), role, host);
      EXPECT_TRUE(pair.ok());
      pairs_.push_back(std::move(*pair));
    }
    EXPECT_TRUE(pairs_[0]->connect(pairs_[1]->local()).ok());
    EXPECT_TRUE(pairs_[1]->connect(pairs_[0]->local()).ok());
    lent_ = lend(0, lent_bytes_, IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_WRITE);
    own_ = lend(1, own_bytes_, IBV_ACCESS_LOCAL_WRITE);
  }
  ~FabricTest() override {
    for (ibv_mr* memory : {lent_, own_}) {
      if (memory != nullptr) Fabric::verbs().dereg_mr(memory);
    }
    pairs_.clear();
  }

  ibv_mr* lend(size_t end, std::vector<std::byte>& bytes, int access) {
    return Fabric::verbs().reg_mr(devices_[end]->pd(), bytes.data(), bytes.size(), access);
  }
  /// The server writes to the client's memory and says so.
  void write_and_tell(uint64_t to, uint32_t key) {
    pairs_[1]->begin();
    const rdma::LocalPiece from{own_bytes_.data(), static_cast<uint32_t>(own_bytes_.size()), own_->lkey};
    pairs_[1]->write({&from, 1}, to, key);
    pairs_[1]->send(0, 8, 1);
    EXPECT_TRUE(pairs_[1]->end());
  }
  /// Completions of one end within ten seconds.
  std::vector<ibv_wc> wait(size_t end) {
    std::vector<ibv_wc> all(64);
    int count = 0;
    const uint64_t until = world_.now_ns() + 10 * kSecond;
    while ((count = pairs_[end]->poll(all)) == 0 && world_.step(until)) {
    }
    all.resize(static_cast<size_t>(count));
    return all;
  }
  bool untouched() const {
    return std::all_of(lent_bytes_.begin(), lent_bytes_.end(), [](std::byte b) { return b == std::byte{1}; });
  }

  World world_{1};
  Network network_{world_};
  Fabric& fabric_ = network_.rdma();
  std::vector<std::shared_ptr<rdma::Device>> devices_;
  std::vector<std::unique_ptr<rdma::QueuePair>> pairs_;
  std::vector<std::byte> lent_bytes_ = std::vector<std::byte>(4096, std::byte{1});
  std::vector<std::byte> own_bytes_ = std::vector<std::byte>(4096, std::byte{2});
  ibv_mr* lent_ = nullptr;
  ibv_mr* own_ = nullptr;
};

TEST_F(FabricTest, what_was_written_is_there_before_the_message_behind_it) {
  write_and_tell(reinterpret_cast<uint64_t>(lent_->addr), lent_->rkey);
  const auto got = wait(0);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(rdma::QueuePair::is_message(got[0]));
  EXPECT_EQ(lent_bytes_, own_bytes_);
  EXPECT_EQ(wait(1).at(0).status, IBV_WC_SUCCESS);
  EXPECT_EQ(fabric_.complaint(), "");
}

TEST_F(FabricTest, a_key_that_is_not_known_fails_both_ends_and_writes_nothing) {
  write_and_tell(reinterpret_cast<uint64_t>(lent_->addr), lent_->rkey + 2000);
  EXPECT_EQ(wait(1).at(0).status, IBV_WC_REM_ACCESS_ERR);
  EXPECT_EQ(wait(0).at(0).status, IBV_WC_WR_FLUSH_ERR);
  EXPECT_TRUE(untouched());
  EXPECT_NE(fabric_.complaint(), "");
}

TEST_F(FabricTest, no_byte_is_written_behind_the_registered_range) {
  write_and_tell(reinterpret_cast<uint64_t>(lent_->addr) + 1, lent_->rkey);
  EXPECT_EQ(wait(1).at(0).status, IBV_WC_REM_ACCESS_ERR);
  EXPECT_TRUE(untouched());
}

TEST_F(FabricTest, memory_that_is_deregistered_in_flight_is_not_written) {
  write_and_tell(reinterpret_cast<uint64_t>(lent_->addr), lent_->rkey);
  Fabric::verbs().dereg_mr(std::exchange(lent_, nullptr));
  EXPECT_EQ(wait(1).at(0).status, IBV_WC_REM_ACCESS_ERR);
  EXPECT_TRUE(untouched());
}

TEST_F(FabricTest, a_process_that_was_killed_has_its_memory_to_itself) {
  write_and_tell(reinterpret_cast<uint64_t>(lent_->addr), lent_->rkey);
  network_.kill_host(kClient);
  EXPECT_EQ(wait(1).at(0).status, IBV_WC_RETRY_EXC_ERR);
  EXPECT_TRUE(untouched());
  EXPECT_EQ(fabric_.complaint(), "") << "nobody did wrong";
}

TEST_F(FabricTest, a_rail_that_is_dark_for_long_fails_the_queue_pair_and_a_short_darkness_does_not) {
  fabric_.faults(kServer).dark_ns[0] = world_.now_ns() + 100 * kMs;
  write_and_tell(reinterpret_cast<uint64_t>(lent_->addr), lent_->rkey);
  EXPECT_EQ(wait(1).at(0).status, IBV_WC_SUCCESS);
  fabric_.faults(kServer).dark_ns[0] = world_.now_ns() + 60 * kSecond;
  write_and_tell(reinterpret_cast<uint64_t>(lent_->addr), lent_->rkey);
  EXPECT_EQ(wait(1).at(0).status, IBV_WC_RETRY_EXC_ERR);
}

TEST_F(FabricTest, a_device_that_is_gone_is_not_there_for_anybody) {
  fabric_.remove_device(kServer, 0);
  devices_[1]->look();
  EXPECT_TRUE(devices_[1]->dead());
  use_host(kServer);
  EXPECT_FALSE(rdma::Device::open(Fabric::verbs(), "sim0").ok());
  fabric_.heal(kServer);
  EXPECT_TRUE(rdma::Device::open(Fabric::verbs(), "sim0").ok());
}

}  // namespace
}  // namespace memkv::sim
