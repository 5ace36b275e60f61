/// A worker with a memory store behind a link in memory: put, get and all other ops, in one thread.

#include "shard/worker.h"

#include "shard/rig_testing.h"

namespace memkv::shard {
namespace {

using wire::Op;
using wire::OpKind;

class WorkerTest : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 64 << 20;

  void SetUp() override { start(1, 1); }
  void start(uint8_t shards, uint32_t mine, WorkerOptions options = test_worker_options()) {
    stop();
    identity = test_identity(shards);
    for (uint8_t s = 0; s < shards; s++) identity.worker_of_shard[s] = s < mine ? 0 : 1;
    identity.worker_count = mine < shards ? 2 : 1;
    identity.context = this;
    identity.status_json = [](void*, uint64_t) { return std::string(R"({"x": 1})"); };
    worker = Worker::make(test_reactor(), identity, options).value();
    auto storage = io::make_memory_storage(kBytes);
    for (uint32_t s = 0; s < mine; s++) worker->stores().plan(memory_plan(*worker, storage, kBytes, s, shards));
    worker->start();
    until([&] { return worker->ready(); });
    connect(client);
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
  void TearDown() override { stop(); }
  void stop() {
    if (!worker) return;
    WorkerMessage message;
    message.kind = WorkerMessage::Kind::kStop;
    ASSERT_TRUE(worker->push(message));
    until([&] { return worker->state() == Worker::State::kStopped && (!client.link || client.closed); });
    worker->check_whole();
    client.~TestClient();
    new (&client) TestClient;
    worker.reset();
  }
  void until(auto&& done) { run_until(*worker, done); }
  const Reply& reply(uint64_t request, uint16_t index = 0) {
    until([&] { return client.find(request, index) != nullptr; });
    static const Reply none;
    const Reply* found = client.find(request, index);
    return found != nullptr ? *found : none;
  }
  Reply put(std::string_view key, const std::string& data, uint8_t flags = 0) {
    client.op({.kind = OpKind::kPut, .flags = flags, .key = key}, data,
              flags & wire::kOpServerChecksum ? std::vector<uint64_t>{} : sums_of(key, data));
    return reply(client.send());
  }
  Reply get(std::string_view key, uint32_t length, uint64_t offset = 0, uint64_t generation = 0) {
    client.op({.kind = OpKind::kGet, .length = length, .offset = offset, .generation = generation, .key = key});
    const uint64_t request = client.send();
    reply(request);
    Reply answer = reply(request);
    until([&] { return client.find(request)->payload.size() == answer.op.payload_bytes; });
    return *client.find(request);
  }
  Reply plain(OpKind kind, std::string_view key, uint64_t offset = 0) {
    client.op({.kind = kind, .offset = offset, .key = key});
    return reply(client.send());
  }

  Identity identity;
  std::unique_ptr<Worker> worker;
  TestClient client;
};

TEST_F(WorkerTest, WelcomeNamesShardsAndCredit) {
  EXPECT_EQ(client.welcome.shard_count, 1);
  EXPECT_EQ(client.welcome.namespace_id, kTestNamespace);
  EXPECT_EQ(client.welcome.ready, 1);
  EXPECT_GE(client.welcome.credit.puts, 2 * wire::credit_grains(kChunkBytesMax))
      << "two chunks, or 64 blocks of 64 KiB";
  EXPECT_GT(client.welcome.block_bytes_max, 0u);
}

TEST_F(WorkerTest, AClientIsKnownFromItsFirstConnectionToItsLast) {
  TestClient second, other;
  connect(second);
  connect(other, {8});
  EXPECT_EQ(worker->connections().clients().count(), 2u);
  client.link->close(Status::kOk);
  until([&] { return worker->stats().connections == 2; });
  EXPECT_EQ(worker->connections().clients().count(), 2u) << "a connection of it is left";
  second.link->close(Status::kOk);
  other.link->close(Status::kOk);
  until([&] { return client.closed && second.closed && other.closed && worker->connections().clients().count() == 0; });
}

TEST_F(WorkerTest, NothingIsTakenBeforeAnIntroduction) {
  for (const auto& say :
       {+[](TestClient& to) { to.op({.kind = OpKind::kRemove, .key = "k"}).send(); },
        +[](TestClient& to) { to.send_plain(wire::Opcode::kPing, [](auto) { return size_t{0}; }); }}) {
    TestClient rude;
    Connection* connection = worker->connections().open(kTestNamespace);
    ASSERT_NE(connection, nullptr);
    auto links = transport::make_loopback_links(worker->reactor(), kTestKeys, rude, *connection);
    rude.link = std::move(links.client);
    connection->attach(std::move(links.server), Transport::kTcp);
    say(rude);
    until([&] { return rude.closed; });
    EXPECT_EQ(rude.goodbye, Status::kInvalid);
    EXPECT_EQ(rude.count(wire::Opcode::kWelcome), 0u);
  }
}

TEST_F(WorkerTest, AnIntroductionStandsOnce) {
  client.introduce();
  until([&] { return client.closed; });
  EXPECT_EQ(client.goodbye, Status::kInvalid);
}

TEST_F(WorkerTest, PutAndGetOfManySizes) {
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{4096}, size_t{65536}, size_t{65537}, size_t{561'000}, size_t{2} << 20}) {
    const std::string key = "k" + std::to_string(size), data = pattern(size, static_cast<uint32_t>(size));
    const Reply stored = put(key, data);
    ASSERT_EQ(stored.op.status, Status::kOk) << size;
    EXPECT_GT(stored.op.generation, 0u);
    const Reply got = get(key, 2 << 20);
    ASSERT_EQ(got.op.status, Status::kOk) << size;
    EXPECT_EQ(got.op.block_bytes, size);
    EXPECT_EQ(got.op.generation, stored.op.generation);
    ASSERT_EQ(got.payload, data) << size;
    if (size == 0) continue;
    ASSERT_TRUE(got.op.flags & wire::kReplyWholeChunk);
    EXPECT_EQ(got.sums.at(0), base::chunk_checksum_of(base::as_bytes(data), base::chunk_seed(kTestNamespace, key, 0)));
  }
}

TEST_F(WorkerTest, RangesCarryOneSumAPiece) {
  const std::string data = pattern(300'000);
  put("k", data);
  const Reply got = get("k", 100'000, 60'000);
  ASSERT_EQ(got.op.status, Status::kOk);
  EXPECT_EQ(got.payload, data.substr(60'000, 100'000));
  EXPECT_EQ(got.sums, sums_of("k", got.payload, 0, 60'000));
  EXPECT_EQ(get("k", 100, 400'000).op.payload_bytes, 0u) << "past the end";
}

TEST_F(WorkerTest, WrongSumsWriteNothing) {
  uint64_t mismatches = 0;
  for (const size_t wrong : {0, 150'000, 1'400'000, 1'499'999}) {
    std::string data = pattern(1'500'000);
    const auto sums = sums_of("k", data);
    data[wrong] ^= 1;
    client.op({.kind = OpKind::kPut, .key = "k"}, data, sums);
    EXPECT_EQ(reply(client.send()).op.status, Status::kCorrupt) << wrong;
    EXPECT_EQ(get("k", 10).op.status, Status::kMiss);
    EXPECT_EQ(worker->stats().checksum_mismatches, ++mismatches);
  }
}

TEST_F(WorkerTest, ServerMakesSums) {
  const std::string data = pattern(200'000);
  const Reply stored = put("k", data, wire::kOpServerChecksum);
  ASSERT_EQ(stored.op.status, Status::kOk);
  EXPECT_EQ(stored.sums.at(0), base::chunk_checksum_of(base::as_bytes(data), base::chunk_seed(kTestNamespace, "k", 0)));
  EXPECT_EQ(get("k", 1 << 20).payload, data);
}

TEST_F(WorkerTest, PutIfAbsentLearnsThatItExists) {
  const Reply first = put("k", "one");
  const Reply second = put("k", "two", wire::kOpIfAbsent);
  EXPECT_EQ(second.op.status, Status::kExists);
  EXPECT_EQ(second.op.generation, first.op.generation);
  EXPECT_EQ(get("k", 100).payload, "one");
}

TEST_F(WorkerTest, IfGenerationMustMatch) {
  const Reply stored = put("k", "one");
  put("k", "two");
  EXPECT_EQ(get("k", 10, 0, stored.op.generation).op.status, Status::kChanged);
}

TEST_F(WorkerTest, ABatchAnswersEachOpAlone) {
  const std::string a = pattern(5000, 1), b = pattern(100'000, 2), c = pattern(7, 3);
  client.op({.kind = OpKind::kPut, .key = "a"}, a, sums_of("a", a));
  client.op({.kind = OpKind::kPut, .key = "b"}, b, {1, 2});  // wrong sums
  client.op({.kind = OpKind::kStat, .key = "nothing"});
  client.op({.kind = OpKind::kPut, .key = "c"}, c, sums_of("c", c));
  const uint64_t request = client.send();
  EXPECT_EQ(reply(request, 0).op.status, Status::kOk);
  EXPECT_EQ(reply(request, 1).op.status, Status::kCorrupt);
  EXPECT_EQ(reply(request, 2).op.status, Status::kMiss);
  EXPECT_EQ(reply(request, 3).op.status, Status::kOk);
  EXPECT_EQ(get("a", 10000).payload, a);
  EXPECT_EQ(get("c", 10000).payload, c);
}

TEST_F(WorkerTest, ManyGetsOfOneFrameShareReplyFrames) {
  std::map<std::string, std::string> blocks;
  for (uint32_t i = 0; i < 20; i++) put("k" + std::to_string(i), blocks["k" + std::to_string(i)] = pattern(4096, i));
  for (uint32_t i = 0; i < 20; i++)
    client.op({.kind = OpKind::kGet, .length = 4096, .key = blocks.find("k" + std::to_string(i))->first});
  const size_t frames = client.count(wire::Opcode::kReply);
  const uint64_t request = client.send();
  until([&] { return client.find(request, 19) != nullptr && client.find(request, 19)->payload.size() == 4096; });
  for (uint16_t i = 0; i < 20; i++) EXPECT_EQ(client.find(request, i)->payload, blocks["k" + std::to_string(i)]);
  EXPECT_LT(client.count(wire::Opcode::kReply) - frames, 20u);
}

TEST_F(WorkerTest, RemoveTouchStatExistsSuspectFlush) {
  put("k", pattern(1000));
  EXPECT_EQ(plain(OpKind::kTouch, "k").op.status, Status::kOk);
  EXPECT_EQ(plain(OpKind::kTouch, "no").op.status, Status::kMiss);
  EXPECT_EQ(plain(OpKind::kStat, "k").op.block_bytes, 1000u);
  EXPECT_EQ(plain(OpKind::kSuspect, "k").op.status, Status::kOk) << "it was fine";
  const auto exists = [&] {
    const size_t before = client.count(wire::Opcode::kExistsReply);
    client.send_plain(wire::Opcode::kExists, [](std::span<std::byte> body) {
      wire::ExistsEncoder encoder(body, false);
      EXPECT_TRUE(encoder.add("no") && encoder.add("k"));
      return encoder.finish().size();
    });
    until([&] { return client.count(wire::Opcode::kExistsReply) > before; });
    const std::string& body = client.last(wire::Opcode::kExistsReply);
    return static_cast<int>(std::to_integer<int>(wire::decode_exists_reply(base::as_bytes(body))->bits[0]));
  };
  EXPECT_EQ(exists(), 2);
  EXPECT_EQ(plain(OpKind::kRemove, "k").op.status, Status::kOk);
  EXPECT_EQ(plain(OpKind::kRemove, "k").op.status, Status::kMiss);
  EXPECT_EQ(exists(), 0);
  put("k", "again");
  client.op({.kind = OpKind::kFlush});
  EXPECT_EQ(reply(client.send()).op.status, Status::kOk);
  EXPECT_EQ(exists(), 0);
}

TEST_F(WorkerTest, UploadOfSeveralChunks) {
  const std::string data = pattern(5'000'000);
  client.op({.kind = OpKind::kBegin, .offset = data.size(), .key = "big"});
  const uint64_t id = reply(client.send()).op.generation;
  ASSERT_NE(id, 0u);
  for (uint32_t chunk = 0; chunk < 3; chunk++) {
    const std::string part = data.substr(chunk * kChunkBytesMax, kChunkBytesMax);
    client.op({.kind = OpKind::kChunk, .generation = id, .chunk_number = chunk}, part, sums_of("big", part, chunk));
    ASSERT_EQ(reply(client.send()).op.status, Status::kOk);
  }
  EXPECT_EQ(get("big", 10).op.status, Status::kMiss) << "before the commit";
  client.op({.kind = OpKind::kCommit, .generation = id});
  ASSERT_EQ(reply(client.send()).op.status, Status::kOk);
  client.op({.kind = OpKind::kCommit, .generation = id});
  EXPECT_EQ(reply(client.send()).op.status, Status::kInvalid) << "it is closed";
  EXPECT_EQ(get("big", 2 << 20, 2 << 20).payload, data.substr(2 << 20, 2 << 20));
  EXPECT_EQ(get("big", 2 << 20, 4 << 20).payload, data.substr(4 << 20));
}

/// stop() checks that all of it came back.
TEST_F(WorkerTest, RoomOfPutsThatTheStoreRefusesComesBack) {
  client.op({.kind = OpKind::kBegin, .offset = 3 << 20, .key = "large"});
  const uint64_t id = reply(client.send()).op.generation;
  const std::string part = pattern(64 * 1024);  // neither a whole chunk nor the last one
  for (int i = 0; i < 3; i++) {
    client.op({.kind = OpKind::kChunk, .generation = id}, part, sums_of("large", part));
    EXPECT_EQ(reply(client.send()).op.status, Status::kInvalid);
  }
  ASSERT_EQ(put("there", part).op.status, Status::kOk);
  EXPECT_EQ(put("there", part, wire::kOpIfAbsent).op.status, Status::kExists);
}

TEST_F(WorkerTest, AnUploadEndsWithTheCancelOfItsBegin) {
  for (int i = 0; i < 20; i++) {  // there is room for 8
    client.op({.kind = OpKind::kBegin, .offset = 5'000'000, .key = "big"});
    const uint64_t request = client.send();
    ASSERT_EQ(reply(request).op.status, Status::kOk);
    client.send_plain(wire::Opcode::kCancel, [&](std::span<std::byte> body) {
      return wire::encode(wire::Cancel{request, 0}, body);
    });
    until([&] { return worker->pools().uploads.in_use() == 0; });
  }
}

TEST_F(WorkerTest, AnUploadEndsWithTheDeadlineOfItsBegin) {
  client.op({.kind = OpKind::kBegin, .deadline_us = 150'000, .offset = 5'000'000, .key = "big"});
  const uint64_t id = reply(client.send()).op.generation;
  const std::string part = pattern(kChunkBytesMax);
  client.op({.kind = OpKind::kChunk, .generation = id}, part, sums_of("big", part));
  EXPECT_EQ(reply(client.send()).op.status, Status::kOk);
  until([&] { return worker->pools().uploads.in_use() == 0; });
  client.op({.kind = OpKind::kCommit, .generation = id});
  EXPECT_EQ(reply(client.send()).op.status, Status::kInvalid);
}

TEST_F(WorkerTest, AnUploadEndsWithItsConnection) {
  client.op({.kind = OpKind::kBegin, .offset = 5'000'000, .key = "big"});
  ASSERT_EQ(reply(client.send()).op.status, Status::kOk);
  EXPECT_EQ(worker->pools().uploads.in_use(), 1u);
  client.link->close(Status::kOk);
  until([&] { return worker->pools().uploads.in_use() == 0; });
}

TEST_F(WorkerTest, WriteIntoABlock) {
  std::string data = pattern(200'000);
  put("k", data);
  const std::string part = pattern(70'000, 9);
  client.op({.kind = OpKind::kWrite, .offset = 65'000, .key = "k"}, part, sums_of("k", part, 0, 65'000));
  ASSERT_EQ(reply(client.send()).op.status, Status::kOk);
  data.replace(65'000, part.size(), part);
  EXPECT_EQ(get("k", 1 << 20).payload, data);
}

TEST_F(WorkerTest, ChainedOpsRunInOrderAndStopAtAFailure) {
  const std::string one = "one";
  client.op({.kind = OpKind::kPut, .key = "k"}, one, sums_of("k", one));
  client.op({.kind = OpKind::kGet, .flags = wire::kOpChained, .length = 100, .key = "k"});
  client.op({.kind = OpKind::kRemove, .flags = wire::kOpChained, .key = "k"});
  client.op({.kind = OpKind::kStat, .flags = wire::kOpChained, .key = "k"});
  uint64_t request = client.send();
  reply(request, 3);
  EXPECT_EQ(reply(request, 1).op.payload_bytes, 3u);
  EXPECT_EQ(reply(request, 2).op.status, Status::kOk);
  EXPECT_EQ(reply(request, 3).op.status, Status::kMiss);

  client.op({.kind = OpKind::kPut, .key = "k"}, one, {5});  // wrong sum
  client.op({.kind = OpKind::kPut, .flags = wire::kOpChained, .key = "other"}, one, sums_of("other", one));
  request = client.send();
  EXPECT_EQ(reply(request, 0).op.status, Status::kCorrupt);
  EXPECT_EQ(reply(request, 1).op.status, Status::kCanceled);
  EXPECT_EQ(plain(OpKind::kStat, "other").op.status, Status::kMiss);
}

/// Gets of a frame start together; what is chained to them waits all the same.
TEST_F(WorkerTest, GetsOfAFrameKeepTheirPlaceInAChain) {
  put("k", "one");
  client.op({.kind = OpKind::kGet, .length = 100, .key = "absent"});
  client.op({.kind = OpKind::kGet, .flags = wire::kOpChained, .length = 100, .key = "k"});
  client.op({.kind = OpKind::kPut, .flags = wire::kOpChained, .key = "k"}, "other", sums_of("k", "other"));
  client.op({.kind = OpKind::kGet, .flags = wire::kOpChained, .length = 100, .key = "k"});
  client.op({.kind = OpKind::kRemove, .flags = wire::kOpChained, .key = "k"});
  client.op({.kind = OpKind::kGet, .flags = wire::kOpChained, .length = 100, .key = "k"});
  const uint64_t request = client.send();
  EXPECT_EQ(reply(request, 0).op.status, Status::kMiss);
  EXPECT_EQ(reply(request, 1).payload, "one");
  EXPECT_EQ(reply(request, 2).op.status, Status::kOk);
  EXPECT_EQ(reply(request, 3).payload, "other");
  EXPECT_EQ(reply(request, 4).op.status, Status::kOk);
  EXPECT_EQ(reply(request, 5).op.status, Status::kMiss);
}

/// When an op is over, its record belongs to another op.
TEST_F(WorkerTest, AChainedOpThatIsRefusedIsForgottenByTheOneBeforeIt) {
  const std::string data = pattern(100'000);
  client.op({.kind = OpKind::kPut, .key = "a"}, data, sums_of("other", data));          // wrong sums, so it fails
  client.op({.kind = OpKind::kAbort, .flags = wire::kOpChained, .generation = 12345});  // there is no such upload
  const uint64_t first = client.send();
  client.op({.kind = OpKind::kPut, .key = "b"}, data, sums_of("b", data));
  const uint64_t second = client.send();
  EXPECT_EQ(reply(first, 1).op.status, Status::kInvalid);
  EXPECT_EQ(reply(first, 0).op.status, Status::kCorrupt);
  EXPECT_EQ(reply(second).op.status, Status::kOk);
}

TEST_F(WorkerTest, WrongWorkerIsAnsweredWithTheMap) {
  start(2, 1);
  std::string theirs = "k0", ours = "k0";
  for (int i = 0; wire::shard_of(theirs, identity.shard_seed, kTestNamespace, 2) != 1; i++)
    theirs = "k" + std::to_string(i);
  for (int i = 0; wire::shard_of(ours, identity.shard_seed, kTestNamespace, 2) != 0; i++)
    ours = "k" + std::to_string(i);
  const std::string data = pattern(100'000);
  client.op({.kind = OpKind::kPut, .key = theirs}, data, sums_of(theirs, data));
  client.op({.kind = OpKind::kPut, .key = ours}, data, sums_of(ours, data));
  const uint64_t request = client.send();
  EXPECT_EQ(reply(request, 0).op.status, Status::kWrongWorker);
  EXPECT_EQ(reply(request, 1).op.status, Status::kOk);
  until([&] { return client.count(wire::Opcode::kWorkerMap) == 1; });
  EXPECT_EQ(wire::decode_worker_map(base::as_bytes(client.last(wire::Opcode::kWorkerMap)))->worker_of_shard[1], 1);
  EXPECT_EQ(get(ours, 1 << 20).payload, data);
}

TEST_F(WorkerTest, PingStatusAndList) {
  client.send_plain(wire::Opcode::kPing, [](auto) { return size_t{0}; });
  client.send_plain(wire::Opcode::kStatus, [](auto) { return size_t{0}; });
  until([&] { return client.count(wire::Opcode::kPong) == 1 && client.count(wire::Opcode::kStatusReply) == 1; });
  EXPECT_EQ(client.last(wire::Opcode::kStatusReply), R"({"x": 1})");
  for (int i = 0; i < 30; i++) put("key" + std::to_string(i), pattern(1000));
  std::map<std::string, uint64_t> listed;
  uint64_t cursor = 0;
  do {
    const size_t before = client.count(wire::Opcode::kListReply);
    client.send_plain(wire::Opcode::kList, [&](std::span<std::byte> body) {
      return wire::encode(wire::List{cursor, 7}, body);
    });
    until([&] { return client.count(wire::Opcode::kListReply) > before; });
    wire::ListReplyDecoder decoder(base::as_bytes(client.last(wire::Opcode::kListReply)));
    ASSERT_TRUE(decoder.validate().ok());
    wire::ListItem item;
    while (decoder.next(item)) listed[std::string(item.key)] = item.block_bytes;
    cursor = decoder.next_cursor();
  } while (cursor != 0);
  EXPECT_EQ(listed.size(), 30u);
  EXPECT_EQ(listed["key29"], 1000u);
}

TEST_F(WorkerTest, TooManyOpsAreBusyAndTheRestIsServed) {
  for (int i = 0; i < 60; i++)
    client.op({.kind = OpKind::kStat, .key = "k"});  // the pool has 64, and one client may have half of them
  const uint64_t request = client.send();
  reply(request, 59);
  size_t busy = 0;
  for (uint16_t i = 0; i < 60; i++) busy += client.find(request, i)->op.status == Status::kBusy;
  EXPECT_EQ(busy, 28u);
  EXPECT_EQ(plain(OpKind::kStat, "k").op.status, Status::kMiss);
}

TEST_F(WorkerTest, AFrameThatIsNoFrameEndsTheConnection) {
  client.send_plain(wire::Opcode::kOps, [](std::span<std::byte> body) {
    std::memset(body.data(), 0xff, 100);
    return size_t{100};
  });
  until([&] { return client.closed; });
  EXPECT_EQ(client.goodbye, Status::kInvalid);
}

TEST_F(WorkerTest, ADeadlineThatPassedBeforeTheStart) {
  const std::string data = pattern(10);
  client.op({.kind = OpKind::kPut, .deadline_us = 1, .key = "k"}, data, sums_of("k", data));
  const uint64_t request = client.send();
  const Status status = reply(request).op.status;
  EXPECT_EQ(status, Status::kDeadline);
}

TEST_F(WorkerTest, StopSaysGoodbyeAndLeavesNothing) {
  put("k", pattern(100'000));
  stop();
}

}  // namespace
}  // namespace memkv::shard
