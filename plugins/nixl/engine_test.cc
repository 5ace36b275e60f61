/// The backend against a real server: what comes of transfers.

#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "engine.h"
#include "engine_rig_testing.h"

namespace memkv::nixl::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

const Counters& counters_of(Agent& agent) { return static_cast<Engine&>(agent.backend()).counters(); }

std::string text_of(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST_F(EngineTest, what_is_written_is_read_again) {
  Agent agent(params());
  ASSERT_TRUE(agent.made());
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{1} << 20, (size_t{5} << 20) + 17}) {
    const std::string key = "block" + std::to_string(bytes);
    auto out = pattern(bytes, 1);
    std::vector<char> in(bytes);
    EXPECT_EQ(agent.write({{out.data(), bytes, key}}), Status::kSuccess);
    EXPECT_EQ(agent.read({{in.data(), bytes, key}}), Status::kSuccess);
    EXPECT_EQ(in, out);
  }
}

TEST_F(EngineTest, a_miss_fails_the_request_and_the_others_are_delivered) {
  Agent agent(params());
  auto out = pattern(5000, 1);
  std::vector<char> a(5000), b(5000), c(5000);
  agent.write({{out.data(), 5000, "a"}, {out.data(), 5000, "c"}});
  testing::internal::CaptureStderr();
  EXPECT_EQ(agent.read({{a.data(), 5000, "a"}, {b.data(), 5000, "missing one"}, {c.data(), 5000, "c"}}),
            Status::kNotFound);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("missing one"));
  EXPECT_EQ(a, out);
  EXPECT_EQ(c, out);
  EXPECT_EQ(counters_of(agent).misses.value(), 1u);
  EXPECT_EQ(counters_of(agent).failed_requests.value(), 1u);
}

TEST_F(EngineTest, a_short_object_and_a_hole_are_not_found) {
  Agent agent(params());
  auto out = pattern(4096, 1);
  std::vector<char> in(8192);
  agent.write({{out.data(), 4096, "short"}});
  EXPECT_EQ(agent.read({{in.data(), 4097, "short"}}), Status::kNotFound);
  EXPECT_EQ(agent.read({{in.data(), 10, "short", 5000}}), Status::kNotFound);
  EXPECT_EQ(agent.read({{in.data(), 96, "short", 4000}}), Status::kSuccess);
  agent.write({{out.data(), 4096, "hole", 4096}});
  EXPECT_EQ(agent.read({{in.data(), 8192, "hole"}}), Status::kNotFound);
  EXPECT_EQ(agent.read({{in.data(), 4096, "hole", 4096}}), Status::kSuccess);
}

TEST_F(EngineTest, a_miss_does_not_fail_what_travelled_with_it) {
  Agent agent(params());
  auto out = pattern(8192, 1);
  agent.write({{out.data(), 8192, "k"}});
  agent.write({{out.data(), 4096, "k", 12288}});  // a hole before it
  std::vector<char> a(4096), b(4096), c(4096), d(8192), e(100);
  EXPECT_EQ(agent.read({{a.data(), 4096, "k", 4096},
                        {b.data(), 4096, "k", 8192},
                        {c.data(), 4096, "k", 12288},
                        {d.data(), 8192, "k"},
                        {e.data(), 100, "k", 50}}),
            Status::kNotFound);
  EXPECT_EQ(a, std::vector<char>(out.begin() + 4096, out.end()));
  EXPECT_EQ(c, std::vector<char>(out.begin(), out.begin() + 4096));
  EXPECT_EQ(d, out);
  EXPECT_EQ(e, std::vector<char>(out.begin() + 50, out.begin() + 150));
}

TEST_F(EngineTest, a_dead_server_is_told_at_once) {
  Agent agent(params());
  auto out = pattern(4096, 1);
  EXPECT_EQ(agent.write({{out.data(), 4096, "k"}}), Status::kSuccess);
  server_->kill_now();
  const auto started = Clock::now();
  EXPECT_EQ(agent.read({{out.data(), 4096, "k"}}), Status::kBackend);
  EXPECT_EQ(agent.write({{out.data(), 4096, "k"}}), Status::kBackend);
  EXPECT_EQ(agent.query({"k"}), std::vector<bool>{false});
  EXPECT_LT(Clock::now() - started, std::chrono::seconds(5));
}

TEST_F(EngineTest, a_refused_write_is_said_to_be_for_the_servers_absence) {
  Agent agent(params());
  auto out = pattern(4096, 1);
  EXPECT_EQ(agent.write({{out.data(), 4096, "k"}}), Status::kSuccess);
  server_->kill_now();
  EXPECT_NE(agent.write({{out.data(), 4096, "k"}}), Status::kSuccess);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // a line a second
  testing::internal::CaptureStderr();
  EXPECT_EQ(agent.write({{out.data(), 4096, "k"}}), Status::kBackend);
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              testing::HasSubstr("its server is down, or does not answer; nothing was written"));
}

TEST_F(EngineTest, a_server_that_hangs_costs_the_deadline) {
  Agent agent(params({{"timeout_ms", "200"}}));
  auto out = pattern(4096, 1);
  EXPECT_EQ(agent.write({{out.data(), 4096, "k"}}), Status::kSuccess);
  server_->freeze();
  const auto started = Clock::now();
  EXPECT_EQ(agent.read({{out.data(), 4096, "k"}}), Status::kBackend);
  EXPECT_LT(Clock::now() - started, std::chrono::seconds(1));
  server_->thaw();
}

TEST_F(EngineTest, wrong_lists_are_refused) {
  Agent agent(params());
  char byte = 0;
  auto prepared = [&](auto&& change) {
    Agent::Transfer transfer = agent.lists(Operation::kRead, {{&byte, 1, "k"}});
    change(transfer);
    agent.prepare(transfer, Status::kInvalidParam);
    EXPECT_EQ(transfer.handle, nullptr);
  };
  prepared([](auto& t) { t.remote.descs.front().length = 2; });
  prepared([](auto& t) { t.remote.descs.front().address = UINT64_MAX; });
  prepared([](auto& t) { t.remote.memory = Memory::kFile; });
  prepared([](auto& t) { t.local.memory = Memory::kObject; });
  prepared([](auto& t) { t.local.descs.clear(); });
  prepared([](auto& t) { t.remote.descs.front().metadata = t.local.descs.front().metadata; });
  agent.add(Agent::object_desc(std::string(1025, 'k'), 0), Memory::kObject, Status::kInvalidParam);
  agent.add(Agent::object_desc("k", 0), Memory::kBlock, Status::kNotSupported);
  agent.add({{.address = 4096, .length = 0, .device = 0}, ""}, Memory::kDram, Status::kInvalidParam);
}

TEST_F(EngineTest, a_finished_transfer_is_posted_again) {
  Agent agent(params());
  std::vector<char> in(100'000);
  Agent::Transfer read = agent.prepare(Operation::kRead, {{in.data(), in.size(), "k"}});
  for (uint32_t round = 0; round < 20; round++) {
    auto out = pattern(in.size(), round);
    EXPECT_EQ(agent.write({{out.data(), out.size(), "k"}}), Status::kSuccess);
    agent.post(read);
    EXPECT_EQ(agent.finish(read), Status::kSuccess);
    EXPECT_EQ(in, out);
  }
  EXPECT_EQ(agent.release(read), Status::kSuccess);
}

TEST_F(EngineTest, a_failed_transfer_is_posted_again) {
  Agent agent(params());
  std::vector<char> in(1000);
  Agent::Transfer read = agent.prepare(Operation::kRead, {{in.data(), in.size(), "k"}});
  agent.post(read);
  EXPECT_EQ(agent.finish(read), Status::kNotFound);
  auto out = pattern(in.size(), 1);
  agent.write({{out.data(), out.size(), "k"}});
  agent.post(read);
  EXPECT_EQ(agent.finish(read), Status::kSuccess);
  EXPECT_EQ(agent.release(read), Status::kSuccess);
}

TEST_F(EngineTest, sixteen_reads_of_a_block_are_one_fetch_and_fifteen_copies) {
  Agent agent(params());
  constexpr size_t kBytes = 300'000;
  auto out = pattern(kBytes, 1);
  agent.write({{out.data(), kBytes, "k"}});
  std::vector<std::vector<char>> in(16, std::vector<char>(kBytes));
  std::vector<Element> elements;
  for (auto& one : in) elements.push_back({one.data(), kBytes, "k"});
  EXPECT_EQ(agent.read(elements), Status::kSuccess);
  for (const auto& one : in) EXPECT_EQ(one, out);
  const Counters& counters = counters_of(agent);
  EXPECT_EQ(counters.read_descriptors.value(), 16u);
  EXPECT_EQ(counters.read_wire_ops.value(), 1u);
  EXPECT_EQ(counters.read_wire_bytes.value(), kBytes);
  EXPECT_EQ(counters.copies.value(), 15u);
  EXPECT_EQ(counters.read_bytes.value(), 16 * kBytes);
}

TEST_F(EngineTest, coalescing_can_be_switched_off) {
  Agent agent(params({{"coalesce", "off"}}));
  auto out = pattern(1000, 1);
  agent.write({{out.data(), 1000, "k"}});
  std::vector<char> a(1000), b(1000);
  EXPECT_EQ(agent.read({{a.data(), 1000, "k"}, {b.data(), 1000, "k"}}), Status::kSuccess);
  EXPECT_EQ(b, out);
  EXPECT_EQ(counters_of(agent).read_wire_ops.value(), 2u);
  EXPECT_EQ(counters_of(agent).copies.value(), 0u);
}

// Writes.

TEST_F(EngineTest, a_write_of_the_whole_registered_object_replaces_it) {
  Agent agent(params());
  auto out = pattern(1000, 1);
  std::vector<char> in(1000);
  agent.write({{out.data(), 1000, "k"}});
  agent.close();
  Agent again(params());
  again.object("k", 600);
  EXPECT_EQ(again.write({{out.data(), 300, "k"}, {out.data() + 300, 300, "k", 300}}), Status::kSuccess);
  EXPECT_EQ(counters_of(again).range_writes.value(), 0u);
  EXPECT_EQ(counters_of(again).write_wire_ops.value(), 1u);
  EXPECT_EQ(again.read({{in.data(), 600, "k"}}), Status::kSuccess);
  EXPECT_EQ(again.read({{in.data(), 1000, "k"}}), Status::kNotFound);
}

TEST_F(EngineTest, a_write_of_a_part_leaves_the_rest) {
  Agent agent(params());
  auto out = pattern(1000, 1);
  auto part = pattern(100, 2);
  agent.write({{out.data(), 1000, "k"}});
  EXPECT_EQ(agent.write({{part.data(), 100, "k"}}), Status::kSuccess);
  EXPECT_EQ(agent.write({{part.data(), 100, "k", 500}}), Status::kSuccess);
  std::copy(part.begin(), part.end(), out.begin());
  std::copy(part.begin(), part.end(), out.begin() + 500);
  std::vector<char> in(1000);
  EXPECT_EQ(agent.read({{in.data(), 1000, "k"}}), Status::kSuccess);
  EXPECT_EQ(in, out);
  EXPECT_EQ(counters_of(agent).range_writes.value(), 3u);
}

TEST_F(EngineTest, in_mode_replace_a_write_at_the_start_is_the_object) {
  Agent agent(params({{"write_mode", "replace"}}));
  auto out = pattern(1000, 1);
  agent.write({{out.data(), 1000, "k"}});
  EXPECT_EQ(agent.write({{out.data(), 10, "k"}}), Status::kSuccess);
  EXPECT_EQ(agent.read({{out.data(), 11, "k"}}), Status::kNotFound);
  EXPECT_EQ(agent.read({{out.data(), 10, "k"}}), Status::kSuccess);
}

TEST_F(EngineTest, in_mode_if_absent_what_is_there_stays_and_nothing_is_sent) {
  Agent agent(params({{"write_mode", "if_absent"}}));
  auto first = pattern(1000, 1);
  auto second = pattern(1000, 2);
  std::vector<char> in(1000);
  EXPECT_EQ(agent.write({{first.data(), 1000, "a"}}), Status::kSuccess);
  const uint64_t sent = counters_of(agent).write_wire_bytes.value();
  EXPECT_EQ(agent.write({{second.data(), 1000, "a"}, {second.data(), 1000, "b"}}), Status::kSuccess);
  EXPECT_EQ(counters_of(agent).write_wire_bytes.value(), sent + 1000);
  EXPECT_EQ(counters_of(agent).already_present.value(), 1u);
  EXPECT_EQ(agent.read({{in.data(), 1000, "a"}}), Status::kSuccess);
  EXPECT_EQ(in, first);
  EXPECT_EQ(agent.read({{in.data(), 1000, "b"}}), Status::kSuccess);
  EXPECT_EQ(in, second);
}

/// Parts of one object that cannot travel as one write, each from memory of its own.
struct Parts {
  struct Range {
    uint64_t offset;
    size_t length;
  };
  Parts(const std::string& key, const std::vector<Range>& ranges, uint32_t seed = 1) {
    for (const auto& [offset, length] : ranges) {
      bytes.push_back(pattern(length, seed++));
      elements.push_back({bytes.back().data(), length, key, offset});
    }
  }
  void expect_there(Agent& agent) const {
    for (const Element& one : elements) {
      std::vector<char> in(one.length);
      EXPECT_EQ(agent.read({{in.data(), in.size(), one.key, one.offset}}), Status::kSuccess) << "from " << one.offset;
      EXPECT_EQ(std::memcmp(in.data(), one.memory, one.length), 0) << "from " << one.offset;
    }
  }
  std::vector<std::vector<char>> bytes;
  std::vector<Element> elements;
};

/// By write_mode and coalesce.
class EngineMixedWrites : public EngineTest, public testing::WithParamInterface<std::pair<const char*, const char*>> {
 protected:
  abi::Params mode() const { return params({{"write_mode", GetParam().first}, {"coalesce", GetParam().second}}); }
};
INSTANTIATE_TEST_SUITE_P(Modes, EngineMixedWrites,
                         testing::Values(std::pair("replace", "on"), std::pair("replace", "off"),
                                         std::pair("if_absent", "on"), std::pair("if_absent", "off")),
                         [](const auto& mode) {
                           return std::string(mode.param.first) + "_coalesce_" + mode.param.second;
                         });

TEST_P(EngineMixedWrites, what_is_put_and_what_is_written_beside_it_are_both_there) {
  Agent agent(mode());
  const std::vector<std::vector<Parts::Range>> cases = {{{0, 100 << 10}, {200 << 10, 4 << 10}},
                                                        {{200 << 10, 4 << 10}, {0, 100 << 10}},
                                                        {{4 << 20, 4 << 20}, {0, 4 << 20}},
                                                        {{0, 6 << 20}, {7 << 20, 4 << 10}},
                                                        {{0, 1}, {3, 1}, {5, 1}}};
  for (size_t i = 0; i < cases.size(); i++) {
    SCOPED_TRACE(i);
    const Parts parts("k" + std::to_string(i), cases[i]);
    Agent::Transfer write = agent.prepare(Operation::kWrite, parts.elements);
    for (int post = 0; post < 2; post++) {
      agent.post(write);
      EXPECT_EQ(agent.finish(write), Status::kSuccess);
      parts.expect_there(agent);
    }
    EXPECT_EQ(agent.release(write), Status::kSuccess);
  }
}

TEST_P(EngineMixedWrites, ranges_that_overlap_go_behind_the_put_too) {
  Agent agent(mode());
  Parts parts("k", {{0, 100 << 10}, {0, 100 << 10}, {100 << 10, 4 << 10}});
  parts.bytes[1] = parts.bytes[0];
  parts.elements[1].memory = parts.bytes[1].data();
  EXPECT_EQ(agent.write(parts.elements), Status::kSuccess);
  parts.expect_there(agent);
}

TEST_P(EngineMixedWrites, other_keys_of_the_request_are_as_ever) {
  Agent agent(mode());
  const Parts both("both", {{0, 100 << 10}, {200 << 10, 4 << 10}}), put("put", {{0, 5000}}, 7),
      range("range", {{5000, 5000}}, 8);
  std::vector<Element> all = range.elements;
  all.insert(all.end(), both.elements.begin(), both.elements.end());
  all.insert(all.end(), put.elements.begin(), put.elements.end());
  EXPECT_EQ(agent.write(all), Status::kSuccess);
  for (const Parts* parts : {&both, &put, &range}) parts->expect_there(agent);
}

TEST_F(EngineTest, in_mode_if_absent_what_is_there_stays_whole) {
  Agent agent(params({{"write_mode", "if_absent"}}));
  const Parts first("k", {{0, 100 << 10}, {200 << 10, 4 << 10}}),
      second("k", {{0, 100 << 10}, {200 << 10, 4 << 10}}, 7);
  EXPECT_EQ(agent.write(first.elements), Status::kSuccess);
  EXPECT_EQ(agent.write(second.elements), Status::kSuccess);
  first.expect_there(agent);
  EXPECT_EQ(counters_of(agent).already_present.value(), 2u);
  const Parts other("other", {{0, 5000}});
  std::vector<Element> all = second.elements;
  all.push_back(other.elements.front());
  EXPECT_EQ(agent.write(all), Status::kSuccess);
  first.expect_there(agent);
  other.expect_there(agent);
}

TEST_F(EngineTest, writes_of_one_range_end_as_one_of_them_whole) {
  Agent agent(params());
  constexpr size_t kBytes = 100'000;
  std::vector<std::vector<char>> out;
  std::vector<Element> elements;
  for (uint32_t i = 0; i < 16; i++) out.push_back(pattern(kBytes, i));
  for (auto& one : out) elements.push_back({one.data(), kBytes, "k"});
  for (int round = 0; round < 20; round++) {
    EXPECT_EQ(agent.write(elements), Status::kSuccess);
    std::vector<char> in(kBytes);
    EXPECT_EQ(agent.read({{in.data(), kBytes, "k"}}), Status::kSuccess);
    EXPECT_NE(std::find(out.begin(), out.end(), in), out.end());
  }
}

// Keys, registrations, questions.

TEST_F(EngineTest, a_key_is_the_meta_info_or_the_device_number) {
  Agent agent(params({{"prefix", "p/"}}));
  auto out = pattern(100, 1);
  agent.write({{out.data(), 100, "7"}});
  abi::BlobDesc numbered;
  numbered.device = 7;
  abi::Metadata* object = agent.add(numbered, Memory::kObject);
  std::vector<char> in(100);
  Agent::Transfer read = agent.lists(Operation::kRead, {{in.data(), 100, "other"}});
  read.remote.descs.front().metadata = object;
  agent.prepare(read, Status::kSuccess);
  agent.post(read);
  EXPECT_EQ(agent.finish(read), Status::kSuccess);
  EXPECT_EQ(in, out);
  agent.release(read);
  agent.remove(object);
  Agent bare(params());
  EXPECT_EQ(bare.query({"7", "p/7"}), (std::vector<bool>{false, true}));
}

TEST_F(EngineTest, the_name_of_object_storage_puts_the_bucket_before_the_key) {
  auto out = pattern(100, 1);
  {
    Agent obj({{"bucket", "b"}, {"endpoint_override", "http://" + server_->address() + "/"}, {"region", "x"}}, "OBJ");
    ASSERT_TRUE(obj.made());
    EXPECT_EQ(obj.write({{out.data(), 100, "dir/k.bin"}}), Status::kSuccess);
  }
  Agent agent(params());
  std::vector<char> in(100);
  EXPECT_EQ(agent.read({{in.data(), 100, "b/dir/k.bin"}}), Status::kSuccess);
  EXPECT_EQ(in, out);
}

TEST_F(EngineTest, several_registrations_of_a_key_are_one_object) {
  Agent agent(params());
  abi::Metadata* first = agent.add(Agent::object_desc("k", 0), Memory::kObject);
  auto out = pattern(1000, 1);
  std::vector<char> in(1000);
  EXPECT_EQ(agent.write({{out.data(), 1000, "k"}}), Status::kSuccess);
  Agent::Transfer read = agent.lists(Operation::kRead, {{in.data(), 500, "k"}, {in.data() + 500, 500, "k", 500}});
  read.remote.descs.front().metadata = first;
  agent.prepare(read, Status::kSuccess);
  agent.post(read);
  EXPECT_EQ(agent.finish(read), Status::kSuccess);
  EXPECT_EQ(counters_of(agent).read_wire_ops.value(), 1u);
  EXPECT_EQ(in, out);
  agent.release(read);
  EXPECT_EQ(agent.remove(first), Status::kSuccess);
  EXPECT_EQ(agent.read({{in.data(), 1000, "k"}}), Status::kSuccess);
}

TEST_F(EngineTest, questions_are_answered_in_order) {
  Agent agent(params());
  char byte = 'x';
  std::vector<std::string> keys;
  std::vector<bool> expected;
  for (int i = 0; i < 3000; i++) {
    keys.push_back("key" + std::to_string(i));
    expected.push_back(i % 7 == 0);
    if (i % 7 == 0) agent.write({{&byte, 1, keys.back()}});
  }
  EXPECT_EQ(agent.query(keys), expected);
  EXPECT_EQ(agent.query({}), std::vector<bool>{});
}

TEST_F(EngineTest, of_empty_descriptors_nothing_is_asked) {
  Agent agent(params());
  char byte = 0;
  EXPECT_EQ(agent.read({{&byte, 0, "no such object"}}), Status::kSuccess);
}

// Lifetimes.

TEST_F(EngineTest, agents_of_one_process_do_not_know_each_other) {
  nixl_plugin_init();
  nixl_plugin_fini();
  auto one = std::make_unique<Agent>(params(), "MEMKV", "one");
  Agent two(params({{"prefix", "two/"}}), "MEMKV", "two");
  auto out = pattern(1000, 1);
  one->write({{out.data(), 1000, "k"}});
  EXPECT_EQ(two.query({"k"}), std::vector<bool>{false});
  one.reset();
  nixl_plugin_fini();
  EXPECT_EQ(two.write({{out.data(), 1000, "k"}}), Status::kSuccess);
  Agent three(params(), "MEMKV", "one");
  EXPECT_EQ(three.query({"k", "two/k"}), (std::vector<bool>{true, true}));
}

TEST_F(EngineTest, a_backend_with_bad_options_is_not_made) {
  testing::internal::CaptureStderr();
  EXPECT_FALSE(Agent(abi::Params{{"servers", "a:1"}, {"serverz", "b"}}).made());
  EXPECT_FALSE(Agent(abi::Params{{"servers", "a:b:c:d"}}).made());
  EXPECT_FALSE(Agent(abi::Params{}).made());
  EXPECT_FALSE(Agent(params({{"metrics_file", "/no/such/folder/x"}})).made());
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("unknown parameter 'serverz'"));
  EXPECT_THAT(log, HasSubstr("no servers given"));
  EXPECT_THAT(log, HasSubstr("/no/such/folder/x"));
}

TEST_F(EngineTest, parameters_in_effect_are_shown) {
  Agent agent(params({{"prefix", "p/"}, {"auth_key", ""}}));
  EXPECT_EQ(agent.backend().params.at("servers"), server_->address());
  EXPECT_EQ(agent.backend().params.at("prefix"), "p/");
  EXPECT_EQ(agent.backend().params.at("coalesce"), "on");
  EXPECT_FALSE(agent.backend().supportsRemote() || agent.backend().supportsNotif());
  EXPECT_TRUE(agent.backend().supportsLocal());
}

TEST_F(EngineTest, metrics_go_to_a_file) {
  const std::string path = dir_ / "metrics.prom";
  {
    Agent agent(params({{"metrics_file", path}}), "MEMKV", "ag\"ent");
    char byte = 'x';
    agent.write({{&byte, 1, "k"}});
  }
  EXPECT_THAT(text_of(path), HasSubstr("memkv_nixl_write_requests_total{agent=\"ag\\\"ent\"} 1\n"));
}

TEST_F(EngineTest, the_child_of_a_fork_is_refused) {
  auto agent = std::make_unique<Agent>(params());
  std::vector<char> in(1000);
  agent->write({{in.data(), 1000, "k"}});
  Agent::Transfer read = agent->prepare(Operation::kRead, {{in.data(), 1000, "k"}});
  const pid_t child = fork();
  if (child == 0) {
    const bool refused = agent->post(read) == Status::kBackend && agent->release(read) == Status::kSuccess;
    abi::QueryResponse response;
    const bool query_refused = agent->backend().queryMem({}, response) == Status::kBackend;
    Agent own(params());
    const bool own_works = own.read({{in.data(), 1000, "k"}}) == Status::kSuccess;
    agent.reset();
    _exit(refused && query_refused && own_works ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  agent->post(read);
  EXPECT_EQ(agent->finish(read), Status::kSuccess);
  agent->release(read);
}

}  // namespace
}  // namespace memkv::nixl::test
