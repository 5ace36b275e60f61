/// What a backend says of servers that are down or silent, of wrong parameters, and of pointers that are not its own.

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <filesystem>

#include "engine.h"
#include "engine_rig_testing.h"

namespace {

std::atomic<bool> no_threads{false};

}  // namespace

/// Threads can be had, or not, as a test wants it.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                              void* argument) {
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return no_threads ? EAGAIN : create(thread, attributes, run, argument);
}

namespace memkv::nixl::test {
namespace {

using memkv::test::ServerProcess;
using testing::internal::CaptureStderr;
using testing::internal::GetCapturedStderr;

const Counters& counters_of(Agent& agent) { return static_cast<Engine&>(agent.backend()).counters(); }

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

// C12: pointers that come back.

using CaseC12 = EngineTest;

TEST_F(CaseC12, a_registration_that_is_not_live_is_refused) {
  Agent agent(params()), other(params(), "MEMKV", "other");
  abi::Metadata* object = agent.add(Agent::object_desc("k", 100), Memory::kObject);
  abi::Metadata* theirs = other.add(Agent::object_desc("k", 100), Memory::kObject);
  EXPECT_EQ(agent.remove(object), Status::kSuccess);
  EXPECT_EQ(agent.remove(object), Status::kInvalidParam);
  abi::Metadata* next = agent.add(Agent::object_desc("next", 100), Memory::kObject);
  EXPECT_EQ(agent.remove(object), Status::kInvalidParam) << "its address must not name the next one";
  EXPECT_EQ(agent.remove(theirs), Status::kInvalidParam);
  abi::Metadata on_stack;
  EXPECT_EQ(agent.remove(&on_stack), Status::kInvalidParam);
  EXPECT_EQ(agent.remove(reinterpret_cast<abi::Metadata*>(0x10)), Status::kInvalidParam);
  EXPECT_EQ(agent.remove(reinterpret_cast<abi::Metadata*>(reinterpret_cast<char*>(next) + 8)), Status::kInvalidParam);
  abi::Metadata* loaded = nullptr;
  EXPECT_EQ(agent.backend().loadLocalMD(object, loaded), Status::kInvalidParam);
  EXPECT_EQ(agent.remove(next), Status::kSuccess);
  EXPECT_EQ(other.remove(theirs), Status::kSuccess);
}

TEST_F(CaseC12, a_transfer_that_names_one_is_refused) {
  Agent agent(params()), other(params(), "MEMKV", "other");
  std::vector<char> bytes(1000, 'x');
  abi::Metadata* stale = agent.add(Agent::object_desc("stale", 1000), Memory::kObject);
  ASSERT_EQ(agent.remove(stale), Status::kSuccess);
  for (abi::Metadata* wrong : {stale, other.object("k"), agent.memory(), static_cast<abi::Metadata*>(nullptr)}) {
    Agent::Transfer transfer = agent.lists(Operation::kRead, {{bytes.data(), bytes.size(), "k"}});
    transfer.remote.descs[0].metadata = wrong;
    agent.prepare(transfer, Status::kInvalidParam);
    EXPECT_EQ(transfer.handle, nullptr);
  }
  Agent::Transfer transfer = agent.lists(Operation::kRead, {{bytes.data(), bytes.size(), "k"}});
  transfer.local.descs[0].metadata = agent.object("k");
  agent.prepare(transfer, Status::kInvalidParam);
}

/// Its memory may be gone: nothing is written there.
TEST_F(CaseC12, a_transfer_whose_memory_was_deregistered_is_not_posted) {
  Agent agent(params());
  std::vector<char> bytes(1000, 'x');
  const auto address = reinterpret_cast<uintptr_t>(bytes.data());
  abi::Metadata* memory = agent.add({{address, bytes.size(), 0}, ""}, Memory::kDram);
  ASSERT_EQ(agent.write({{bytes.data(), bytes.size(), "k"}}), Status::kSuccess);
  Agent::Transfer read = agent.lists(Operation::kRead, {{bytes.data(), bytes.size(), "k"}});
  read.local.descs[0].metadata = memory;
  agent.prepare(read, Status::kSuccess);
  agent.post(read);
  EXPECT_EQ(agent.finish(read), Status::kSuccess);
  ASSERT_EQ(agent.remove(memory), Status::kSuccess);
  std::fill(bytes.begin(), bytes.end(), 'y');
  EXPECT_EQ(agent.post(read), Status::kInvalidParam);
  EXPECT_EQ(bytes, std::vector<char>(1000, 'y'));
  EXPECT_EQ(agent.release(read), Status::kSuccess);
}

TEST_F(CaseC12, a_transfer_that_is_not_live_is_refused) {
  Agent agent(params()), other(params(), "MEMKV", "other");
  std::vector<char> bytes(1000, 'x');
  Agent::Transfer released = agent.prepare(Operation::kWrite, {{bytes.data(), bytes.size(), "k"}});
  Agent::Transfer theirs = other.prepare(Operation::kWrite, {{bytes.data(), bytes.size(), "k"}});
  abi::RequestHandle* const stale = released.handle;
  ASSERT_EQ(agent.release(released), Status::kSuccess);
  Agent::Transfer next = agent.prepare(Operation::kWrite, {{bytes.data(), bytes.size(), "k"}});
  abi::RequestHandle on_stack;
  for (abi::RequestHandle* wrong : {stale, theirs.handle, &on_stack}) {
    released.handle = wrong;
    EXPECT_EQ(agent.post(released), Status::kInvalidParam);
    EXPECT_EQ(agent.backend().checkXfer(wrong), Status::kInvalidParam);
    EXPECT_EQ(agent.backend().releaseReqH(wrong), Status::kInvalidParam);
  }
  other.post(theirs);
  EXPECT_EQ(other.finish(theirs), Status::kSuccess);
  EXPECT_EQ(other.release(theirs), Status::kSuccess);
  EXPECT_EQ(agent.release(next), Status::kSuccess);
}

// C16: the reason is the true one, whatever carries the bytes.

class CaseC16 : public EngineTest, public testing::WithParamInterface<const char*> {
 protected:
  abi::Params params(abi::Params more = {}) const {
    more.emplace("transport", GetParam());
    return EngineTest::params(std::move(more));
  }
};
INSTANTIATE_TEST_SUITE_P(Over, CaseC16, testing::Values("tcp", "shm"), [](const auto& one) { return one.param; });

TEST_P(CaseC16, a_server_that_is_down_is_no_miss) {
  Agent agent(params({{"timeout_ms", "2000"}}));
  std::vector<char> bytes(100'000, 'x');
  ASSERT_EQ(agent.write({{bytes.data(), bytes.size(), "k"}}), Status::kSuccess);
  ASSERT_EQ(agent.read({{bytes.data(), bytes.size(), "absent"}}), Status::kNotFound);
  ASSERT_EQ(counters_of(agent).misses.value(), 1u);
  server_->kill_now();
  for (int round = 0; round < 3; round++) {
    EXPECT_EQ(agent.read({{bytes.data(), bytes.size(), "k"}}), Status::kBackend);
    EXPECT_EQ(agent.write({{bytes.data(), bytes.size(), "k"}}), Status::kBackend);
  }
  EXPECT_EQ(agent.query({"k", "absent"}), (std::vector<bool>{false, false}));
  EXPECT_EQ(counters_of(agent).misses.value(), 1u);
  EXPECT_EQ(counters_of(agent).unreachable.value(), 6u);
  EXPECT_EQ(counters_of(agent).unasked_keys.value(), 2u);
}

TEST_P(CaseC16, a_server_that_stands_still_is_no_miss) {
  Agent agent(params({{"timeout_ms", "700"}}));
  std::vector<char> bytes(100'000, 'x');
  ASSERT_EQ(agent.write({{bytes.data(), bytes.size(), "k"}}), Status::kSuccess);
  server_->freeze();
  EXPECT_EQ(agent.read({{bytes.data(), bytes.size(), "k"}}), Status::kBackend);
  EXPECT_EQ(agent.write({{bytes.data(), bytes.size(), "k"}}), Status::kBackend);
  EXPECT_EQ(agent.query({"k"}), std::vector<bool>{false});
  EXPECT_EQ(counters_of(agent).misses.value(), 0u);
  EXPECT_EQ(counters_of(agent).unreachable.value(), 2u);
  EXPECT_EQ(counters_of(agent).timeouts.value(), 0u);
  EXPECT_EQ(counters_of(agent).unasked_keys.value(), 1u);
  server_->thaw();
}

/// A transfer is not found only if all that is missing is known to be missing.
TEST_P(CaseC16, a_server_that_is_down_outweighs_a_miss) {
  const auto second = memkv::test::start_memory_server(dir_, "64MiB");
  Agent agent(params({{"servers", "a=" + server_->address() + ",b=" + second->address()}, {"timeout_ms", "2000"}}));
  std::vector<char> bytes(64 * 1000, 'x');
  std::vector<Element> all;
  for (size_t i = 0; i < 64; i++) all.push_back({&bytes[i * 1000], 1000, "k" + std::to_string(i)});
  ASSERT_EQ(agent.write(all), Status::kSuccess);
  second->kill_now();
  EXPECT_EQ(agent.read(all), Status::kBackend);
  const uint64_t unreachable = counters_of(agent).unreachable.value();
  EXPECT_GT(unreachable, 0u);
  EXPECT_LT(unreachable, 64u);
  std::vector<Element> served;
  const std::vector<bool> there = agent.query([] {
    std::vector<std::string> keys;
    for (size_t i = 0; i < 64; i++) keys.push_back("k" + std::to_string(i));
    return keys;
  }());
  for (size_t i = 0; i < 64; i++) {
    if (there[i]) served.push_back(all[i]);
  }
  EXPECT_EQ(served.size() + unreachable, 64u);
  EXPECT_EQ(counters_of(agent).misses.value(), 0u);
  ASSERT_EQ(agent.read(served), Status::kSuccess);
  served.push_back({bytes.data(), 2000, served.front().key});  // past its end
  EXPECT_EQ(agent.read(served), Status::kNotFound);
  all.push_back(served.back());
  EXPECT_EQ(agent.read(all), Status::kBackend);
}

// C17: parameters.

class CaseC17 : public testing::Test {
 protected:
  /// What a backend of these parameters says; empty: it was made.
  std::string refusal(const abi::Params& params, const std::string& type) {
    CaptureStderr();
    bool made = false;
    {
      Agent agent(params, type);
      made = agent.made();
    }
    const std::string said = GetCapturedStderr();
    EXPECT_TRUE(made || !said.empty());
    return made ? "" : said;
  }

  memkv::test::TempDir dir_;
};

TEST_F(CaseC17, a_wrong_credential_is_refused_where_a_server_answers) {
  ServerProcess::Options options;
  options.args = {"--config", memkv::test::setup_file_drives(dir_, 1, "128MiB", 1)};
  options.dir = dir_.path();
  const auto server = ServerProcess::start(options);
  const std::string wrong = "9c41e07bd2583fa6610de4b97c25a83fd07e1b94c6f2385a4e9b70d1c8362f5a";
  const std::string right = memkv::test::credential_of(dir_);
  const std::string ours = refusal({{"servers", server->address()}, {"auth_key", wrong}}, "MEMKV");
  EXPECT_TRUE(contains(ours, "does not accept the credential of auth_key")) << ours;
  EXPECT_FALSE(contains(ours, wrong)) << ours;
  const std::string s3 = refusal({{"endpoint_override", server->address()}, {"secret_key", wrong}}, "OBJ");
  EXPECT_TRUE(contains(s3, "secret_key")) << s3;
  EXPECT_TRUE(contains(refusal({{"servers", server->address()}}, "MEMKV"), "wants a credential: set auth_key"));
  EXPECT_EQ(refusal({{"servers", server->address()}, {"auth_key", right}}, "MEMKV"), "");
  EXPECT_EQ(refusal({{"servers", server->address()}, {"secret_key", right}}, "OBJ"), "");
  server->freeze();
  EXPECT_EQ(refusal({{"servers", server->address()}, {"auth_key", wrong}}, "MEMKV"), "") << "it cannot be proved";
  server->kill_now();
  EXPECT_EQ(refusal({{"servers", server->address()}, {"auth_key", wrong}}, "MEMKV"), "") << "it cannot be proved";
}

// C18: what comes back as an error from anything but checkXfer ends engines.

using CaseC18 = EngineTest;

TEST_F(CaseC18, whatever_servers_do_only_checks_tell) {
  std::vector<char> bytes(100'000, 'x');
  const std::string address = server_->address();
  const auto ends = [&](Agent& agent, Operation operation) {
    Agent::Transfer transfer = agent.prepare(operation, {{bytes.data(), bytes.size(), "k"}});
    const Status posted = agent.post(transfer);
    EXPECT_TRUE(posted == Status::kInProgress || posted == Status::kSuccess) << static_cast<int>(posted);
    const Status ended = agent.finish(transfer);
    EXPECT_EQ(agent.release(transfer), Status::kSuccess);
    return ended;
  };
  const auto works_again = [&](Agent& agent) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (ends(agent, Operation::kWrite) != Status::kSuccess) {
      if (std::chrono::steady_clock::now() > until) return false;
    }
    return ends(agent, Operation::kRead) == Status::kSuccess;
  };
  Agent agent(params({{"timeout_ms", "600"}}));
  ASSERT_EQ(ends(agent, Operation::kWrite), Status::kSuccess);
  server_->freeze();
  for (const Operation operation : {Operation::kRead, Operation::kWrite}) {
    for (int round = 0; round < 2; round++) EXPECT_EQ(ends(agent, operation), Status::kBackend);
  }
  server_->thaw();
  EXPECT_TRUE(works_again(agent));
  server_->kill_now();
  for (const Operation operation : {Operation::kRead, Operation::kWrite}) {
    for (int round = 0; round < 3; round++) EXPECT_EQ(ends(agent, operation), Status::kBackend);
  }
  Agent late(params({{"timeout_ms", "600"}}));  // its server is down before it starts
  ASSERT_TRUE(late.made());
  EXPECT_EQ(late.query({"k"}), std::vector<bool>{false});
  EXPECT_EQ(ends(late, Operation::kRead), Status::kBackend);
  server_ =
      ServerProcess::start({.args = {"--mode", "memory", "--memory", "64MiB"}, .address = address, .dir = dir_.path()});
  EXPECT_TRUE(works_again(agent));
  EXPECT_TRUE(works_again(late));
}

size_t threads_of_process() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

TEST_F(CaseC18, a_backend_works_without_threads_and_makes_them_when_it_can) {
  const size_t before = threads_of_process();
  std::vector<char> out(4 << 20, 'x'), in(8 << 20);
  no_threads = true;
  Agent agent(params({{"io_threads", "1"}, {"metrics_file", dir_ / "m.prom"}}));
  ASSERT_TRUE(agent.made());
  EXPECT_EQ(threads_of_process(), before);
  ASSERT_EQ(agent.write({{out.data(), out.size(), "k"}}), Status::kSuccess);
  ASSERT_EQ(agent.read({{in.data(), out.size(), "k"}, {&in[out.size()], out.size(), "k"}}), Status::kSuccess);
  EXPECT_EQ(std::memcmp(in.data(), out.data(), out.size()), 0);
  EXPECT_EQ(std::memcmp(&in[out.size()], out.data(), out.size()), 0);
  no_threads = false;
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (threads_of_process() == before && std::chrono::steady_clock::now() < until) {
    ASSERT_EQ(agent.write({{out.data(), 1000, "k"}}), Status::kSuccess);
  }
  EXPECT_GT(threads_of_process(), before);
}

}  // namespace
}  // namespace memkv::nixl::test
