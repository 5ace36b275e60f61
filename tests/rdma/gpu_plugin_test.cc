/// The NIXL plugin with VRAM that NICs can reach. In the guest, like gpu_test.cc.

#include "engine.h"
#include "engine_rig_testing.h"
#include "tests/rdma/gpu_memory.h"

namespace memkv::nixl::test {
namespace {

using memkv::test::DeviceMemory;
using memkv::test::fill_pattern;
using memkv::test::pattern_seed;

constexpr size_t kMiB = 1 << 20;
constexpr size_t kBytes = 5 * kMiB + 100;

std::vector<std::byte> block(const std::string& key) {
  std::vector<std::byte> out(kBytes);
  fill_pattern(out.data(), kBytes, pattern_seed(key, 1));
  return out;
}

/// VRAM, and what the agent knows of it.
struct Tensor {
  explicit Tensor(Agent& owner) : agent(owner), memory(kBytes) {
    registered = agent.add({{reinterpret_cast<uintptr_t>(memory.data()), kBytes, 0}, ""}, Memory::kVram);
  }
  ~Tensor() { EXPECT_EQ(agent.remove(registered), Status::kSuccess); }
  Agent& agent;
  DeviceMemory memory;
  abi::Metadata* registered;
};

class GpuPluginTest : public testing::Test {
 protected:
  GpuPluginTest() {
    memkv::test::dmabuf_registration() = memkv::test::register_elsewhere;
    setenv("MEMKV_RDMA_DEVICES", "rxe1", 1);
    agent_ = std::make_unique<Agent>(abi::Params{{"servers", std::getenv("MEMKV_SERVERS")}, {"write_mode", "replace"}});
  }
  ~GpuPluginTest() override { unsetenv("MEMKV_RDMA_DEVICES"); }

  Status run(Operation operation, const std::vector<Tensor*>& tensors, const std::string& key) {
    Agent::Transfer transfer;
    transfer.operation = operation;
    transfer.local.memory = Memory::kVram;
    transfer.remote.memory = Memory::kObject;
    for (Tensor* tensor : tensors) {
      const auto address = reinterpret_cast<uintptr_t>(tensor->memory.data());
      transfer.local.descs.push_back({{address, kBytes, 0}, tensor->registered});
      transfer.remote.descs.push_back({{0, kBytes, 0}, agent_->object(key)});
    }
    agent_->prepare(transfer, Status::kSuccess);
    agent_->post(transfer);
    const Status status = agent_->finish(transfer);
    EXPECT_EQ(agent_->release(transfer), Status::kSuccess);
    return status;
  }
  uint64_t direct() { return static_cast<Engine&>(agent_->backend()).counters().vram_direct_bytes.value(); }
  uint64_t staged() { return static_cast<Engine&>(agent_->backend()).counters().vram_staged_bytes.value(); }

  std::unique_ptr<Agent> agent_;
};

TEST_F(GpuPluginTest, bytes_of_vram_go_directly) {
  Tensor from(*agent_), into(*agent_), also(*agent_);
  from.memory.write(0, block("direct"));
  ASSERT_EQ(run(Operation::kWrite, {&from}, "direct"), Status::kSuccess);
  ASSERT_EQ(run(Operation::kRead, {&into, &also}, "direct"), Status::kSuccess);
  EXPECT_TRUE(into.memory.read(0, kBytes) == block("direct"));
  EXPECT_TRUE(also.memory.read(0, kBytes) == block("direct")) << "a copy of the other";
  EXPECT_EQ(direct(), 2 * kBytes);
  EXPECT_EQ(staged(), 0u);
}

TEST_F(GpuPluginTest, without_a_rail_they_are_staged_and_directly_again_when_it_is_back) {
  Tensor from(*agent_), into(*agent_);
  from.memory.write(0, block("rail"));
  ASSERT_EQ(run(Operation::kWrite, {&from}, "rail"), Status::kSuccess);
  ASSERT_EQ(std::system("rdma link delete rxe1 &"), 0);  // it waits until we let go of the device
  const auto until = [&](auto&& reached) {
    for (const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10); !reached();) {
      if (std::chrono::steady_clock::now() > end) return false;
      into.memory.fill(std::byte{0xEE});
      EXPECT_EQ(run(Operation::kRead, {&into}, "rail"), Status::kSuccess);
      EXPECT_TRUE(into.memory.read(0, kBytes) == block("rail"));
    }
    return true;
  };
  EXPECT_TRUE(until([&] { return staged() > 0; })) << "reads went on by staging";
  EXPECT_EQ(run(Operation::kWrite, {&from}, "staged"), Status::kSuccess) << "and so do writes";
  EXPECT_GE(staged(), 2 * kBytes);
  EXPECT_TRUE(until([] { return std::system("rdma link add rxe1 type rxe netdev nic1") == 0; }));
  const uint64_t before = direct();
  EXPECT_TRUE(until([&] { return direct() > before; })) << "directly again";
}

}  // namespace
}  // namespace memkv::nixl::test
