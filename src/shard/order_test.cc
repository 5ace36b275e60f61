/// The order of one client's changes (case A1): what the client has given up is never done after what it sent later,
/// over whichever connections. The test plays the client: it raises the epoch after it gave a change up, and the
/// given-up change arrives late.

#include <deque>
#include <functional>
#include <random>
#include <set>

#include "base/random.h"
#include "shard/rig_testing.h"

namespace memkv::shard {
namespace {

using wire::OpKind;

class CaseA1Worker : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 64 << 20;

  void SetUp() override {
    identity = test_identity(1);
    identity.worker_count = 1;
    WorkerOptions options = test_worker_options();
    options.connections_max = 8;
    worker = Worker::make(test_reactor(), identity, options).value();
    ShardPlan plan = memory_plan(*worker, io::make_memory_storage(kBytes), kBytes, 0, 1);
    plan.options.memory_mode = false;  // so that puts take slots
    worker->stores().plan(std::move(plan));
    worker->start();
    until([&] { return worker->ready(); });
    connect(old_way);
    connect(new_way);
    new_way.epoch = 2;
  }
  void TearDown() override {
    WorkerMessage message;
    message.kind = WorkerMessage::Kind::kStop;
    ASSERT_TRUE(worker->push(message));
    until([&] { return worker->state() == Worker::State::kStopped; });
    worker->check_whole();
  }
  void connect(TestClient& to, const ClientId& id = kTestClient) {
    Connection* connection = worker->connections().open(kTestNamespace);
    ASSERT_NE(connection, nullptr);
    auto links = transport::make_loopback_links(worker->reactor(), kTestKeys, to, *connection);
    to.link = std::move(links.client);
    connection->attach(std::move(links.server), Transport::kTcp);
    to.introduce(id);
    until([&] { return to.count(wire::Opcode::kWelcome) == 1; });
  }
  void until(auto&& done) { run_until(*worker, done); }
  Reply reply(TestClient& to, uint64_t request, uint16_t index = 0) {
    until([&] { return to.find(request, index) != nullptr; });
    const Reply* found = to.find(request, index);
    return found != nullptr ? *found : Reply{};
  }
  static TestClient& add_put(TestClient& by, std::string_view key, const std::string& data, uint8_t flags = 0) {
    return by.op({.kind = OpKind::kPut, .flags = flags, .key = key}, data, sums_of(key, data));
  }
  Status put(TestClient& by, std::string_view key, const std::string& data) {
    return reply(by, add_put(by, key, data).send()).op.status;
  }
  Status plain(TestClient& by, OpKind kind, std::string_view key) {
    return reply(by, by.op({.kind = kind, .key = key}).send()).op.status;
  }
  std::string get(std::string_view key) {
    const uint64_t request = new_way.op({.kind = OpKind::kGet, .length = 2 << 20, .key = key}).send();
    const Reply found = reply(new_way, request);
    if (found.op.status == Status::kMiss) return "nothing";
    until([&] { return new_way.find(request)->payload.size() == found.op.payload_bytes; });
    return new_way.find(request)->payload;
  }
  uint64_t begin_upload(TestClient& by, std::string_view key, uint8_t flags, const std::string& data) {
    by.op({.kind = OpKind::kBegin, .flags = flags, .offset = data.size(), .key = key});
    const uint64_t id = reply(by, by.send()).op.generation;
    by.op({.kind = OpKind::kChunk, .generation = id}, data, sums_of(key, data));
    EXPECT_EQ(reply(by, by.send()).op.status, Status::kOk);
    return id;
  }
  void expect_fenced(const Reply& found) {
    EXPECT_EQ(found.op.status, Status::kBusy);
    EXPECT_EQ(found.op.flags, wire::kReplyFenced);
  }

  Identity identity;
  std::unique_ptr<Worker> worker;
  TestClient old_way, new_way;  ///< two connections of one client
};

TEST_F(CaseA1Worker, WhatWasGivenUpComesTooLate) {
  const std::string data = "old";
  const uint64_t upload = begin_upload(old_way, "k", 0, data),
                 range = begin_upload(old_way, "k", wire::kOpRangeWrite, data);
  const std::vector<std::function<void()>> changes = {
      [&] { add_put(old_way, "k", data); },
      [&] { add_put(old_way, "k", data, wire::kOpIfAbsent); },
      [&] { old_way.op({.kind = OpKind::kWrite, .key = "k"}, data, sums_of("k", data)); },
      [&] { old_way.op({.kind = OpKind::kRemove, .key = "k"}); },
      [&] { old_way.op({.kind = OpKind::kFlush}); },
      [&] { old_way.op({.kind = OpKind::kCommit, .generation = upload}); },
      [&] { old_way.op({.kind = OpKind::kCommit, .generation = range}); },
  };
  uint64_t fenced = 0;
  for (const auto& change : changes) {
    const std::string data_now = "new" + std::to_string(fenced);
    ASSERT_EQ(put(new_way, "k", data_now), Status::kOk);
    change();
    expect_fenced(reply(old_way, old_way.send()));
    EXPECT_EQ(get("k"), data_now);
    EXPECT_EQ(worker->stats().fenced, ++fenced);
    ASSERT_EQ(plain(new_way, OpKind::kRemove, "k"), Status::kOk);
    change();
    expect_fenced(reply(old_way, old_way.send()));
    EXPECT_EQ(get("k"), "nothing");
    EXPECT_EQ(worker->stats().fenced, ++fenced);
  }
}

TEST_F(CaseA1Worker, AnyNewerFrameIsEnough) {
  EXPECT_EQ(get("k"), "nothing");
  expect_fenced(reply(old_way, add_put(old_way, "k", "old").send()));
  EXPECT_EQ(get("k"), "nothing");
  new_way.op({.kind = OpKind::kFlush});
  EXPECT_EQ(reply(new_way, new_way.send()).op.status, Status::kOk);
}

TEST_F(CaseA1Worker, WhatWasNotGivenUpGoesAgain) {
  ASSERT_EQ(put(new_way, "other", "new"), Status::kOk);
  const uint64_t upload = begin_upload(old_way, "big", 0, "old");
  old_way.op({.kind = OpKind::kCommit, .generation = upload});
  expect_fenced(reply(old_way, old_way.send()));
  old_way.epoch = 2;
  old_way.op({.kind = OpKind::kCommit, .generation = upload});
  EXPECT_EQ(reply(old_way, old_way.send()).op.status, Status::kOk) << "the upload is still there";
  EXPECT_EQ(get("big"), "old");
  EXPECT_EQ(put(old_way, "k", "again"), Status::kOk);
}

TEST_F(CaseA1Worker, ReadsAreNeverHeldBack) {
  ASSERT_EQ(put(new_way, "k", "new"), Status::kOk);
  for (const OpKind kind : {OpKind::kStat, OpKind::kTouch}) EXPECT_EQ(plain(old_way, kind, "k"), Status::kOk);
  old_way.op({.kind = OpKind::kGet, .length = 10, .key = "k"});
  EXPECT_EQ(reply(old_way, old_way.send()).op.status, Status::kOk);
}

TEST_F(CaseA1Worker, AnotherClientIsNotHeldBack) {
  TestClient stranger;
  connect(stranger, {9, 9});
  ASSERT_EQ(put(new_way, "k", "new"), Status::kOk);
  EXPECT_EQ(put(stranger, "k", "theirs"), Status::kOk);
  EXPECT_EQ(get("k"), "theirs");
  stranger.link->close(Status::kOk);
  until([&] { return stranger.closed; });
}

TEST_F(CaseA1Worker, APayloadThatWaitsForASlotIsNotDoneAfterwards) {
  std::vector<io::Slot> taken;
  for (const uint32_t bytes : {2u << 20, 64u << 10, 1u}) {
    while (const io::Slot slot = worker->slots().arena().take(bytes)) taken.push_back(slot);
  }
  const uint64_t old = add_put(old_way, "k", pattern(50'000)).send();
  until([&] { return worker->tenants().anyone_waits(); });
  EXPECT_EQ(plain(new_way, OpKind::kRemove, "k"), Status::kMiss);
  for (const io::Slot& slot : taken) worker->slots().arena().give_back(slot);
  worker->room_freed();
  expect_fenced(reply(old_way, old));
  EXPECT_EQ(get("k"), "nothing");
}

TEST_F(CaseA1Worker, APayloadThatIsBeingVerifiedIsNotDoneAfterwards) {
  const std::string data = pattern(2 << 20);
  const uint64_t old = add_put(old_way, "k", data).send();
  until([&] { return worker->slots().arena().in_use() == 1; });
  const uint64_t removed = new_way.op({.kind = OpKind::kRemove, .key = "k"}).send();
  EXPECT_EQ(reply(new_way, removed).op.status, Status::kMiss);
  const Reply late = reply(old_way, old);
  expect_fenced(late);
  EXPECT_EQ(get("k"), "nothing");
}

TEST_F(CaseA1Worker, WhatIsChainedIsNotDoneAfterwards) {
  ASSERT_EQ(put(old_way, "k", "first"), Status::kOk);
  const std::string data = pattern(2 << 20);
  add_put(old_way, "before", data).op({.kind = OpKind::kRemove, .flags = wire::kOpChained, .key = "k"});
  const uint64_t old = old_way.send();
  until([&] { return worker->slots().arena().in_use() == 1; });
  ASSERT_EQ(put(new_way, "k", "new"), Status::kOk);
  EXPECT_TRUE(is_failure(reply(old_way, old, 1).op.status));
  EXPECT_EQ(get("k"), "new");
}

TEST_F(CaseA1Worker, AClientIsRememberedWhileItsGivenUpChangeIsOnTheWay) {
  ASSERT_EQ(put(new_way, "k", "new"), Status::kOk);
  new_way.link->close(Status::kOk);
  until([&] { return worker->stats().connections == 1; });
  expect_fenced(reply(old_way, add_put(old_way, "k", "old").send()));
  TestClient again;
  connect(again);
  again.epoch = 2;
  again.op({.kind = OpKind::kGet, .length = 10, .key = "k"});
  EXPECT_EQ(reply(again, again.send()).op.payload_bytes, 3u);
  again.link->close(Status::kOk);
  until([&] { return again.closed; });
}

TEST_F(CaseA1Worker, ADeadlineCountsFromWhenTheFrameWasMade) {
  old_way.epoch = 2;
  old_way.late_us = 5'000'000;  // it waited in a socket
  const std::string data = pattern(100'000);
  old_way.op({.kind = OpKind::kPut, .deadline_us = 1'000'000, .key = "k"}, data, sums_of("k", data));
  EXPECT_EQ(reply(old_way, old_way.send()).op.status, Status::kDeadline);
  EXPECT_EQ(get("k"), "nothing");
  EXPECT_EQ(worker->stats().deadlines_missed, 1u);
  old_way.op({.kind = OpKind::kPut, .deadline_us = 60'000'000, .key = "k"}, data, sums_of("k", data));
  EXPECT_EQ(reply(old_way, old_way.send()).op.status, Status::kOk);
  old_way.late_us = 0 - uint64_t{3'600'000'000};  // no frame was made after it arrived
  old_way.op({.kind = OpKind::kPut, .deadline_us = 1, .key = "k"}, data, sums_of("k", data));  // its bytes take longer
  EXPECT_EQ(reply(old_way, old_way.send()).op.status, Status::kDeadline);
}

/// A client with two connections that are slow at random, and a model of what each key may hold.
struct Model {
  std::string certain = "nothing";      ///< by the newest change that was acknowledged
  std::set<std::string> given_up = {};  ///< changes that were given up after it
};

TEST_F(CaseA1Worker, RandomDelaysAndManyGivenUpChanges) {
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE("seed " + std::to_string(seed));
  base::Random random(seed);
  uint64_t epoch = 2;
  std::map<std::string, Model> models;
  std::array<std::deque<std::function<uint64_t()>>, 2> on_the_way;  // each sends a frame
  const std::array<TestClient*, 2> ways = {&old_way, &new_way};
  const auto deliver = [&](size_t way) {
    const uint64_t request = on_the_way[way].front()();
    on_the_way[way].pop_front();
    return reply(*ways[way], request).op.status;
  };
  for (int i = 0; i < 600; i++) {
    const std::string key(1, static_cast<char>('a' + random.below(4))), data = "version " + std::to_string(i);
    const bool removes = random.chance(1, 3);
    const size_t way = random.below(2);
    on_the_way[way].push_back([=, &ways] {
      TestClient& by = *ways[way];
      by.epoch = epoch;
      if (removes) {
        by.op({.kind = OpKind::kRemove, .key = key});
      } else {
        add_put(by, key, data);
      }
      return by.send();
    });
    const std::string becomes = removes ? "nothing" : data;
    if (random.chance(1, 2)) {  // the change is given up, wherever it is
      epoch++;
      models[key].given_up.insert(becomes);
      if (random.chance(1, 3) && !on_the_way[way].empty()) deliver(way);
      continue;
    }
    while (on_the_way[way].size() > 1) deliver(way);
    const Status status = deliver(way);
    ASSERT_TRUE(status == Status::kOk || (removes && status == Status::kMiss)) << to_string(status);
    models[key] = {.certain = becomes};
    new_way.epoch = epoch;
    ASSERT_EQ(get(key), becomes);
  }
  for (size_t way = 0; way < 2; way++) {
    while (!on_the_way[way].empty()) deliver(way);
  }
  new_way.epoch = old_way.epoch = epoch;
  ASSERT_EQ(put(old_way, "end", "of it"), Status::kOk);
  for (const auto& [key, model] : models) {
    const std::string found = get(key);
    EXPECT_TRUE(found == model.certain || model.given_up.contains(found)) << key << " is " << found;
  }
  EXPECT_GT(worker->stats().fenced, 0u);
}

}  // namespace
}  // namespace memkv::shard
