/// The backend with memory on CUDA devices, over the stand-in runtime and against a real server.

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <future>
#include <random>

#include "cuda_testing.h"
#include "engine.h"
#include "engine_rig_testing.h"
#include "memkv/client.h"

namespace memkv::nixl::test {
namespace {

constexpr size_t kChunk = 2 << 20;

using Bytes = std::vector<unsigned char>;

Bytes bytes_of(size_t size, uint32_t seed) {
  const std::vector<char> text = pattern(size, seed);
  return {text.begin(), text.end()};
}

/// VRAM and what an agent knows of it.
struct Tensor {
  Tensor(Agent& owner, size_t bytes, uint32_t device = 0) : agent(owner), memory(bytes, device), size(bytes) {
    registered = agent.add({{memory.place().address, bytes, device}, ""}, Memory::kVram);
  }
  ~Tensor() { agent.remove(registered); }
  Agent& agent;
  DeviceMemory memory;
  size_t size;
  abi::Metadata* registered;
};

/// One element of a transfer with VRAM.
struct Part {
  Tensor* tensor;
  size_t at;  ///< in the tensor
  size_t length;
  std::string key;
  uint64_t offset = 0;
};

class EngineVramThreads : public EngineTest {
 protected:
  EngineVramThreads() { fake_cuda(); }

  static Agent::Transfer lists(Agent& agent, Operation operation, const std::vector<Part>& parts) {
    Agent::Transfer transfer;
    transfer.operation = operation;
    transfer.local.memory = Memory::kVram;
    transfer.remote.memory = Memory::kObject;
    for (const Part& part : parts) {
      const Place place = part.tensor->memory.place() + part.at;
      transfer.local.descs.push_back({{place.address, part.length, place.device}, part.tensor->registered});
      transfer.remote.descs.push_back({{part.offset, part.length, 0}, agent.object(part.key)});
    }
    return transfer;
  }
  /// Of a block that was just written.
  static Agent::Transfer prepare_read(Agent& agent, Tensor& tensor) {
    Bytes source = bytes_of(tensor.size, 3);
    EXPECT_EQ(agent.write({{source.data(), source.size(), "held"}}), Status::kSuccess);
    Agent::Transfer transfer = lists(agent, Operation::kRead, {{&tensor, 0, tensor.size, "held"}});
    agent.prepare(transfer, Status::kSuccess);
    return transfer;
  }

  /// Streams are held.
  static void release_while_copied(Agent& agent, Agent::Transfer& transfer) {
    agent.post(transfer);
    while (fake_counts().queued == 0) agent.check(transfer);
    EXPECT_EQ(agent.release(transfer), Status::kRepostActive);
  }
  static Status run(Agent& agent, Operation operation, const std::vector<Part>& parts) {
    Agent::Transfer transfer = lists(agent, operation, parts);
    agent.prepare(transfer, Status::kSuccess);
    agent.post(transfer);
    const Status status = agent.finish(transfer);
    EXPECT_EQ(agent.release(transfer), Status::kSuccess);
    return status;
  }
  static Status read(Agent& agent, const std::vector<Part>& parts) { return run(agent, Operation::kRead, parts); }
  static Status write(Agent& agent, const std::vector<Part>& parts) { return run(agent, Operation::kWrite, parts); }
  static const Counters& counters(Agent& agent) { return static_cast<Engine&>(agent.backend()).counters(); }
};

TEST_F(EngineVramThreads, what_vram_writes_vram_and_host_read_and_the_other_way_round) {
  Agent agent(params({{"write_mode", "replace"}}));
  for (const size_t size : {size_t{1}, size_t{4096}, size_t{1} << 20, size_t{5} * kChunk / 2 + 17, 8 * kChunk}) {
    const std::string key = "block" + std::to_string(size);
    const Bytes source = bytes_of(size, 7);
    Tensor from(agent, size, 0), into(agent, size, 1);
    from.memory.write(source);
    ASSERT_EQ(write(agent, {{&from, 0, size, key}}), Status::kSuccess);
    ASSERT_EQ(read(agent, {{&into, 0, size, key}}), Status::kSuccess);
    EXPECT_EQ(into.memory.bytes(), source);
    Bytes host(size);
    ASSERT_EQ(agent.read({{host.data(), size, key}}), Status::kSuccess);
    EXPECT_EQ(host, source);
    Bytes changed = bytes_of(size, 8);
    ASSERT_EQ(agent.write({{changed.data(), size, key}}), Status::kSuccess);
    ASSERT_EQ(read(agent, {{&into, 0, size, key}}), Status::kSuccess);
    EXPECT_EQ(into.memory.bytes(), changed);
  }
}

TEST_F(EngineVramThreads, sixteen_reads_of_one_block_are_one_wire_operation_and_fifteen_copies) {
  Agent agent(params());
  const size_t size = 3 * kChunk + 5;
  Bytes source = bytes_of(size, 3);
  ASSERT_EQ(agent.write({{source.data(), size, "shared"}}), Status::kSuccess);
  const uint64_t wire_ops = counters(agent).read_wire_ops.value();
  std::vector<std::unique_ptr<Tensor>> tensors;
  std::vector<Part> parts;
  for (uint32_t i = 0; i < 16; i++) {
    tensors.push_back(std::make_unique<Tensor>(agent, size, i % 2));
    parts.push_back({tensors.back().get(), 0, size, "shared"});
  }
  ASSERT_EQ(read(agent, parts), Status::kSuccess);
  for (const auto& tensor : tensors) EXPECT_EQ(tensor->memory.bytes(), source);
  EXPECT_EQ(counters(agent).read_wire_ops.value() - wire_ops, 1u);
  EXPECT_EQ(counters(agent).copies.value(), 15u);
}

TEST_F(EngineVramThreads, ranges_of_many_keys_land_where_they_belong) {
  const uint64_t seed = 4711;
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  Agent agent(params());
  const size_t size = 2 * kChunk + 999;
  std::vector<Bytes> blocks;
  for (uint32_t i = 0; i < 3; i++) {
    blocks.push_back(bytes_of(size, i));
    ASSERT_EQ(agent.write({{blocks[i].data(), size, "many" + std::to_string(i)}}), Status::kSuccess);
  }
  Tensor into(agent, 4 * size);
  for (int round = 0; round < 10; round++) {
    Bytes expected = into.memory.bytes();
    std::vector<Part> parts;
    for (size_t at = 0; at + size < 4 * size;) {
      const size_t key = random() % 3, offset = random() % size, length = 1 + random() % (size - offset);
      parts.push_back({&into, at, length, "many" + std::to_string(key), offset});
      std::copy_n(blocks[key].begin() + static_cast<std::ptrdiff_t>(offset), length,
                  expected.begin() + static_cast<std::ptrdiff_t>(at));
      at += length;
    }
    ASSERT_EQ(read(agent, parts), Status::kSuccess);
    ASSERT_EQ(into.memory.bytes(), expected) << "round " << round;
  }
}

TEST_F(EngineVramThreads, one_miss_fails_the_request_and_the_rest_is_delivered) {
  Agent agent(params());
  Bytes source = bytes_of(kChunk, 3);
  ASSERT_EQ(agent.write({{source.data(), kChunk, "there"}}), Status::kSuccess);
  Tensor good(agent, kChunk), bad(agent, kChunk);
  EXPECT_EQ(read(agent, {{&bad, 0, kChunk, "absent"}, {&good, 0, kChunk, "there"}}), Status::kNotFound);
  EXPECT_EQ(good.memory.bytes(), source);
  Tensor longer(agent, 2 * kChunk);
  EXPECT_EQ(read(agent, {{&longer, 0, 2 * kChunk, "there"}}), Status::kNotFound) << "never zeros";
}

TEST_F(EngineVramThreads, write_modes_hold) {
  Agent agent(params({{"write_mode", "if_absent"}}));
  const Bytes first = bytes_of(kChunk + 9, 1);
  Tensor tensor(agent, first.size());
  tensor.memory.write(first);
  EXPECT_EQ(write(agent, {{&tensor, 0, tensor.size, "once"}}), Status::kSuccess);
  tensor.memory.write(bytes_of(first.size(), 2));
  EXPECT_EQ(write(agent, {{&tensor, 0, tensor.size, "once"}}), Status::kSuccess);
  EXPECT_EQ(counters(agent).already_present.value(), 1u);
  EXPECT_EQ(read(agent, {{&tensor, 0, tensor.size, "once"}}), Status::kSuccess);
  EXPECT_EQ(tensor.memory.bytes(), first);
}

TEST_F(EngineVramThreads, a_range_of_an_object_is_written_from_vram) {
  Agent agent(params());
  Bytes block = bytes_of(3 * kChunk, 1);
  ASSERT_EQ(agent.write({{block.data(), block.size(), "ranged"}}), Status::kSuccess);
  Tensor tensor(agent, kChunk);
  const Bytes middle = bytes_of(kChunk, 2);
  tensor.memory.write(middle);
  ASSERT_EQ(write(agent, {{&tensor, 0, kChunk, "ranged", 12345}}), Status::kSuccess);
  std::copy(middle.begin(), middle.end(), block.begin() + 12345);
  Bytes host(block.size());
  ASSERT_EQ(agent.read({{host.data(), host.size(), "ranged"}}), Status::kSuccess);
  EXPECT_EQ(host, block);
}

TEST_F(EngineVramThreads, what_is_put_and_what_is_written_beside_it_are_both_there) {
  for (const char* mode : {"replace", "if_absent"}) {
    Agent agent(params({{"write_mode", mode}, {"prefix", mode}}));
    const Bytes bytes = bytes_of(3 * kChunk, 1);
    Tensor from(agent, bytes.size()), into(agent, bytes.size());
    from.memory.write(bytes);
    const size_t first = 2 * kChunk + 5, gap = 1000;
    const std::vector<Part> parts{{&from, first, kChunk / 2, "both", first + gap}, {&from, 0, first, "both"}};
    ASSERT_EQ(write(agent, parts), Status::kSuccess);
    ASSERT_EQ(read(agent, {{&into, 0, first, "both"}, {&into, first, kChunk / 2, "both", first + gap}}),
              Status::kSuccess);
    const size_t written = first + kChunk / 2;
    EXPECT_EQ(std::memcmp(into.memory.bytes().data(), bytes.data(), written), 0);
    EXPECT_EQ(write(agent, parts), Status::kSuccess);
    EXPECT_EQ(counters(agent).already_present.value(), mode == std::string("if_absent") ? 2u : 0u);
  }
}

TEST_F(EngineVramThreads, a_write_larger_than_staging_is_refused_and_a_read_is_not) {
  Agent agent(params({{"staging_mb", "4"}}));
  const size_t size = 3 * kChunk;
  Tensor tensor(agent, size);
  Agent::Transfer transfer = lists(agent, Operation::kWrite, {{&tensor, 0, size, "large"}});
  agent.prepare(transfer, Status::kInvalidParam);
  Bytes source = bytes_of(size, 4);
  ASSERT_EQ(agent.write({{source.data(), size, "large"}}), Status::kSuccess);
  EXPECT_EQ(read(agent, {{&tensor, 0, size, "large"}}), Status::kSuccess);
  EXPECT_EQ(tensor.memory.bytes(), source);
}

TEST_F(EngineVramThreads, a_pool_of_two_slots_serves_many_threads) {
  Agent agent(params({{"staging_mb", "4"}, {"io_threads", "2"}}));
  std::vector<std::string> keys;
  for (int i = 0; i < 4; i++) agent.object(keys.emplace_back("busy" + std::to_string(i)));
  std::vector<std::thread> users;
  for (uint32_t user = 0; user < 4; user++) {
    users.emplace_back([&, user] {
      Tensor from(agent, 2 * kChunk - 1, user % 2), into(agent, 2 * kChunk - 1, user % 2);
      for (uint32_t round = 0; round < 5; round++) {
        from.memory.write(bytes_of(from.size, user * 100 + round));
        EXPECT_EQ(write(agent, {{&from, 0, from.size, keys[user]}}), Status::kSuccess);
        EXPECT_EQ(read(agent, {{&into, 0, into.size, keys[user]}}), Status::kSuccess);
        EXPECT_EQ(into.memory.bytes(), from.memory.bytes());
      }
    });
  }
  for (std::thread& user : users) user.join();
}

TEST_F(EngineVramThreads, a_posted_request_may_be_posted_again) {
  Agent agent(params());
  Tensor tensor(agent, kChunk + 1);
  Agent::Transfer out = lists(agent, Operation::kWrite, {{&tensor, 0, tensor.size, "again"}});
  Agent::Transfer in = lists(agent, Operation::kRead, {{&tensor, 0, tensor.size, "again"}});
  agent.prepare(out, Status::kSuccess);
  agent.prepare(in, Status::kSuccess);
  for (uint32_t round = 0; round < 5; round++) {
    const Bytes bytes = bytes_of(tensor.size, round);
    tensor.memory.write(bytes);
    agent.post(out);
    ASSERT_EQ(agent.finish(out), Status::kSuccess);
    tensor.memory.write(Bytes(tensor.size));
    agent.post(in);
    ASSERT_EQ(agent.finish(in), Status::kSuccess);
    ASSERT_EQ(tensor.memory.bytes(), bytes);
  }
  EXPECT_EQ(agent.release(out), Status::kSuccess);
  EXPECT_EQ(agent.release(in), Status::kSuccess);
}

TEST_F(EngineVramThreads, release_while_cuda_copies_says_so_and_then_the_memory_is_quiet) {
  Agent agent(params());
  Tensor tensor(agent, 4 * kChunk);
  Agent::Transfer transfer = prepare_read(agent, tensor);
  {
    const HeldStreams held;
    release_while_copied(agent, transfer);
    EXPECT_EQ(agent.check(transfer), Status::kInProgress);
  }
  EXPECT_EQ(agent.finish(transfer), Status::kCanceled);
  EXPECT_EQ(agent.release(transfer), Status::kSuccess);
  EXPECT_EQ(fake_counts().queued, 0u);
}

TEST_F(EngineVramThreads, a_second_release_waits_for_cuda) {
  Agent agent(params());
  Tensor tensor(agent, 4 * kChunk);
  Agent::Transfer transfer = prepare_read(agent, tensor);
  std::future<Status> second;
  {
    const HeldStreams held;
    release_while_copied(agent, transfer);
    second = std::async(std::launch::async, [&] { return agent.release(transfer); });
    EXPECT_EQ(second.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  }
  EXPECT_EQ(second.get(), Status::kSuccess);
  EXPECT_EQ(fake_counts().queued, 0u);
}

TEST_F(EngineVramThreads, after_a_release_in_flight_no_byte_changes) {
  std::mt19937_64 random(99);
  fake_cuda().delay_us(10);
  Agent agent(params());
  Bytes source = bytes_of(2 * kChunk, 3);
  ASSERT_EQ(agent.write({{source.data(), source.size(), "flying"}}), Status::kSuccess);
  Tensor tensor(agent, source.size());
  const Bytes sentinel(source.size(), 0x5a);
  for (int round = 0; round < 100; round++) {
    Agent::Transfer transfer = lists(agent, Operation::kRead, {{&tensor, 0, tensor.size, "flying"}});
    agent.prepare(transfer, Status::kSuccess);
    agent.post(transfer);
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(random() % 5000);
    while (std::chrono::steady_clock::now() < until) agent.check(transfer);
    ASSERT_EQ(agent.release_at_last(transfer), Status::kSuccess);
    tensor.memory.write(sentinel);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
    ASSERT_EQ(tensor.memory.bytes(), sentinel) << "round " << round;
  }
  fake_cuda().delay_us(0);
}

TEST_F(EngineVramThreads, after_a_release_of_a_write_in_flight_the_block_is_one_that_was_written) {
  std::mt19937_64 random(7);
  fake_cuda().delay_us(10);
  Agent agent(params({{"write_mode", "replace"}}));
  const size_t size = 3 * kChunk + 7;
  Tensor tensor(agent, size);
  std::vector<Bytes> written{bytes_of(size, 0)};
  tensor.memory.write(written[0]);
  const auto since = std::chrono::steady_clock::now();
  ASSERT_EQ(write(agent, {{&tensor, 0, size, "torn"}}), Status::kSuccess);
  const std::chrono::nanoseconds whole = std::chrono::steady_clock::now() - since;  // this machine's
  size_t landed = 0;
  for (uint32_t round = 1; round <= 25; round++) {
    tensor.memory.write(written.emplace_back(bytes_of(size, round)));
    Agent::Transfer transfer = lists(agent, Operation::kWrite, {{&tensor, 0, size, "torn"}});
    agent.prepare(transfer, Status::kSuccess);
    agent.post(transfer);
    const auto until = std::chrono::steady_clock::now() + whole * static_cast<int>(random() % 200) / 100;
    while (std::chrono::steady_clock::now() < until) agent.check(transfer);
    ASSERT_EQ(agent.release_at_last(transfer), Status::kSuccess);
    tensor.memory.write(Bytes(size, 0x5a));  // what is changed now may not reach the block
    Bytes got(size);
    ASSERT_EQ(agent.read({{got.data(), size, "torn"}}), Status::kSuccess);
    // One that was canceled behind its commit may land late.
    const auto found = std::find(written.begin() + static_cast<std::ptrdiff_t>(landed), written.end(), got);
    ASSERT_NE(found, written.end()) << "round " << round;
    landed = static_cast<size_t>(found - written.begin());
  }
  EXPECT_GT(landed, 0u);
  fake_cuda().delay_us(0);
}

TEST_F(EngineVramThreads, one_missing_byte_of_a_cluster_does_not_cost_the_others_theirs) {
  Agent agent(params());
  const size_t size = 2 * kChunk + 10;
  Bytes source = bytes_of(size, 3);
  ASSERT_EQ(agent.write({{source.data(), size, "short"}}), Status::kSuccess);
  Tensor first(agent, kChunk), second(agent, kChunk), third(agent, kChunk, 1);
  // One cluster: the last one's end is not there.
  const std::vector<Part> parts{{&first, 0, kChunk, "short", 0},
                                {&second, 0, kChunk, "short", kChunk / 2},
                                {&third, 0, kChunk, "short", kChunk + 11}};
  Agent::Transfer transfer = lists(agent, Operation::kRead, parts);
  agent.prepare(transfer, Status::kSuccess);
  for (int post = 0; post < 2; post++) {
    for (Tensor* tensor : {&first, &second, &third}) tensor->memory.write(Bytes(kChunk, 0));
    agent.post(transfer);
    EXPECT_EQ(agent.finish(transfer), Status::kNotFound);
    EXPECT_EQ(first.memory.bytes(), Bytes(source.begin(), source.begin() + kChunk));
    EXPECT_EQ(second.memory.bytes(), Bytes(source.begin() + kChunk / 2, source.begin() + kChunk / 2 + kChunk));
  }
  EXPECT_EQ(agent.release(transfer), Status::kSuccess);
}

TEST_F(EngineVramThreads, what_cuda_refuses_fails_the_request) {
  Agent agent(params());
  Tensor tensor(agent, kChunk);
  const FailingCall failing("MemcpyAsync", 2);
  EXPECT_EQ(write(agent, {{&tensor, 0, kChunk, "refused"}}), Status::kBackend);
  EXPECT_EQ(agent.query({"refused"}), std::vector<bool>{false});
}

TEST_F(EngineVramThreads, what_cuda_refused_once_is_not_told_of_again) {
  Agent agent(params());
  Tensor tensor(agent, 2 * kChunk);
  Agent::Transfer transfer = prepare_read(agent, tensor);
  {
    const FailingCall failing("MemcpyAsync", 2);
    agent.post(transfer);
    EXPECT_EQ(agent.finish(transfer), Status::kBackend);
  }
  auto client = Client::connect({.servers = {server_->address()}}).value();
  EXPECT_TRUE(client.remove("held").hit());
  agent.post(transfer);
  EXPECT_EQ(agent.finish(transfer), Status::kNotFound);
  EXPECT_EQ(agent.release(transfer), Status::kSuccess);
}

TEST_F(EngineVramThreads, memory_of_the_host_is_not_vram) {
  Agent agent(params());
  const Bytes host(16);
  agent.add({{reinterpret_cast<uintptr_t>(host.data()), 16, 0}, ""}, Memory::kVram, Status::kInvalidParam);
}

/// In a process that has loaded nothing yet, with a server of its own.
class EngineVramDeathTest : public EngineTest {
 protected:
  template <typename F>
  [[noreturn]] void exit_with(const F& body) {
    const int code = body();
    server_.reset();
    _exit(code);
  }
};

bool maps_mention(const std::string& word) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(word) != std::string::npos) return true;
  }
  return false;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // sanitizers end a process that gets no memory
/// While it lives, the process can have no more than a few MiB that it has not.
class MemoryLimit {
 public:
  MemoryLimit() {
    uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    getrlimit(RLIMIT_AS, &before_);
    const rlimit tight{pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE)) + (4 << 20), before_.rlim_max};
    setrlimit(RLIMIT_AS, &tight);
  }
  ~MemoryLimit() { setrlimit(RLIMIT_AS, &before_); }

 private:
  rlimit before_{};
};

TEST_F(EngineVramDeathTest, without_memory_and_threads_transfers_fail_and_the_agent_stays) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto body = [this] {
    setenv("MEMKV_CUDART", FAKE_CUDART, 1);
    Agent agent(params());
    Bytes bytes = bytes_of(200'000, 1);
    std::vector<Element> elements;
    for (size_t i = 0; i < bytes.size(); i++) elements.push_back({&bytes[i], 1, "plain", i});
    Agent::Transfer many = agent.lists(Operation::kRead, elements);
    abi::BlobList questions;
    questions.memory = Memory::kObject;
    questions.descs.assign(bytes.size(), Agent::object_desc("plain", 1));
    abi::QueryResponse answers;
    try {
      const MemoryLimit limit;
      agent.prepare(many, Status::kSuccess);
      if (agent.post(many) != Status::kInProgress || agent.finish(many) != Status::kBackend) return 6;
      if (agent.release(many) != Status::kSuccess) return 7;
      if (agent.backend().queryMem(questions, answers) != Status::kBackend) return 1;  // nor for the answers
      agent.add({{4096, 4096, 0}, ""}, Memory::kVram, Status::kBackend);
    } catch (const std::exception&) {
      return 5;  // it came out of a call
    }
    if (agent.write({{bytes.data(), bytes.size(), "plain"}}) != Status::kSuccess) return 2;
    agent.prepare(many, Status::kSuccess);
    if (agent.post(many), agent.finish(many) != Status::kSuccess) return 3;
    agent.release(many);
    return HasFailure() ? 4 : 0;
  };
  EXPECT_EXIT(exit_with(body), testing::ExitedWithCode(0),
              "a transfer cannot be prepared, it will fail.*\n.*keys cannot be asked.*\n.*no thread can be made");
}
#endif

TEST_F(EngineVramDeathTest, without_vram_cuda_is_not_loaded) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto body = [this] {
    setenv("MEMKV_CUDART", FAKE_CUDART, 1);
    Agent agent(params());
    Bytes bytes = bytes_of(kChunk, 1);
    if (agent.write({{bytes.data(), kChunk, "plain"}}) != Status::kSuccess) return 1;
    if (agent.read({{bytes.data(), kChunk, "plain"}, {bytes.data(), kChunk, "plain"}}) != Status::kSuccess) return 2;
    return maps_mention("cudart") ? 3 : 0;
  };
  EXPECT_EXIT(exit_with(body), testing::ExitedWithCode(0), "");
}

TEST_F(EngineVramDeathTest, without_a_runtime_vram_is_refused_with_a_reason) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto body = [this] {
    setenv("MEMKV_CUDART", "/no/such/runtime.so", 1);
    Agent agent(params());
    agent.add({{4096, 4096, 0}, ""}, Memory::kVram, Status::kBackend);
    return HasFailure() ? 1 : 0;
  };
  EXPECT_EXIT(exit_with(body), testing::ExitedWithCode(0), "VRAM cannot be registered.*runtime.so");
}

}  // namespace
}  // namespace memkv::nixl::test
