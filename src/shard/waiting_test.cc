/// Gets that wait for room in the send queue of their link, and payloads that wait for a slot.

#include <deque>
#include <utility>

#include "shard/rig_testing.h"

namespace memkv::shard {
namespace {

using wire::Op;
using wire::OpKind;

constexpr uint32_t kBlock = 64 * 1024;

/// A link in memory with a small send queue. Payloads leave it when the test says so.
class NarrowLink final : public transport::Link {
 public:
  NarrowLink(std::unique_ptr<Link> inner, transport::SendRoom room) : inner_(std::move(inner)), room_(room) {}

  Result<void> send(transport::SendFrame& frame) override {
    if (!hold || frame.payload.empty()) return inner_->send(frame);
    held.push_back(&frame);
    return {};
  }
  void let_go() {
    hold = false;
    for (transport::SendFrame* frame : std::exchange(held, {})) ASSERT_TRUE(inner_->send(*frame).ok());
  }
  void resume(transport::PayloadTarget target) override { inner_->resume(target); }
  bool redirect() override { return inner_->redirect(); }
  void lose() {
    for (transport::SendFrame* frame : std::exchange(held, {})) frame->on_done(*frame, false);
  }
  void close(Status why) override { inner_->close(why); }
  uint64_t bytes_queued() const override { return inner_->bytes_queued(); }
  uint64_t last_sent_ns() const override { return inner_->last_sent_ns(); }
  uint64_t last_received_ns() const override { return inner_->last_received_ns(); }
  int fd() const override { return inner_->fd(); }
  transport::SendRoom send_room() const override { return room_; }

  bool hold = false;
  std::vector<transport::SendFrame*> held;

 private:
  std::unique_ptr<Link> inner_;
  transport::SendRoom room_;
};

class WaitingTest : public testing::Test {
 protected:
  static constexpr uint64_t kBytes = 64 << 20;

  /// A store that reads its drive, so that a get takes a slot.
  void start(transport::SendRoom room) {
    identity = test_identity(1);
    identity.worker_count = 1;
    worker = Worker::make(test_reactor(), identity, test_worker_options()).value();
    ShardPlan plan = memory_plan(*worker, io::make_memory_storage(kBytes), kBytes, 0, 1);
    plan.options.memory_mode = false;
    worker->stores().plan(std::move(plan));
    worker->start();
    until([&] { return worker->ready(); });
    connection = worker->connections().open(kTestNamespace);
    auto links = transport::make_loopback_links(worker->reactor(), kTestKeys, client, *connection);
    client.link = std::move(links.client);
    auto narrow = std::make_unique<NarrowLink>(std::move(links.server), room);
    link = narrow.get();
    connection->attach(std::move(narrow), Transport::kTcp);
    client.introduce();
    until([&] { return client.count(wire::Opcode::kWelcome) == 1; });
  }
  void TearDown() override {
    WorkerMessage message;
    message.kind = WorkerMessage::Kind::kStop;
    ASSERT_TRUE(worker->push(message));
    until([&] { return worker->state() == Worker::State::kStopped && client.closed; });
    worker->check_whole();
  }
  void until(auto&& done) { run_until(*worker, done); }
  /// Runs the loop until nothing happens any more.
  void settle() {
    const uint64_t end = worker->now_ns() + 50'000'000;
    while (worker->now_ns() < end) worker->turn(1'000'000);
  }
  void put_blocks(uint16_t count, uint32_t bytes = kBlock) {
    for (uint16_t i = 0; i < count; i++) {
      const std::string key = key_of(i), data = pattern(bytes, i);
      client.op({.kind = OpKind::kPut, .key = key}, data, sums_of(key, data));
      const uint64_t request = client.send();
      until([&] { return client.find(request) != nullptr; });
      ASSERT_EQ(client.find(request)->op.status, Status::kOk);
    }
    until([&] { return worker->slots().arena().in_use() == 0; });
  }
  uint64_t get_blocks(uint16_t count, uint32_t deadline_us = 0, uint32_t bytes = kBlock) {
    for (uint16_t i = 0; i < count; i++) {
      keys.push_back(key_of(i));
      client.op({.kind = OpKind::kGet, .deadline_us = deadline_us, .length = bytes, .key = keys.back()});
    }
    return client.send();
  }
  void expect_block(uint64_t request, uint16_t i, uint32_t bytes = kBlock) {
    until([&] { return client.find(request, i) != nullptr && client.find(request, i)->payload.size() == bytes; });
    EXPECT_EQ(client.find(request, i)->payload, pattern(bytes, i));
  }
  void send_cancel(uint64_t request, uint16_t index) {
    client.send_plain(wire::Opcode::kCancel, [&](std::span<std::byte> body) {
      return wire::encode(wire::Cancel{request, index}, body);
    });
  }
  /// Takes all slots, so that nobody else gets one.
  void take_all_slots() {
    for (const uint64_t bytes : {uint64_t{kChunkBytesMax}, uint64_t{kBlock}, uint64_t{1}}) {
      while (const io::Slot slot = worker->slots().arena().take(static_cast<uint32_t>(bytes))) taken.push_back(slot);
    }
  }
  void give_slots_back() {
    for (const io::Slot& slot : std::exchange(taken, {})) worker->slots().arena().give_back(slot);
    worker->room_freed();
  }
  static std::string key_of(uint16_t i) { return "k" + std::to_string(i); }

  Identity identity;
  std::unique_ptr<Worker> worker;
  TestClient client;
  Connection* connection = nullptr;
  NarrowLink* link = nullptr;
  std::vector<io::Slot> taken;
  std::deque<std::string> keys;
};

TEST_F(WaitingTest, AGetTakesNoSlotBeforeItsReplyHasRoomInTheSendQueue) {
  for (const transport::SendRoom room : {transport::SendRoom{2, 1 << 20}, transport::SendRoom{100, 2 * kBlock}}) {
    start(room);
    put_blocks(6);
    link->hold = true;
    const uint64_t request = get_blocks(6);
    until([&] { return !link->held.empty(); });
    settle();
    EXPECT_EQ(worker->slots().arena().in_use(), 2u) << "room for two replies, so two drives are read";
    link->let_go();
    for (uint16_t i = 0; i < 6; i++) expect_block(request, i);
    until([&] { return worker->slots().arena().in_use() == 0; });
    TearDown();
    client.~TestClient();
    new (&client) TestClient;
  }
  start({});
}

TEST_F(WaitingTest, LinksWithoutALimitReadAtOnce) {
  start({});
  put_blocks(6);
  link->hold = true;
  const uint64_t request = get_blocks(6);
  until([&] { return worker->slots().arena().in_use() == 6; });
  link->let_go();
  for (uint16_t i = 0; i < 6; i++) expect_block(request, i);
}

TEST_F(WaitingTest, AGetThatWaitsForRoomCanBeCanceled) {
  start({1, 1 << 20});
  put_blocks(3);
  link->hold = true;
  const uint64_t request = get_blocks(3);
  until([&] { return !link->held.empty(); });
  send_cancel(request, 1);
  until([&] { return client.count(wire::Opcode::kCanceled) == 1; });
  link->let_go();
  expect_block(request, 0);
  expect_block(request, 2);
}

/// A slow link is not given everything that waits. What it does not have yet can be canceled, and is then not sent.
TEST_F(WaitingTest, AGetThatIsCanceledBehindOthersIsNotSent) {
  constexpr uint32_t kLarge = 2 << 20;
  start({});
  put_blocks(4, kLarge);
  link->hold = true;
  const uint64_t request = get_blocks(4, 0, kLarge);
  until([&] { return worker->slots().arena().in_use() == 4 && link->held.size() == 2; });
  settle();
  EXPECT_EQ(link->held.size(), 2u);
  client.op({.kind = OpKind::kStat, .key = "k0"});
  const uint64_t small = client.send();
  until([&] { return client.find(small) != nullptr; });  // the link is busy with payloads, and this op has none
  send_cancel(request, 2);
  until([&] { return client.count(wire::Opcode::kCanceled) == 1; });
  EXPECT_EQ(worker->slots().arena().in_use(), 3u);
  send_cancel(request, 0);  // too late
  link->let_go();
  for (const uint16_t i : {uint16_t{0}, uint16_t{1}, uint16_t{3}}) expect_block(request, i, kLarge);
  EXPECT_EQ(client.find(request, 2), nullptr);
  EXPECT_EQ(client.count(wire::Opcode::kCanceled), 1u);
  until([&] { return worker->slots().arena().in_use() == 0; });
}

TEST_F(WaitingTest, AGetThatWaitsForRoomPastItsDeadlineIsAnswered) {
  start({1, 1 << 20});
  put_blocks(2);
  link->hold = true;
  const uint64_t request = get_blocks(2, 200'000);
  until([&] { return client.find(request, 1) != nullptr; });
  EXPECT_EQ(client.find(request, 1)->op.status, Status::kDeadline);
  link->let_go();
}

TEST_F(WaitingTest, GetsThatWaitForRoomEndWithTheirLink) {
  start({1, 1 << 20});
  put_blocks(4);
  link->hold = true;
  get_blocks(4);
  until([&] { return !link->held.empty(); });
  client.link->close(Status::kOk);
  until([&] { return client.closed && connection->closed(); });
  link->lose();
  until([&] { return worker->pools().ops.in_use() == 0 && worker->slots().arena().in_use() == 0; });
}

TEST_F(WaitingTest, AGetWhoseBlockGoesWhileItWaitsForASlotIsAMiss) {
  start({});
  put_blocks(3);
  take_all_slots();
  const uint64_t request = get_blocks(3);
  until([&] { return worker->tenants().anyone_waits(); });
  client.op({.kind = OpKind::kRemove, .key = "k0"});
  client.op({.kind = OpKind::kRemove, .key = "k1"});
  const uint64_t removed = client.send();
  until([&] { return client.find(removed, 1) != nullptr; });
  give_slots_back();
  until([&] { return client.find(request, 0) != nullptr && client.find(request, 1) != nullptr; });
  EXPECT_EQ(client.find(request, 0)->op.status, Status::kMiss);
  EXPECT_EQ(client.find(request, 1)->op.status, Status::kMiss);
  expect_block(request, 2);
}

TEST_F(WaitingTest, GetsThatWaitForSlotsAreServedInTheirOrder) {
  start({});
  put_blocks(4);
  take_all_slots();
  const uint64_t request = get_blocks(3);
  until([&] { return worker->tenants().anyone_waits(); });
  const io::Slot one = taken.back();  // the smallest slot: too small for the first in the queue, which stays the first
  taken.pop_back();
  worker->slots().arena().give_back(one);
  worker->room_freed();
  client.op({.kind = OpKind::kGet, .length = kBlock, .key = "k3"});
  const uint64_t late = client.send();
  settle();
  EXPECT_EQ(client.find(request, 0), nullptr);
  EXPECT_EQ(client.find(late), nullptr);
  give_slots_back();
  for (uint16_t i = 0; i < 3; i++) expect_block(request, i);
  until([&] { return client.find(late) != nullptr; });
  EXPECT_EQ(client.find(late)->payload, pattern(kBlock, 3));
}

TEST_F(WaitingTest, APutThatWaitsForASlotPastItsDeadlineLeavesTheLinkWhole) {
  start({});
  take_all_slots();
  const std::string data = pattern(kBlock);
  client.op({.kind = OpKind::kPut, .deadline_us = 50'000, .key = "k"}, data, sums_of("k", data));
  const uint64_t late = client.send();
  until([&] { return client.find(late) != nullptr; });
  EXPECT_EQ(client.find(late)->op.status, Status::kDeadline);
  give_slots_back();
  put_blocks(1);
  EXPECT_FALSE(client.closed);
}

TEST_F(WaitingTest, AShortDeadlineBehindALongOneEndsInTime) {
  start({1, 1 << 20});
  put_blocks(3);
  link->hold = true;
  const uint64_t patient = get_blocks(1), waits = get_blocks(1), hasty = get_blocks(1, 200'000);
  until([&] { return client.find(hasty) != nullptr; });
  EXPECT_EQ(client.find(hasty)->op.status, Status::kDeadline);
  link->let_go();
  expect_block(patient, 0);
  expect_block(waits, 0);
  until([&] { return worker->slots().arena().in_use() == 0; });
  take_all_slots();
  get_blocks(1);
  const uint64_t late = get_blocks(1, 200'000);
  until([&] { return client.find(late) != nullptr; });
  EXPECT_EQ(client.find(late)->op.status, Status::kDeadline);
  give_slots_back();
}

/// Nothing is read behind a payload that waits. The client must not take the server for dead meanwhile.
TEST_F(WaitingTest, WhoWaitsWithAPutHearsThatTheServerLives) {
  start({});
  take_all_slots();
  const std::string data = pattern(kBlock);
  client.op({.kind = OpKind::kPut, .key = "k"}, data, sums_of("k", data));
  const uint64_t request = client.send();
  until([&] { return client.count(wire::Opcode::kPong) >= 3; });
  EXPECT_EQ(client.find(request), nullptr);
  give_slots_back();
  until([&] { return client.find(request) != nullptr; });
  EXPECT_EQ(client.find(request)->op.status, Status::kOk);
}

TEST_F(WaitingTest, APutThatTheClientGivesUpWaitsNoMore) {
  start({});
  take_all_slots();
  const std::string data = pattern(kBlock);
  client.op({.kind = OpKind::kPut, .key = "k"}, data, sums_of("k", data));
  client.send();
  until([&] { return worker->tenants().anyone_waits(); });
  connection->on_unwanted(*link);
  until([&] { return client.count(wire::Opcode::kCanceled) == 1; });
  connection->on_unwanted(*link);  // too late: nothing waits any more
  give_slots_back();
  put_blocks(1);
  EXPECT_FALSE(client.closed);
}

}  // namespace
}  // namespace memkv::shard
