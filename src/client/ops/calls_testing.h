#pragma once
/// For tests: calls on a simulated clock, and a server that does and says what the test wants.

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "client/ops/calls.h"
#include "client/remote/frame.h"
#include "io/sim_reactor.h"

namespace memkv::client {

constexpr uint64_t kUs = 1'000, kMs = 1'000'000;

/// Each unit that is pumped gets a frame of its own, in the order of routing. It waits until the test answers or loses
/// it.
class FakeRemote final : public Remote {
 public:
  explicit FakeRemote(size_t index) : index_(index), name_("fake" + std::to_string(index)) {}
  ~FakeRemote() override {
    for (RequestFrame& frame : frames_) frame.units.clear();
  }

  size_t index() const override { return index_; }
  const std::string& name() const override { return name_; }
  Status refusal() const override { return refused; }
  Status refusal_of(const Request&) override { return refused; }
  Workers workers() const override { return refused == Status::kOk ? map : Workers{}; }
  bool silent_since(uint64_t) const override { return silent; }
  bool has_room(uint32_t) const override { return asked.size() + queued_.size() < room; }
  void route(Unit& unit) override {
    ASSERT_TRUE(unit.queue == nullptr && unit.frame == nullptr);
    if (refused != Status::kOk) return owner->on_refused(unit, refused);
    add_to(queued_, unit);
  }
  void pump() override {
    if (!sends) return;
    while (Unit* unit = queued_.pop_front()) {
      unit->queue = nullptr;
      RequestFrame& frame = frames_.emplace_back();
      frame.step = RequestFrame::Step::kOnLink;
      frame.epoch = epoch;
      frame.units.push_back(unit);
      unit->frame = &frame;
      if (wire::has_payload(unit->kind)) hold(frame, *unit->op);
      asked.push_back(unit);
    }
  }
  void give_up(Unit& unit) override {
    given_up++;
    forget(unit);
  }
  void forget(Unit& unit) override {
    unit.frame->units.clear();
    unit.frame = nullptr;
    asked.erase(std::find(asked.begin(), asked.end(), &unit));
  }
  void quiet(const Request&) override { quieted++; }
  bool is_open(Path path) const override { return path.epoch == link.epoch; }
  void send_abort(Path, uint64_t upload) override { aborted.push_back(upload); }
  bool confirms_release(const Request&) const override { return one_sided; }
  void close_holders(const Request&) override { closed++; }

  /// The first unit that waits for an answer. Its frame has left by now.
  Unit& take() {
    Unit& unit = *asked.front();
    forget(unit);
    return unit;
  }
  void answer(const wire::OpReply& reply) {
    leave();
    owner->on_reply(take(), reply, link);
  }
  void answer(Status status, Generation generation = 0) { answer({.status = status, .generation = generation}); }
  void lose(bool sent) { owner->on_lost(take(), sent); }
  /// All frames leave the link; no memory is held any more.
  void leave() {
    for (RequestFrame& frame : frames_) {
      if (frame.step == RequestFrame::Step::kOnLink) frame.step = RequestFrame::Step::kLeft;
      for (Request* op : std::exchange(frame.holders, {})) {
        op->holds--;
        owner->on_released(*op);
      }
    }
  }

  UnitOwner* owner = nullptr;
  Status refused = Status::kOk;
  Workers map{.count = 2, .map = 1};
  bool silent = false, sends = true, one_sided = false;
  size_t room = 1000;
  uint64_t epoch = 1;
  Path link{.connection = 0, .epoch = 1};
  std::vector<Unit*> asked;
  std::vector<uint64_t> aborted;
  size_t given_up = 0, quieted = 0, closed = 0;

 private:
  static void hold(RequestFrame& frame, Request& op) {
    frame.holders.push_back(&op);
    op.holds++;
  }

  const size_t index_;
  const std::string name_;
  UnitQueue queued_;
  std::deque<RequestFrame> frames_;
};

/// Runs one call after another, against one server.
class CallsTest : public ::testing::Test {
 protected:
  CallsTest() : placement_(std::vector<std::string>{"fake0"}) {
    settings_.transport = Transport::kTcp;
    settings_.identity = &identity;
    machine_.emplace(settings_);
    auto made = std::make_unique<io::SimReactor>();
    reactor = made.get();
    EXPECT_TRUE(machine_->open(std::move(made)));
    calls.emplace(*machine_, placement_);
    calls->add(remote);
    remote.owner = &calls->units();
    call_.outcomes = &outcomes;
    call_.completed = &completed;
    call_.context = this;
    call_.on_done = [](Call& call) { static_cast<CallsTest*>(call.context)->done = true; };
  }
  ~CallsTest() override {
    calls->cancel(call_);
    remote.leave();
    EXPECT_EQ(calls->size(), 0u);
    calls->shut_down();
  }

  BatchOp& add(Kind kind, std::string_view key, size_t bytes = 0) {
    memory_.resize(std::max(memory_.size(), bytes));
    BatchOp& op = batch.add(kind, key);
    if (bytes > 0) batch.add_piece(op, memory_.data(), bytes);
    return op;
  }
  void submit(uint64_t timeout_ns = 0) {
    done = false;
    call_.batch = &batch;
    call_.timeout_ns = timeout_ns;
    calls->submit(call_);
  }
  void cancel() { calls->cancel(call_); }
  void feed(uint32_t op, uint64_t bytes) { calls->feed(call_, op, bytes); }
  void pass(uint64_t ns) { reactor->advance(ns); }
  Status status(size_t op = 0) const { return outcomes[op].status; }
  std::vector<wire::OpKind> kinds() const {
    std::vector<wire::OpKind> kinds;
    for (const Unit* unit : remote.asked) kinds.push_back(unit->kind);
    return kinds;
  }
  const Counters& counters() const { return machine_->counters(); }

  ClientIdentity identity{{}};
  io::SimReactor* reactor = nullptr;
  FakeRemote remote{0};
  std::optional<Calls> calls;
  Batch::Impl batch;
  std::vector<Outcome> outcomes;
  std::vector<uint32_t> completed;
  bool done = false;

 private:
  Settings settings_;
  Placement placement_;
  std::optional<Machine> machine_;
  Call call_;
  std::string memory_;
};

}  // namespace memkv::client
