/// A transfer that is posted again allocates nothing in the thread that posts and polls it; one that finds no memory
/// when it is posted for the first time fails alone.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <thread>

#include "base/allocation_counter_testing.h"
#include "copier.h"
#include "cuda_testing.h"
#include "engine_rig_testing.h"

namespace memkv::nixl::test {
namespace {

constexpr size_t kBytes = 1000, kElements = 64;

/// The fewest of several reposts: what grows once, to a size that it then keeps, is no price of a repost.
size_t allocations_of_a_repost(Agent& agent, Agent::Transfer& transfer) {
  size_t fewest = SIZE_MAX;
  for (int repost = 0; repost < 10 && fewest > 0; repost++) {
    const base::AllocationCounter counter;
    agent.post(transfer);
    const Status status = agent.finish(transfer);
    fewest = std::min(fewest, counter.count());
    EXPECT_EQ(status, Status::kSuccess);
  }
  return fewest;
}

/// Runs `count` jobs one after the other, then starts all of them again at once: what those starts allocate.
size_t allocations_of_restarts(Copier& copier, const std::vector<Copy>& copies, size_t count) {
  std::deque<CopyJob> jobs(count);
  const auto wait = [](const CopyJob& job) {
    while (!job.done()) std::this_thread::yield();
  };
  for (CopyJob& job : jobs) {
    job.copies = copies;
    copier.start(job);
    wait(job);
  }
  const base::AllocationCounter counter;
  for (CopyJob& job : jobs) copier.start(job);
  const size_t allocations = counter.count();
  for (CopyJob& job : jobs) wait(job);
  return allocations;
}

TEST(CopierAllocations, however_many_jobs_wait_starting_them_again_allocates_nothing) {
  fake_cuda();
  constexpr size_t kJobs = 300, kJobBytes = 4096;
  Copier copier({.threads = 1, .inline_bytes_max = 0});
  ASSERT_TRUE(copier.start_cuda());
  std::vector<char> from(kJobBytes, 'x'), to(kJobBytes);
  const std::vector<Copy> on_host = {{host_place(from.data()), host_place(to.data()), kJobBytes}};
  EXPECT_EQ(allocations_of_restarts(copier, on_host, kJobs), 0u);
  const DeviceMemory device(kJobBytes);
  const std::vector<Copy> to_device = {{host_place(from.data()), device.place(), kJobBytes}};
  EXPECT_EQ(allocations_of_restarts(copier, to_device, kJobs), 0u);
}

TEST_F(EngineTest, a_repost_of_distinct_keys_allocates_nothing) {
  Agent agent(params());
  std::vector<char> memory(kBytes * kElements, 'x');
  std::vector<Element> elements;
  for (size_t i = 0; i < kElements; i++) elements.push_back({&memory[i * kBytes], kBytes, "k" + std::to_string(i)});
  Agent::Transfer write = agent.prepare(Operation::kWrite, elements);
  EXPECT_EQ(allocations_of_a_repost(agent, write), 0u);
  Agent::Transfer read = agent.prepare(Operation::kRead, elements);
  EXPECT_EQ(allocations_of_a_repost(agent, read), 0u);
  agent.release(read);
  agent.release(write);
}

TEST_F(EngineTest, what_a_first_post_allocates_is_counted) {
  Agent agent(params());
  std::vector<char> memory(kBytes, 'x');
  const base::AllocationCounter counter;
  agent.write({{memory.data(), kBytes, "k"}});
  EXPECT_GT(counter.count(), 0u);
}

TEST_F(EngineTest, a_repost_with_copies_allocates_nothing) {
  Agent agent(params());
  std::vector<char> memory(kBytes * kElements, 'x');
  agent.write({{memory.data(), kBytes, "k"}});
  std::vector<Element> elements;
  for (size_t i = 0; i < kElements; i++) elements.push_back({&memory[i * kBytes], kBytes, "k"});
  Agent::Transfer read = agent.prepare(Operation::kRead, elements);
  EXPECT_EQ(allocations_of_a_repost(agent, read), 0u);
  agent.release(read);
}

TEST_F(EngineTest, a_repost_from_and_to_vram_allocates_nothing) {
  fake_cuda();
  Agent agent(params());
  constexpr size_t kSize = (5 << 20) + 3;
  const DeviceMemory memory(2 * kSize);
  abi::Metadata* tensor = agent.add({{memory.place().address, 2 * kSize, 0}, ""}, Memory::kVram);
  for (const Operation operation : {Operation::kWrite, Operation::kRead}) {
    Agent::Transfer transfer;
    transfer.operation = operation;
    transfer.local.memory = Memory::kVram;
    transfer.remote.memory = Memory::kObject;
    for (size_t i = 0; i < 2; i++) {
      const std::string key = operation == Operation::kRead ? "tensor0" : "tensor" + std::to_string(i);
      transfer.local.descs.push_back({{memory.place().address + i * kSize, kSize, 0}, tensor});
      transfer.remote.descs.push_back({{0, kSize, 0}, agent.object(key)});
    }
    agent.prepare(transfer, Status::kSuccess);
    EXPECT_EQ(allocations_of_a_repost(agent, transfer), 0u) << (operation == Operation::kRead ? "read" : "write");
    agent.release(transfer);
  }
  agent.remove(tensor);
}

// C18: what there is no memory for fails alone, and only checkXfer tells.

/// Runs `call` with so many allocations granted. True: it needed more.
template <typename Fn>
bool runs_short(size_t granted, Fn&& call) {
  const base::AllocationCounter counter(granted);
  call();
  return counter.count() > granted;
}

class CaseC18Memory : public EngineTest {
 protected:
  /// A transfer whose registration, preparation and post get so many allocations each.
  static bool run(Agent& agent, Operation operation, std::vector<char>& memory, size_t granted, size_t& succeeded) {
    abi::Metadata* object = nullptr;
    Agent::Transfer transfer = agent.lists(operation, elements(memory));
    const abi::BlobDesc desc = Agent::object_desc("another key, too long for a string to hold inside", 100);
    bool is_short = runs_short(
        granted, [&] { EXPECT_EQ(agent.backend().registerMem(desc, Memory::kObject, object), Status::kSuccess); });
    is_short = runs_short(granted, [&] { agent.prepare(transfer, Status::kSuccess); }) || is_short;
    Status posted{};
    is_short = runs_short(granted, [&] { posted = agent.post(transfer); }) || is_short;
    EXPECT_TRUE(posted == Status::kInProgress || posted == Status::kSuccess);
    const Status ended = agent.finish(transfer);
    EXPECT_TRUE(ended == Status::kSuccess || ended == Status::kBackend) << static_cast<int>(ended);
    succeeded += ended == Status::kSuccess;
    EXPECT_EQ(agent.release(transfer), Status::kSuccess);
    EXPECT_EQ(agent.remove(object), Status::kSuccess);
    return is_short;
  }
  static std::vector<Element> elements(std::vector<char>& memory) {
    std::vector<Element> list;
    for (size_t i = 0; i < kElements; i++) list.push_back({&memory[i * kBytes], kBytes, "k" + std::to_string(i)});
    return list;
  }
};

TEST_F(CaseC18Memory, a_transfer_without_memory_fails_alone) {
  Agent agent(params({{"io_threads", "1"}}));
  std::vector<char> memory(kBytes * kElements, 'x');
  ASSERT_EQ(agent.write(elements(memory)), Status::kSuccess);
  for (const Operation operation : {Operation::kRead, Operation::kWrite}) {
    size_t granted = 0, succeeded = 0;
    while (run(agent, operation, memory, granted, succeeded)) granted++;
    EXPECT_GT(granted, 2u);
    EXPECT_EQ(succeeded, 1u) << "the one that had all that it asked for";
    EXPECT_EQ(agent.read(elements(memory)), Status::kSuccess);
  }
}

TEST_F(CaseC18Memory, a_question_without_memory_finds_nothing) {
  Agent agent(params({{"io_threads", "1"}}));
  std::vector<char> memory(kBytes * kElements, 'x');
  ASSERT_EQ(agent.write(elements(memory)), Status::kSuccess);
  abi::BlobList list;
  list.memory = Memory::kObject;
  for (size_t i = 0; i < kElements; i++) list.descs.push_back(Agent::object_desc("k" + std::to_string(i), 1));
  abi::QueryResponse answers(kElements);
  EXPECT_TRUE(runs_short(1, [&] { EXPECT_EQ(agent.backend().queryMem(list, answers), Status::kSuccess); }));
  for (const auto& one : answers) EXPECT_FALSE(one.has_value());
  EXPECT_EQ(agent.query({"k1"}), std::vector<bool>{true});
}

}  // namespace
}  // namespace memkv::nixl::test
