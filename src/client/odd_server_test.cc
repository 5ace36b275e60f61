/// A server that breaks the protocol: the client closes the connection, ends every op, and goes on living.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "io/socket.h"
#include "memkv/client.h"
#include "transport/frames.h"
#include "transport/link_rig.h"

namespace memkv::client {
namespace {

using transport::Link;
using transport::PayloadTarget;
using transport::TestFrame;
using wire::Opcode;

/// Sends a frame, or half of a reply's payload and then nothing.
struct Say {
  std::function<void(Opcode, uint64_t, const std::string&, const std::string&)> whole;
  std::function<void(uint64_t, const std::string&, const std::string&)> half;
  uint16_t worker = 0;  ///< worker that serves the connection
  void operator()(Opcode opcode, uint64_t request_id, const std::string& body, const std::string& payload) const {
    whole(opcode, request_id, body, payload);
  }
};
/// What an odd server does with a frame of ops.
using Script = std::function<void(const Say& say, uint64_t request_id, std::vector<wire::Op> ops)>;

std::string reply_body(const std::vector<wire::OpReply>& replies, std::span<const uint64_t> sums = {}) {
  std::string body(4096, 0);
  wire::ReplyEncoder encoder(base::mut_bytes_of(body.data(), body.size()));
  for (const wire::OpReply& reply : replies) EXPECT_TRUE(encoder.add(reply, sums));
  body.resize(encoder.finish().size());
  return body;
}
std::string cancel_body(uint64_t request_id, uint16_t index) {
  std::string body(64, 0);
  body.resize(wire::encode(wire::Cancel{request_id, index}, base::mut_bytes_of(body.data(), body.size())));
  return body;
}
/// A map with as many shards as workers.
std::string map_body(uint8_t workers) {
  wire::WorkerMap map{.worker_count = workers, .shard_count = workers, .worker_of_shard = {}};
  for (uint8_t i = 0; i < workers; i++) map.worker_of_shard[i] = i;
  std::string body(256, 0);
  body.resize(wire::encode(map, base::mut_bytes_of(body.data(), body.size())));
  return body;
}
std::string welcome_body(uint16_t worker = 0, uint8_t workers = 2) {
  wire::Welcome welcome;
  welcome.worker = worker;
  welcome.worker_count = workers;
  welcome.shard_count = workers;
  for (uint8_t i = 0; i < workers; i++) welcome.worker_of_shard[i] = i;
  welcome.ready = 1;
  welcome.credit = {64, 64, 64};
  welcome.block_bytes_max = 16 << 20;
  std::string body(256, 0);
  body.resize(wire::encode(welcome, base::mut_bytes_of(body.data(), body.size())));
  return body;
}
/// Answers a miss to all of them, as an honest server would.
void misses(const Say& say, uint64_t request_id, std::vector<wire::Op> ops) {
  std::vector<wire::OpReply> replies;
  for (const wire::Op& op : ops) replies.push_back({.index = op.index, .status = Status::kMiss});
  say(Opcode::kReply, request_id, reply_body(replies), "");
}

/// Serves one connection after another, on a port and a thread of its own.
class OddServer {
 public:
  OddServer() {
    auto fd = io::listen_tcp("127.0.0.1", 0, {});
    EXPECT_TRUE(fd.ok());
    listening_ = std::move(*fd);
    reactor_ = transport::make_test_reactor(transport::Carrier::kEpoll);
    thread_ = std::thread([this] { loop(); });
  }
  ~OddServer() {
    stop_ = true;
    thread_.join();
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(io::local_port(listening_.get())); }
  size_t accepted() const { return accepted_; }
  size_t cancels() const { return cancels_; }
  size_t asked() const { return asked_; }
  /// wire::Features of connections that come from now on.
  void know(uint32_t features) { features_ = features; }
  /// The worker that connections are told they belong to.
  void welcome_as(uint16_t worker) { worker_ = worker; }
  /// How many workers connections are told of from now on.
  void become(uint8_t workers) { workers_ = workers; }
  void play(Script script) {
    const std::lock_guard lock(mutex_);
    script_ = std::move(script);
  }

 private:
  class Peer : public transport::LinkOwner {
   public:
    explicit Peer(OddServer& server) : server_(server) {}
    PayloadTarget on_frame(Link&, const wire::FrameHeader& header, std::span<const std::byte> body) override {
      wire::OpsDecoder decoder(body);
      std::vector<wire::Op> ops;
      if (header.opcode == Opcode::kOps && decoder.validate(header.payload_bytes)) {
        for (wire::Op op; decoder.next(op);) ops.push_back(op);
      }
      if (header.opcode == Opcode::kCancel) server_.cancels_++;
      if (header.opcode == Opcode::kOps) server_.asked_++;
      if (header.opcode == Opcode::kOps || header.opcode == Opcode::kExists) {
        const std::lock_guard lock(server_.mutex_);
        server_.script_(
            {[this](auto&&... what) { say(what...); }, [this](auto&&... what) { say_half(what...); }, told_},
            header.request_id, ops);
      }
      return PayloadTarget::sink();
    }
    void on_payload(Link&) override {}
    void on_closed(Link&, const Error&) override { gone = true; }
    void start(const transport::Acceptor::Accepted& accepted) {
      link = transport::make_tcp_link(*server_.reactor_, accepted.fd, transport::Role::kServer, accepted.keys, *this,
                                      {.features = accepted.features});
      key_ = accepted.keys.server_to_client;
      const uint16_t wanted_worker = accepted.wanted_worker;
      const uint16_t worker = server_.worker_;
      const uint8_t workers = server_.workers_;
      told_ = worker != wire::kAnyWorker ? worker : static_cast<uint16_t>(wanted_worker % workers);
      say(Opcode::kWelcome, 0, welcome_body(told_, workers), "");
    }
    void say(Opcode opcode, uint64_t request_id, const std::string& body, const std::string& payload) {
      frames_.push_back(std::make_unique<TestFrame>(opcode, request_id, body, payload));
      (void)link->send(*frames_.back());
    }

    void say_half(uint64_t request_id, const std::string& body, const std::string& payload) {
      TestFrame frame(Opcode::kReply, request_id, body, payload);
      EXPECT_TRUE(transport::prepare(frame));
      transport::encode_header(frame, frames_.size(), key_);
      const std::string text = std::string(reinterpret_cast<const char*>(frame.header.data()), frame.header.size()) +
                               body + payload.substr(0, payload.size() / 2);
      EXPECT_EQ(::send(link->fd(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    }

    std::unique_ptr<transport::Acceptor> acceptor;
    std::unique_ptr<Link> link;
    bool gone = false;

   private:
    OddServer& server_;
    std::vector<std::unique_ptr<TestFrame>> frames_;
    base::SipKey key_{};
    uint16_t told_ = 0;  ///< the worker that it was told to belong to
  };

  void loop() {
    while (!stop_) {
      const int fd = ::accept4(listening_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd >= 0) admit(fd);
      reactor_->run_once(1'000'000);
    }
    for (auto& peer : peers_) {
      if (peer->link && !peer->gone) peer->link->close(Status::kOk);
    }
    for (int turns = 0; turns < 5000 && !all_gone(); turns++) reactor_->run_once(1'000'000);
    EXPECT_TRUE(all_gone());
    peers_.clear();
  }
  bool all_gone() const {
    return std::all_of(peers_.begin(), peers_.end(), [](const auto& peer) { return !peer->link || peer->gone; });
  }
  void admit(int fd) {
    accepted_++;
    Peer& peer = *peers_.emplace_back(std::make_unique<Peer>(*this));
    const auto any_secret = [](void*, const wire::KeyId&, wire::Secret& out) { return out = {}, true; };
    peer.acceptor = transport::Acceptor::make(
        *reactor_, fd, wire::ServerHandshake(any_secret, nullptr, "", features_), reactor_->now_ns() + 5'000'000'000,
        [](void* context, transport::Acceptor&, Result<transport::Acceptor::Accepted> accepted) {
          if (!accepted) return;
          auto& self = *static_cast<Peer*>(context);
          self.start(*accepted);
        },
        &peer);
  }
  base::UniqueFd listening_;
  std::unique_ptr<io::Reactor> reactor_;
  std::deque<std::unique_ptr<Peer>> peers_;
  std::mutex mutex_;
  Script script_ = misses;
  std::atomic<bool> stop_{false};
  std::atomic<size_t> accepted_{0}, cancels_{0}, asked_{0};
  std::atomic<uint16_t> worker_{wire::kAnyWorker};
  std::atomic<uint8_t> workers_{2};
  std::atomic<uint32_t> features_{0};
  std::thread thread_;
};

class OddServerTest : public testing::Test {
 protected:
  void SetUp() override {
    ClientOptions options;
    options.servers = {server_.address()};
    options.transport = Transport::kTcp;
    options.get_timeout = options.put_timeout = std::chrono::milliseconds(150);
    auto connected = Session::connect(options);
    ASSERT_TRUE(connected) << connected.error().text;
    session_.emplace(std::move(*connected));
    ASSERT_TRUE(is_spoken_to());
  }
  void TearDown() override { session_.reset(); }

  std::vector<Status> get_two() {
    Batch batch;
    batch.get("a", Scatter(room_.data(), 5000)).get("b", Scatter(room_.data() + 5000, 5000));
    return statuses(batch);
  }
  std::vector<Status> statuses(Batch& batch) {
    std::vector<Status> all;
    for (const Outcome& outcome : session_->run(batch)) all.push_back(outcome.status);
    return all;
  }
  /// Checks that nothing is delivered, nobody hangs, and an honest server is used again afterwards.
  void expect_failure_and_recovery(Script script, const std::function<void(Batch&)>& fill = {}) {
    std::atomic<int> played{0};
    server_.play([&](const Say& say, uint64_t request_id, std::vector<wire::Op> ops) {
      played++;
      script(say, request_id, std::move(ops));
    });
    for (int i = 0; i < 20 && played == 0; i++) {  // on a busy machine the deadline may come first
      Batch batch;
      if (fill) {
        fill(batch);
      } else {
        batch.get("a", Scatter(room_.data(), 5000)).get("b", Scatter(room_.data() + 5000, 5000));
      }
      for (const Status status : statuses(batch)) EXPECT_NE(status, Status::kOk);
    }
    EXPECT_GT(played, 0);
    server_.play(misses);
    EXPECT_TRUE(is_spoken_to());
  }
  /// Checks it with two gets that are answered.
  bool is_spoken_to() {
    const std::vector<Status> both = {Status::kMiss, Status::kMiss};
    for (int i = 0; i < 40; i++) {
      const size_t asked = server_.asked();
      if (get_two() == both && server_.asked() > asked) return true;  // else nobody was asked
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return false;
  }

  OddServer server_;
  std::optional<Session> session_;
  std::vector<char> room_ = std::vector<char>(10'000);
};

/// A server of an older build closes connections with kinds of ops that it does not know.
TEST_F(OddServerTest, DoesNotKnowPrefetches) {
  std::atomic<int> prefetches{0};
  server_.play([&](const Say& say, uint64_t request_id, std::vector<wire::Op> ops) {
    for (const wire::Op& op : ops) prefetches += op.kind == wire::OpKind::kPrefetch ? 1 : 0;
    misses(say, request_id, std::move(ops));
  });
  const size_t accepted = server_.accepted();
  Batch batch;
  batch.prefetch("a").get("b", Scatter(room_.data(), 5000)).prefetch("c");
  EXPECT_EQ(statuses(batch), (std::vector<Status>{Status::kUnsupported, Status::kMiss, Status::kUnsupported}));
  EXPECT_EQ(prefetches, 0);
  EXPECT_EQ(server_.accepted(), accepted) << "the connection stays";
}

class NewServerTest : public OddServerTest {
 protected:
  void SetUp() override {
    server_.know(wire::kFeaturePrefetch);
    OddServerTest::SetUp();
  }
};

/// A hint that the server has no place for is not tried again.
TEST_F(NewServerTest, IsTooBusyForPrefetches) {
  std::atomic<int> prefetches{0};
  server_.play([&](const Say& say, uint64_t request_id, std::vector<wire::Op> ops) {
    std::vector<wire::OpReply> replies;
    for (const wire::Op& op : ops) {
      const bool hint = op.kind == wire::OpKind::kPrefetch;
      prefetches += hint ? 1 : 0;
      replies.push_back({.index = op.index, .status = hint ? Status::kBusy : Status::kMiss});
    }
    say(Opcode::kReply, request_id, reply_body(replies), "");
  });
  Batch batch;
  batch.prefetch("a").prefetch("b");
  EXPECT_EQ(statuses(batch), (std::vector<Status>{Status::kRefused, Status::kRefused}));
  EXPECT_EQ(prefetches, 2);
}

TEST_F(OddServerTest, AnswersOneOpTwice) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    const auto once = reply_body({{.index = ops[0].index, .status = Status::kMiss}});
    say(Opcode::kReply, id, once, "");
    say(Opcode::kReply, id, once, "");
  });
}

TEST_F(OddServerTest, AnswersOneOpTwiceInOneFrame) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    const wire::OpReply miss{.index = ops[0].index, .status = Status::kMiss};
    say(Opcode::kReply, id, reply_body({miss, miss}), "");
  });
}

TEST_F(OddServerTest, CancelsWhatItAnswered) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    say(Opcode::kReply, id, reply_body({{.index = ops[0].index, .status = Status::kMiss}}), "");
    say(Opcode::kCanceled, id, cancel_body(id, ops[0].index), "");
  });
}

TEST_F(OddServerTest, CancelsUnasked) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    for (const wire::Op& op : ops) say(Opcode::kCanceled, id, cancel_body(id, op.index), "");
    say(Opcode::kCanceled, id, cancel_body(id, 0), "");  // the op is not known any more
  });
}

TEST_F(OddServerTest, NamesAnOpThatIsNotThere) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto) {
    say(Opcode::kReply, id, reply_body({{.index = 77, .status = Status::kMiss}}), "");
  });
  expect_failure_and_recovery(
      [](const Say& say, uint64_t id, auto) { say(Opcode::kCanceled, id, cancel_body(id, 77), ""); });
}

TEST_F(OddServerTest, SaysMoreThanItWasAsked) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    const wire::OpReply miss{.index = ops[0].index, .status = Status::kMiss};
    say(Opcode::kReply, id, reply_body({miss, miss, miss}), "");
  });
}

TEST_F(OddServerTest, RepliesToARequestThatIsNot) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    for (const uint64_t other : {id + 1, id ^ (uint64_t{1} << 40), UINT64_MAX, uint64_t{0}}) {
      say(Opcode::kReply, other, reply_body({{.index = ops[0].index, .status = Status::kMiss}}), "");
      say(Opcode::kCanceled, other, cancel_body(other, 0), "");
    }
  });
}

TEST_F(OddServerTest, SendsMoreBytesThanWereAskedFor) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    const std::array<uint64_t, 1> sum = {1};
    const wire::OpReply reply{.index = ops[0].index,
                              .status = Status::kOk,
                              .payload_bytes = 5001,
                              .generation = 1,
                              .block_bytes = 9000,
                              .sum_count = 1};
    say(Opcode::kReply, id, reply_body({reply}, sum), std::string(5001, 'x'));
  });
}

TEST_F(OddServerTest, SendsBytesForAPut) {
  expect_failure_and_recovery(
      [](const Say& say, uint64_t id, auto ops) {
        const std::array<uint64_t, 1> sum = {1};
        const wire::OpReply reply{
            .index = ops[0].index, .status = Status::kOk, .payload_bytes = 3, .block_bytes = 3, .sum_count = 1};
        say(Opcode::kReply, id, reply_body({reply}, sum), "abc");
      },
      [](Batch& batch) { batch.put("a", std::string_view("content")); });
}

TEST_F(OddServerTest, SendsBytesThatAreNotWhatTheirSumsSay) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    const std::array<uint64_t, 1> sum = {12345};
    for (const wire::Op& op : ops) {
      const wire::OpReply reply{.index = op.index,
                                .status = Status::kOk,
                                .payload_bytes = 100,
                                .generation = 1,
                                .block_bytes = 100,
                                .sum_count = 1};
      say(Opcode::kReply, id, reply_body({reply}, sum), std::string(100, 'x'));
    }
  });
}

TEST_F(OddServerTest, SaysThatAWriteWorkedAndGivesNoReason) {
  expect_failure_and_recovery([](const Say& say, uint64_t id, auto ops) {
    for (const wire::Op& op : ops) say(Opcode::kReply, id, reply_body({{.index = op.index}}), "");
  });
}

TEST_F(OddServerTest, AnswersExistsWithAnotherNumber) {
  const auto ask = [](Batch& batch) { batch.exists("a"); };
  for (const uint32_t count : {0u, 2u, 2000u}) {
    expect_failure_and_recovery(
        [count](const Say& say, uint64_t id, auto) {
          std::string body(1024, 0);
          const std::vector<uint8_t> bits((count + 7) / 8, 0xff);
          body.resize(wire::encode_exists_reply(bits, count, base::mut_bytes_of(body.data(), body.size())));
          say(Opcode::kExistsReply, id, body, "");
        },
        ask);
  }
  expect_failure_and_recovery(
      [](const Say& say, uint64_t id, auto) {
        say(Opcode::kReply, id, reply_body({{.index = 0, .status = Status::kOk}}), "");
      },
      ask);
}

TEST_F(OddServerTest, SendsWhatNoServerSends) {
  for (const Opcode opcode : {Opcode::kOps, Opcode::kOffer, Opcode::kTaken, Opcode::kWelcome, Opcode::kStatus,
                              Opcode::kList, Opcode::kExists, static_cast<Opcode>(200)}) {
    expect_failure_and_recovery([opcode](const Say& say, uint64_t id, auto) {
      say(opcode, id, opcode == Opcode::kWelcome ? welcome_body() : "", "");
    });
  }
}

TEST_F(OddServerTest, SendsBodiesThatAreRubbish) {
  for (const Opcode opcode : {Opcode::kReply, Opcode::kExistsReply, Opcode::kCanceled, Opcode::kCredit,
                              Opcode::kWorkerMap, Opcode::kGoodbye, Opcode::kStatusReply, Opcode::kListReply}) {
    for (const std::string& body :
         {std::string(), std::string(1, '\xff'), std::string(333, '\xff'), std::string(64, 0)}) {
      expect_failure_and_recovery([&](const Say& say, uint64_t id, auto) { say(opcode, id, body, ""); });
    }
  }
}

/// Two units of one get come in one reply: with the first unit the op ends, and the second one must end with it.
TEST_F(OddServerTest, HangsInTheMiddleOfAReply) {
  server_.play([](const Say& say, uint64_t id, auto ops) {
    const std::array<uint64_t, 1> sum = {1};
    std::vector<wire::OpReply> replies;
    for (const wire::Op& op : ops) {
      replies.push_back({.index = op.index,
                         .status = Status::kOk,
                         .payload_bytes = op.length,
                         .block_bytes = 4 << 20,
                         .sum_count = 1});
    }
    EXPECT_EQ(replies.size(), 2u);
    say.half(id, reply_body(replies, sum), std::string(8000, 'x'));
  });
  Batch batch;
  batch.get("a", Scatter(room_.data(), 8000), kChunkBytesMax - 4000);
  for (const Outcome& outcome : session_->run(batch, std::chrono::seconds(3))) EXPECT_NE(outcome.status, Status::kOk);
}

/// Otherwise the server would keep the upload until the put's deadline.
TEST_F(OddServerTest, HearsOfABeginThatIsGivenUpWhileItLeaves) {
  server_.play([](const Say&, uint64_t, auto) {});
  const std::string block(3 << 20, 'x');
  Batch batch;
  batch.put("a", block);
  const Session::Ticket ticket = session_->submit(batch);
  session_->cancel(ticket);
  for (int i = 0; i < 200 && server_.cancels() == 0; i++) session_->poll(std::chrono::milliseconds(5));
  EXPECT_EQ(server_.cancels(), 1u);
  (void)session_->collect(ticket);
}

TEST_F(OddServerTest, EndsEachConnectionAtOnce) {
  server_.play([](const Say& say, uint64_t, auto) { say(Opcode::kReply, 1, "rubbish", ""); });
  const size_t before = server_.accepted();
  for (int i = 0; i < 4; i++) (void)get_two();  // 150 ms each
  EXPECT_LT(server_.accepted() - before, 20u);
}

TEST_F(OddServerTest, GivesAnotherWorkerThanWasAskedFor) {
  server_.play([](const Say& say, uint64_t, auto) { say(Opcode::kReply, 1, "rubbish", ""); });
  (void)get_two();
  server_.play(misses);
  server_.welcome_as(1);
  const size_t before = server_.accepted();
  for (int i = 0; i < 4; i++) (void)get_two();
  EXPECT_LT(server_.accepted() - before, 20u);
}

TEST_F(OddServerTest, HearsNothingOfAnOffsetThatNoBlockHas) {
  std::atomic<int> heard{0};
  server_.play([&](const Say& say, uint64_t id, auto ops) {
    heard++;
    misses(say, id, ops);
  });
  Batch batch;
  batch.get("a", Scatter(room_.data(), 10), uint64_t{1} << 60);
  EXPECT_EQ(statuses(batch)[0], Status::kInvalid);
  EXPECT_EQ(heard, 0);
}

using CaseA1OddServer = OddServerTest;

/// Neither change was done, and by the client's own clock there is time left, so it asks again.
TEST_F(CaseA1OddServer, CallsAPutTooLateOrFencedThatWasNotGivenUp) {
  for (const wire::OpReply first : {wire::OpReply{.status = Status::kDeadline},
                                    wire::OpReply{.status = Status::kBusy, .flags = wire::kReplyFenced}}) {
    std::atomic<int> asked{0};
    server_.play([&](const Say& say, uint64_t id, auto) {
      const wire::OpReply stored{.status = Status::kOk};
      say(Opcode::kReply, id, reply_body({asked++ == 0 ? first : stored}), "");
    });
    Batch batch;
    batch.put("a", Gather(room_.data(), 100));
    const Outcome outcome = session_->run(batch, std::chrono::seconds(10)).front();
    EXPECT_EQ(outcome.status, Status::kOk);
    EXPECT_EQ(asked, 2);
  }
  EXPECT_EQ(session_->counters().fenced, 1u);
  server_.play(misses);
}

/// Shards for which nobody has answered may have moved to worker 0, which has answered by the old map.
TEST(Flush, AsksAllWorkersOfAMapThatCameMeanwhile) {
  for (const uint8_t workers : {uint8_t{1}, uint8_t{4}}) {
    OddServer server;
    std::array<int, 4> answered{};
    bool moved = false;
    server.play([&](const Say& say, uint64_t id, auto ops) {
      wire::OpReply reply{.index = ops[0].index, .status = Status::kOk};
      if (!moved && say.worker == 1) {
        reply.status = Status::kNotReady;
        moved = answered[0] == 1;
        if (moved) {
          answered = {};
          server.become(workers);
          say(Opcode::kWorkerMap, 0, map_body(workers), "");
        }
      } else {
        answered.at(say.worker)++;
      }
      say(Opcode::kReply, id, reply_body({reply}), "");
    });
    ClientOptions options;
    options.servers = {server.address()};
    options.transport = Transport::kTcp;
    auto client = Client::connect(options);
    ASSERT_TRUE(client) << client.error().text;
    EXPECT_EQ(client->flush(std::chrono::seconds(20)).status, Status::kOk);
    for (uint16_t worker = 0; worker < 4; worker++) {
      EXPECT_EQ(answered[worker], worker < workers ? 1 : 0) << "worker " << worker << " of " << int{workers};
    }
  }
}

TEST(Chains, OfManyOpsThatAreDoneAtOnce) {
  ClientOptions options;
  options.servers = {"127.0.0.1:1"};  // nobody listens there, so each get is a miss at once
  options.transport = Transport::kTcp;
  Session session = Session::connect(options).value();
  std::vector<char> room(10);
  Batch first;
  first.get("k", Scatter(room.data(), 10));
  (void)session.run(first);
  Batch chain;
  for (int i = 0; i < 50'000; i++) {
    chain.get("k", Scatter(room.data(), 10));
    if (i > 0) chain.chained();
  }
  for (const Outcome& outcome : session.run(chain)) ASSERT_EQ(outcome.status, Status::kMiss);
}

}  // namespace
}  // namespace memkv::client
