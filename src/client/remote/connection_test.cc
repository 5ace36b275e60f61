/// A connection without a server. Its link is a stand-in that keeps what it is given; the test says what arrives.

#include "client/remote/connection.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

#include "io/sim_reactor.h"

namespace memkv::client {
namespace {

using transport::PayloadTarget;
using wire::Opcode;
constexpr uint64_t kMs = 1'000'000;

/// Keeps frames until the test lets them leave.
class FakeLink final : public transport::Link {
 public:
  Result<void> send(transport::SendFrame& frame) override {
    if (closed) return Error{Status::kUnavailable, 0, "closed"};
    held.push_back(&frame);
    return {};
  }
  void resume(PayloadTarget) override {}
  bool redirect() override { return ++redirected > 0; }
  void close(Status) override { closed = true; }
  uint64_t bytes_queued() const override { return 0; }
  uint64_t last_sent_ns() const override { return 0; }
  uint64_t last_received_ns() const override { return 0; }
  int fd() const override { return -1; }

  void leave(bool sent = true) {
    while (!held.empty()) {
      transport::SendFrame& frame = *held.front();
      held.pop_front();
      frame.on_done(frame, sent);
    }
  }
  std::vector<Opcode> opcodes() const {
    std::vector<Opcode> opcodes;
    for (const transport::SendFrame* frame : held) opcodes.push_back(frame->opcode);
    return opcodes;
  }

  std::deque<transport::SendFrame*> held;
  bool closed = false;
  int redirected = 0;
};

/// Stands for both owners of the connection, and records what they are told.
class ConnectionTest : public ::testing::Test, public UnitOwner, public ConnectionOwner {
 protected:
  ConnectionTest()
      : machine_(settings()),
        watch_(
            machine_, [](io::Timer&) {}, nullptr),
        shared_{machine_, *this, pool_, watch_} {
    auto made = std::make_unique<io::SimReactor>();
    reactor = made.get();
    EXPECT_TRUE(machine_.open(std::move(made)));
    connection.emplace(shared_, *this, facts_, Connection::Role{0, Transport::kTcp, wire::kAnyWorker});
    open();
  }
  ~ConnectionTest() override {
    if (connection->state() != Connection::State::kIdle) lose();
    watch_.keep_stopped(), watch_.stop();
  }

  void open() {
    auto made = std::make_unique<FakeLink>();
    link = made.get();
    connection->adopt(std::move(made), {});
    link->leave();  // the INTRODUCE frame
    wire::Welcome welcome;
    welcome.worker_count = welcome.shard_count = 1;
    welcome.credit.puts = welcome.credit.gets = 64;
    welcome.credit.ops = 4;
    hear(Opcode::kWelcome, 0, [&](std::span<std::byte> body) { return wire::encode(welcome, body); });
    EXPECT_TRUE(connection->open());
  }
  void lose() {
    link->leave(false);
    connection->on_closed(*link, Error{Status::kUnavailable, 0, "lost"});
  }
  template <typename Encode>
  PayloadTarget hear(Opcode opcode, uint64_t request_id, Encode&& encode, uint32_t payload_bytes = 0) {
    const size_t bytes = encode(std::span(body_));
    wire::FrameHeader header;
    header.opcode = opcode;
    header.request_id = request_id;
    header.payload_bytes = payload_bytes;
    return connection->on_frame(*link, header, std::span(body_).first(bytes));
  }
  PayloadTarget hear_reply(uint64_t request_id, std::vector<wire::OpReply> replies) {
    uint32_t payload = 0;
    for (const wire::OpReply& reply : replies) payload += reply.payload_bytes;
    const auto encode = [&](std::span<std::byte> body) {
      wire::ReplyEncoder encoder(body);
      const std::vector<uint64_t> sums(wire::kSumsMax);
      for (const wire::OpReply& reply : replies)
        EXPECT_TRUE(encoder.add(reply, std::span(sums).first(reply.sum_count)));
      return encoder.finish().size();
    };
    return hear(Opcode::kReply, request_id, encode, payload);
  }
  /// A request of one unit, queued at the connection.
  Unit& ask(Kind kind, wire::OpKind wire_kind, uint32_t bytes = 0) {
    auto& asked = asked_.emplace_back();
    asked.spec.kind = kind;
    asked.memory.resize(bytes);
    asked.piece = {asked.memory.data(), bytes};
    asked.request.spec = &asked.spec;
    asked.request.key = "key";
    asked.request.pieces = {&asked.piece, 1};
    asked.request.bytes = bytes;
    asked.request.deadline_ns = reactor->now_ns() + 1000 * kMs;
    asked.unit.op = &asked.request;
    asked.unit.kind = wire_kind;
    asked.unit.length = bytes;
    connection->enqueue(asked.unit);
    return asked.unit;
  }
  Unit& ask_remove() { return ask(Kind::kRemove, wire::OpKind::kRemove); }
  uint64_t last_id() const { return link->held.back()->request_id; }
  void note(Unit& unit, std::vector<Unit*>& list) {
    unit.leave_queue();
    list.push_back(&unit);
  }

  void on_reply(Unit& unit, const wire::OpReply& reply, Path) override {
    note(unit, replied);
    statuses.push_back(reply.status);
  }
  void on_mismatch(Unit& unit) override { note(unit, mismatched); }
  void on_lost(Unit& unit, bool sent) override { note(unit, sent ? lost_sent : lost_unsent); }
  void on_refused(Unit& unit, Status) override { note(unit, refused); }
  void on_delayed(Unit& unit) override { note(unit, delayed); }
  void on_moved(Unit&) override {}
  void on_released(Request&) override { released++; }
  void on_room(Remote&) override {}

  void on_connect_failed(Connection&, const Error&, std::string_view) override {}
  bool accept_name(std::string_view) override { return true; }
  void on_welcome(Connection&, const wire::Welcome&) override {}
  void on_map(const wire::WorkerMap&) override {}
  void on_lost(Connection&, const Error&) override { lost_links++; }
  void note_heard(uint64_t) override {}
  void on_room(Connection& of) override { of.pump(); }

  static Settings settings() {
    Settings settings;
    settings.transport = Transport::kTcp;
    return settings;
  }

  io::SimReactor* reactor = nullptr;
  FakeLink* link = nullptr;
  std::vector<Unit*> replied, mismatched, lost_sent, lost_unsent, refused, delayed;
  std::vector<Status> statuses;
  int released = 0, lost_links = 0;

 private:
  struct Asked {
    BatchOp spec;
    std::string memory;
    iovec piece{};
    Request request;
    Unit unit;
  };
  std::array<std::byte, 8192> body_{};
  std::deque<Asked> asked_;
  ServerFacts facts_;
  FramePool pool_;
  Machine machine_;
  Watch watch_;
  Shared shared_;

 protected:
  std::optional<Connection> connection;
};

TEST_F(ConnectionTest, ALateReplyGoesNowhere) {
  Unit& unit = ask_remove();
  connection->pump();
  const uint64_t id = last_id();
  link->leave();
  unit.frame->sender->give_up(unit);
  EXPECT_EQ(unit.frame, nullptr);
  EXPECT_EQ(link->opcodes(), std::vector{Opcode::kCancel}) << "the server is told";
  link->leave();
  hear_reply(id, {{.index = 0, .status = Status::kOk}});
  EXPECT_TRUE(replied.empty());
  EXPECT_EQ(connection->frames(), 0u) << "the frame had waited for it";
  hear_reply(id, {{.index = 0, .status = Status::kOk}});
  EXPECT_FALSE(link->closed) << "a reply to a frame that is no more is nobody's";
}

TEST_F(ConnectionTest, BytesOfALateReplyAreNotWrittenAnywhere) {
  Unit& unit = ask(Kind::kGet, wire::OpKind::kGet, 1000);
  connection->pump();
  const uint64_t id = last_id();
  link->leave();
  unit.frame->sender->give_up(unit);
  const PayloadTarget target = hear_reply(id, {{.index = 0, .status = Status::kOk, .payload_bytes = 1000}});
  EXPECT_EQ(target.kind, PayloadTarget::Kind::kSink);
}

TEST_F(ConnectionTest, AReplyUnderWayIsTurnedAwayFromMemoryThatMustBeQuiet) {
  Unit& first = ask(Kind::kGet, wire::OpKind::kGet, 1000);
  Unit& second = ask(Kind::kGet, wire::OpKind::kGet, 1000);
  connection->pump();
  const uint64_t id = last_id();
  link->leave();
  wire::OpReply reply{.index = 0, .status = Status::kOk, .payload_bytes = 1000, .block_bytes = 1000, .sum_count = 1};
  wire::OpReply other = reply;
  other.index = 1;
  EXPECT_EQ(hear_reply(id, {reply, other}).kind, PayloadTarget::Kind::kInto);
  connection->quiet(*first.op);
  EXPECT_EQ(link->redirected, 1);
  EXPECT_EQ(delayed, std::vector<Unit*>{&second}) << "it has lost its bytes too, and asks again";
  connection->on_payload(*link);
  EXPECT_TRUE(replied.empty());
}

TEST_F(ConnectionTest, BytesThatDoNotMatchAreReportedToTheServer) {
  Unit& unit = ask(Kind::kGet, wire::OpKind::kGet, 1000);
  connection->pump();
  const uint64_t id = last_id();
  link->leave();
  hear_reply(id, {{.index = 0, .status = Status::kOk, .payload_bytes = 1000, .block_bytes = 1000, .sum_count = 1}});
  connection->on_payload(*link);
  EXPECT_EQ(mismatched, std::vector<Unit*>{&unit});
  EXPECT_EQ(link->opcodes(), std::vector{Opcode::kOps}) << "SUSPECT";
}

TEST_F(ConnectionTest, AnOpAnsweredTwiceEndsTheLink) {
  ask_remove(), ask_remove();
  connection->pump();
  const uint64_t id = last_id();
  link->leave();
  hear_reply(id, {{.index = 0, .status = Status::kOk}});
  EXPECT_FALSE(link->closed);
  hear_reply(id, {{.index = 0, .status = Status::kOk}});
  EXPECT_TRUE(link->closed);
  EXPECT_EQ(replied.size(), 1u);
  lose();
  EXPECT_EQ(lost_sent.size(), 1u) << "the one without an answer";
}

TEST_F(ConnectionTest, CreditHoldsBackUntilRepliesCome) {
  for (int i = 0; i < 6; i++) ask_remove();
  connection->pump();
  EXPECT_EQ(connection->queued(), 2u) << "the server takes four";
  const uint64_t id = last_id();
  link->leave();
  EXPECT_EQ(connection->queued(), 2u);
  hear_reply(id, {{.index = 0, .status = Status::kOk}, {.index = 1, .status = Status::kMiss}});
  EXPECT_EQ(connection->queued(), 0u);
  EXPECT_EQ(statuses, (std::vector{Status::kOk, Status::kMiss}));
}

TEST_F(ConnectionTest, MemoryIsHeldUntilTheFrameHasLeft) {
  Unit& unit = ask(Kind::kPut, wire::OpKind::kPut, 1000);
  connection->pump();
  EXPECT_EQ(unit.op->holds, 1u);
  EXPECT_TRUE(connection->holds_memory_of(*unit.op));
  link->leave();
  EXPECT_EQ(unit.op->holds, 0u);
  EXPECT_EQ(released, 1);
  EXPECT_FALSE(connection->holds_memory_of(*unit.op));
}

TEST_F(ConnectionTest, ABeginThatIsGivenUpWhileItLeavesIsCanceledBehindIt) {
  Unit& unit = ask(Kind::kPut, wire::OpKind::kBegin);
  connection->pump();
  unit.frame->sender->give_up(unit);
  EXPECT_EQ(link->opcodes(), std::vector{Opcode::kOps}) << "a CANCEL would overtake it";
  link->leave();
  EXPECT_EQ(link->opcodes(), std::vector<Opcode>{}) << "leave() let the CANCEL go too";
  EXPECT_EQ(connection->frames(), 1u);
}

TEST_F(ConnectionTest, ALostLinkGivesEverythingBack) {
  for (int i = 0; i < 6; i++) ask_remove();
  connection->pump();
  link->leave();
  lose();
  EXPECT_EQ(lost_sent.size(), 4u);
  EXPECT_EQ(lost_unsent.size(), 2u);
  EXPECT_EQ(lost_links, 1);
  EXPECT_TRUE(connection->quiet_at_rest());
  const uint64_t epoch = connection->line().epoch;
  open();
  EXPECT_GT(connection->line().epoch, epoch) << "another link, which uploads do not follow";
}

TEST_F(ConnectionTest, ASilentPeerIsAskedAndThenGivenUp) {
  ask_remove();
  connection->pump();
  link->leave();
  EXPECT_TRUE(connection->check_liveness(reactor->now_ns()));
  reactor->advance(300 * kMs);
  EXPECT_TRUE(connection->check_liveness(reactor->now_ns()));
  EXPECT_EQ(link->opcodes(), std::vector{Opcode::kPing});
  ask_remove();
  connection->pump();
  EXPECT_EQ(connection->queued(), 1u) << "nothing more goes there meanwhile";
  reactor->advance(499 * kMs);
  EXPECT_TRUE(connection->check_liveness(reactor->now_ns()));
  reactor->advance(kMs);
  EXPECT_FALSE(connection->check_liveness(reactor->now_ns()));
}

}  // namespace
}  // namespace memkv::client
