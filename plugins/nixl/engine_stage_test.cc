/// What of a stage starts when: a copy waits for its own source, not for the wire operations beside it.

#include <optional>

#include "cuda_testing.h"
#include "engine.h"
#include "engine_rig_testing.h"
#include "memkv/client.h"

namespace memkv::nixl::test {
namespace {

constexpr size_t kBytes = 600 << 10;  // more than is copied in the thread that polls

/// Two servers of which one stands still, with a block on each.
class EngineStage : public EngineTest {
 protected:
  EngineStage() : second_(memkv::test::start_memory_server(second_dir_, "64MiB")), bytes_(pattern(kBytes, 1)) {
    fake_cuda();
    agent_.emplace(params({{"servers", server_->address() + "," + second_->address()}, {"timeout_ms", "20000"}}));
    const auto client = Client::connect({.servers = {server_->address(), second_->address()}}).value();
    for (int i = 0; early_.empty() || late_.empty(); i++) {
      const std::string key = "block" + std::to_string(i);
      (client.server_of(key) == 0 ? early_ : late_) = key;
    }
    EXPECT_EQ(agent_->write({{bytes_.data(), kBytes, early_}, {bytes_.data(), kBytes, late_}}), Status::kSuccess);
  }
  uint64_t copies() { return static_cast<Engine&>(agent_->backend()).counters().copies.value(); }
  void expect_copies_before_the_end(Agent::Transfer& transfer) {
    second_->freeze();
    agent_->post(transfer);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (copies() < 2 && std::chrono::steady_clock::now() < end) agent_->check(transfer);
    EXPECT_EQ(copies(), 2u);
    EXPECT_EQ(agent_->check(transfer), Status::kInProgress);
    second_->thaw();
    EXPECT_EQ(agent_->finish(transfer), Status::kSuccess);
    EXPECT_EQ(agent_->release(transfer), Status::kSuccess);
  }

  memkv::test::TempDir second_dir_;
  std::unique_ptr<memkv::test::ServerProcess> second_;
  std::vector<char> bytes_;
  std::optional<Agent> agent_;
  std::string early_, late_;
};
using EngineStageThreads = EngineStage;

TEST_F(EngineStageThreads, copies_in_memory_do_not_wait_for_another_server) {
  std::vector<std::vector<char>> memory(4, std::vector<char>(kBytes));
  Agent::Transfer transfer = agent_->prepare(Operation::kRead, {{memory[0].data(), kBytes, late_},
                                                                {memory[1].data(), kBytes, early_},
                                                                {memory[2].data(), kBytes, early_},
                                                                {memory[3].data(), kBytes, early_}});
  expect_copies_before_the_end(transfer);
  for (const auto& one : memory) EXPECT_EQ(one, bytes_);
}

TEST_F(EngineStageThreads, copies_in_vram_do_not_wait_for_another_server) {
  const DeviceMemory memory(4 * kBytes);
  abi::Metadata* tensor = agent_->add({{memory.place().address, 4 * kBytes, 0}, ""}, Memory::kVram);
  Agent::Transfer transfer;
  transfer.operation = Operation::kRead;
  transfer.local.memory = Memory::kVram;
  transfer.remote.memory = Memory::kObject;
  for (size_t i = 0; i < 4; i++) {
    transfer.local.descs.push_back({{memory.place().address + i * kBytes, kBytes, 0}, tensor});
    transfer.remote.descs.push_back({{0, kBytes, 0}, agent_->object(i == 0 ? late_ : early_)});
  }
  agent_->prepare(transfer, Status::kSuccess);
  expect_copies_before_the_end(transfer);
  const auto got = memory.bytes();
  for (size_t i = 0; i < 4; i++) EXPECT_EQ(std::memcmp(&got[i * kBytes], bytes_.data(), kBytes), 0) << i;
  agent_->remove(tensor);
}

TEST_F(EngineStageThreads, a_release_while_copies_and_wire_are_under_way_leaves_the_memory_alone) {
  std::vector<std::vector<char>> memory(4, std::vector<char>(kBytes));
  second_->freeze();
  for (int round = 0; round < 100; round++) {
    Agent::Transfer transfer = agent_->prepare(Operation::kRead, {{memory[0].data(), kBytes, late_},
                                                                  {memory[1].data(), kBytes, early_},
                                                                  {memory[2].data(), kBytes, early_},
                                                                  {memory[3].data(), kBytes, early_}});
    agent_->post(transfer);
    for (int poll = 0; poll < round * 3; poll++) agent_->check(transfer);
    while (agent_->release(transfer) != Status::kSuccess) agent_->check(transfer);
    for (auto& one : memory) std::fill(one.begin(), one.end(), 's');
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    for (const auto& one : memory) ASSERT_EQ(std::count(one.begin(), one.end(), 's'), ptrdiff_t{kBytes}) << round;
  }
  second_->thaw();
}

}  // namespace
}  // namespace memkv::nixl::test
