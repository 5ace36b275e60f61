/// Transfers that are given up under way: quiet memory, bounded time. And threads.

#include <random>

#include "engine.h"
#include "engine_rig_testing.h"

namespace memkv::nixl::test {
namespace {

using Clock = std::chrono::steady_clock;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int kRoundsShare = 10;
#else
constexpr int kRoundsShare = 1;
#endif

/// The memory of transfers that were released: from then on it is ours, and must not change.
class Watched {
 public:
  explicit Watched(size_t bytes) : memory_(bytes) {}
  char* data() { return memory_.data(); }
  size_t size() const { return memory_.size(); }
  void mark(char byte) { std::fill(memory_.begin(), memory_.end(), mark_ = byte); }
  bool unchanged() const {
    return std::all_of(memory_.begin(), memory_.end(), [this](char byte) { return byte == mark_; });
  }

 private:
  std::vector<char> memory_;
  char mark_ = 0;
};

class EngineCancelThreads : public EngineTest {
 protected:
  const uint32_t seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  testing::ScopedTrace seed_shown_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
};

TEST_F(EngineCancelThreads, a_thousand_reads_released_in_flight_leave_the_memory_alone) {
  Agent agent(params());
  constexpr size_t kBytes = 2 << 20;
  auto out = pattern(kBytes, 1);
  ASSERT_EQ(agent.write({{out.data(), kBytes, "k"}}), Status::kSuccess);
  std::vector<Watched> slots(8, Watched(kBytes));
  for (int round = 0; round < 1000 / kRoundsShare; round++) {
    Watched& slot = slots[static_cast<size_t>(round) % slots.size()];
    ASSERT_TRUE(slot.unchanged()) << "round " << round;
    Agent::Transfer read = agent.prepare(Operation::kRead, {{slot.data(), kBytes, "k"}});
    agent.post(read);
    for (auto polls = random_() % 12; polls > 0; polls--) agent.check(read);
    const auto started = Clock::now();
    EXPECT_EQ(agent.release(read), Status::kSuccess);  // over tcp a read is quiet at once
    EXPECT_LT(Clock::now() - started, std::chrono::milliseconds(200));
    slot.mark(static_cast<char>(round));
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  for (const Watched& slot : slots) EXPECT_TRUE(slot.unchanged());
  std::vector<char> in(kBytes);
  EXPECT_EQ(agent.read({{in.data(), kBytes, "k"}}), Status::kSuccess);
  EXPECT_EQ(in, out);
}

TEST_F(EngineCancelThreads, fan_outs_released_in_flight_leave_the_memory_alone) {
  Agent agent(params());
  constexpr size_t kBytes = 1 << 20;
  auto out = pattern(kBytes, 1);
  ASSERT_EQ(agent.write({{out.data(), kBytes, "k"}}), Status::kSuccess);
  std::vector<Watched> slots(8, Watched(kBytes));
  std::vector<Element> elements;
  for (Watched& slot : slots) elements.push_back({slot.data(), kBytes, "k"});
  for (int round = 0; round < 100 / kRoundsShare; round++) {
    for (const Watched& slot : slots) ASSERT_TRUE(slot.unchanged()) << "round " << round;
    Agent::Transfer read = agent.prepare(Operation::kRead, elements);
    agent.post(read);
    for (auto polls = random_() % 20; polls > 0; polls--) agent.check(read);
    EXPECT_EQ(agent.release_at_last(read), Status::kSuccess);
    for (Watched& slot : slots) slot.mark(static_cast<char>(round));
  }
}

TEST_F(EngineCancelThreads, writes_released_in_flight_store_all_or_nothing) {
  Agent agent(params({{"write_mode", "replace"}}));
  constexpr size_t kBytes = 1 << 20;
  std::vector<char> out(kBytes), in(kBytes);
  for (int round = 0; round < 200 / kRoundsShare; round++) {
    std::fill(out.begin(), out.end(), static_cast<char>(round));
    Agent::Transfer write = agent.prepare(Operation::kWrite, {{out.data(), kBytes, "k"}});
    agent.post(write);
    for (auto polls = random_() % 10; polls > 0; polls--) agent.check(write);
    EXPECT_EQ(agent.release_at_last(write), Status::kSuccess);
    std::fill(out.begin(), out.end(), static_cast<char>(0xee));
    const Status status = agent.read({{in.data(), kBytes, "k"}});
    ASSERT_TRUE(status == Status::kSuccess || status == Status::kNotFound);
    if (status == Status::kNotFound) continue;
    ASSERT_TRUE(std::all_of(in.begin(), in.end(), [&](char byte) { return byte == in.front(); }));
    ASSERT_NE(in.front(), static_cast<char>(0xee));
  }
}

TEST_F(EngineCancelThreads, deregistration_stops_what_is_under_way) {
  Agent agent(params());
  constexpr size_t kBytes = 8 << 20;
  auto out = pattern(kBytes, 1);
  ASSERT_EQ(agent.write({{out.data(), kBytes, "k"}}), Status::kSuccess);
  for (int round = 0; round < 20; round++) {
    Watched slot(kBytes);
    abi::Metadata* memory = agent.add({{reinterpret_cast<uintptr_t>(slot.data()), kBytes, 0}, ""}, Memory::kDram);
    Agent::Transfer read = agent.lists(Operation::kRead, {{slot.data(), kBytes, "k"}});
    read.local.descs.front().metadata = memory;
    agent.prepare(read, Status::kSuccess);
    agent.post(read);
    for (auto polls = random_() % 5; polls > 0; polls--) agent.check(read);
    const bool under_way = read.status == Status::kInProgress;
    EXPECT_EQ(agent.remove(memory), Status::kSuccess);
    slot.mark('m');
    const Status status = agent.check(read);
    EXPECT_TRUE(!under_way || status == Status::kCanceled || status == Status::kSuccess);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_TRUE(slot.unchanged());
    EXPECT_EQ(agent.release(read), Status::kSuccess);
  }
}

TEST_F(EngineCancelThreads, the_end_of_a_backend_stops_what_is_under_way) {
  constexpr size_t kBytes = 16 << 20;
  Watched slot(kBytes);
  auto agent = std::make_unique<Agent>(params());
  ASSERT_EQ(agent->write({{slot.data(), kBytes, "k"}}), Status::kSuccess);
  Agent::Transfer read = agent->prepare(Operation::kRead, {{slot.data(), kBytes, "k"}});
  agent->post(read);
  server_->freeze();
  const auto started = Clock::now();
  agent.reset();
  EXPECT_LT(Clock::now() - started, std::chrono::seconds(2));
  slot.mark('m');
  server_->thaw();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(slot.unchanged());
}

TEST_F(EngineCancelThreads, a_server_killed_in_the_middle_ends_all_transfers) {
  Agent agent(params({{"timeout_ms", "1000"}}));
  constexpr size_t kBytes = 8 << 20;
  auto out = pattern(kBytes, 1);
  ASSERT_EQ(agent.write({{out.data(), kBytes, "k"}}), Status::kSuccess);
  std::vector<std::vector<char>> in(4, std::vector<char>(kBytes));
  std::vector<Agent::Transfer> transfers;
  for (auto& one : in) transfers.push_back(agent.prepare(Operation::kRead, {{one.data(), kBytes, "k"}}));
  transfers.push_back(agent.prepare(Operation::kWrite, {{out.data(), kBytes, "k2"}}));
  for (auto& transfer : transfers) agent.post(transfer);
  server_->kill_now();
  const auto started = Clock::now();
  for (size_t i = 0; i < transfers.size(); i++) {
    const Status status = agent.finish(transfers[i]);
    EXPECT_TRUE(status != Status::kSuccess || i >= in.size() || in[i] == out);
    EXPECT_TRUE(status == Status::kSuccess || status == Status::kBackend);
    EXPECT_EQ(agent.release(transfers[i]), Status::kSuccess);
  }
  EXPECT_LT(Clock::now() - started, std::chrono::seconds(3));
}

// Threads.

using EngineThreads = EngineTest;

TEST_F(EngineThreads, sixty_four_of_them_read_write_and_ask) {
  Agent agent(params({{"io_threads", "2"}}));
  agent.memory();
  constexpr int kThreads = 64, kRounds = 10;
  constexpr size_t kBytes = 20'000;
  const auto key_of = [](int thread, int round) { return std::to_string(thread) + "/" + std::to_string(round % 3); };
  for (int thread = 0; thread < kThreads; thread++) {  // NIXL holds its lock alone to register
    for (int round = 0; round < 3; round++) agent.object(key_of(thread, round));
  }
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; thread++) {
    threads.emplace_back([&, thread] {
      std::vector<char> in(kBytes);
      for (int round = 0; round < kRounds; round++) {
        auto out = pattern(kBytes, static_cast<uint32_t>(thread * 1000 + round));
        const std::string key = key_of(thread, round);
        EXPECT_EQ(agent.write({{out.data(), kBytes, key}}), Status::kSuccess);
        EXPECT_EQ(agent.query({key, "none"}), (std::vector<bool>{true, false}));
        EXPECT_EQ(agent.read({{in.data(), kBytes, key}}), Status::kSuccess);
        EXPECT_EQ(in, out);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(EngineThreads, registrations_go_on_beside_transfers) {
  Agent agent(params());
  agent.memory();
  agent.object("k");
  std::vector<char> out(1000, 'x');
  agent.write({{out.data(), 1000, "k"}});
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      abi::Metadata* object = agent.add(Agent::object_desc("k", 0), Memory::kObject);
      EXPECT_EQ(agent.remove(object), Status::kSuccess);
    }
  });
  std::vector<char> in(1000);
  for (int round = 0; round < 300; round++) EXPECT_EQ(agent.read({{in.data(), 1000, "k"}}), Status::kSuccess);
  stop = true;
  other.join();
}

/// Long after its caller, and the progress thread with it, came to trust in polls.
TEST_F(EngineThreads, a_transfer_that_nobody_polls_goes_on) {
  Agent agent(params());
  constexpr size_t kBytes = 8 << 20;
  std::vector<char> warm(1000, 'w');
  const auto polled_until = Clock::now() + std::chrono::milliseconds(150);
  while (Clock::now() < polled_until) ASSERT_EQ(agent.write({{warm.data(), warm.size(), "w"}}), Status::kSuccess);
  auto out = pattern(kBytes, 1);
  ASSERT_EQ(agent.write({{out.data(), kBytes, "k"}}), Status::kSuccess);
  std::vector<char> in(kBytes);
  Agent::Transfer read = agent.prepare(Operation::kRead, {{in.data(), kBytes, "k"}});
  agent.post(read);
  const auto end = Clock::now() + std::chrono::seconds(20);
  while (static_cast<TransferHandle*>(read.handle)->request->status() == Status::kInProgress && Clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(agent.check(read), Status::kSuccess);
  EXPECT_EQ(in, out);
  agent.release(read);
}

}  // namespace
}  // namespace memkv::nixl::test
