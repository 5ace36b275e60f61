/// Opening a connection over TCP, and what a link does with bytes that no honest peer sends.

#include <fcntl.h>

#include "transport/link_rig.h"

namespace memkv::transport {
namespace {

using wire::Opcode;

class Opening : public testing::TestWithParam<Carrier> {
 protected:
  void SetUp() override {
    reactor = make_test_reactor(GetParam());
    if (!reactor) GTEST_SKIP() << "io_uring is not to be had here";
    auto listening = io::listen_tcp("127.0.0.1", 0, {});
    ASSERT_TRUE(listening);
    listener = std::move(*listening);
    address = io::resolve("127.0.0.1", io::local_port(listener.get()))->front();
    known = wire::make_secret();
    client_owner.destroy = &client;
    server_owner.destroy = &server;
    options.secret = known;
    options.client_name = "tester";
    options.deadline_ns = reactor->now_ns() + 5'000'000'000;
  }
  void TearDown() override {
    if (client) client->close(Status::kOk);
    if (server) server->close(Status::kOk);
    if (!reactor) return;
    EXPECT_TRUE(run_until(*reactor, [&] { return !client && !server && reactor->pending() == 0; }));
  }
  void connect() {
    connector = Connector::make(*reactor, address.get(), address.length, options, client_owner, on_connected, this);
  }
  void accept(uint64_t limit_ns = 5'000'000'000) {
    int fd = -1;
    ASSERT_TRUE(run_until(*reactor, [&] { return (fd = accept4(listener.get(), nullptr, nullptr, 0)) >= 0; }));
    acceptor = Acceptor::make(*reactor, fd, wire::ServerHandshake(find, this, "the server"),
                              reactor->now_ns() + limit_ns, on_accepted, this);
  }
  static bool find(void* context, const wire::KeyId& id, wire::Secret& out) {
    out = static_cast<Opening*>(context)->known;
    return id == wire::key_id_of(out);
  }
  static void on_connected(void* context, Result<std::unique_ptr<Link>> link, std::string_view name,
                           std::string_view goodbye) {
    auto& self = *static_cast<Opening*>(context);
    self.connected++;
    self.server_name = name;
    self.goodbye = goodbye;
    if (link) {
      self.client = std::move(*link);
    } else {
      self.connect_error = link.error();
    }
    self.connector.reset();
  }
  static void on_accepted(void* context, Acceptor&, Result<Acceptor::Accepted> accepted) {
    auto& self = *static_cast<Opening*>(context);
    self.accepted++;
    if (accepted) {
      self.acceptance = *accepted;
      self.server = make_tcp_link(*self.reactor, accepted->fd, Role::kServer, accepted->keys, self.server_owner,
                                  {.features = accepted->features});
    } else {
      self.accept_error = accepted.error();
    }
    self.acceptor.reset();
  }
  template <typename Done>
  bool run(Done&& done) {
    return run_until(*reactor, done);
  }

  std::unique_ptr<io::Reactor> reactor;
  base::UniqueFd listener;
  io::SocketAddress address;
  wire::Secret known{};
  Connector::Options options;
  TestOwner client_owner, server_owner;
  std::unique_ptr<Link> client, server;
  std::unique_ptr<Connector> connector;
  std::unique_ptr<Acceptor> acceptor;
  int connected = 0, accepted = 0;
  std::string server_name, goodbye;
  Error connect_error{Status::kOk}, accept_error{Status::kOk};
  Acceptor::Accepted acceptance;
};

TEST_P(Opening, TheRightSecretGivesALink) {
  options.hello.wanted_worker = 3;
  options.congestion = "reno";
  connect();
  accept();
  ASSERT_TRUE(run([&] { return connected == 1 && accepted == 1; }));
  ASSERT_TRUE(client && server);
  EXPECT_EQ(server_name, "the server");
  EXPECT_EQ(acceptance.wanted_worker, 3);
  EXPECT_EQ(acceptance.key_id, wire::key_id_of(known));
  EXPECT_EQ(io::get_congestion(client->fd()), "reno");
  TestFrame welcome(Opcode::kWelcome, 0, "hello", ""), ops(Opcode::kOps, 1, "ops", pattern(300'000, 1));
  ASSERT_TRUE(server->send(welcome));
  ASSERT_TRUE(client->send(ops));
  ASSERT_TRUE(run([&] { return client_owner.complete == 1 && server_owner.complete == 1; }));
  EXPECT_EQ(client_owner.heard[0].body, "hello");
  EXPECT_TRUE(server_owner.heard[0].payload == ops.payload_text);
}

TEST_P(Opening, FeaturesAreWhatBothEndsHave) {
  for (const uint32_t offered : {wire::kFeatures, wire::kFeatures | 0x8000, 0u}) {
    SCOPED_TRACE(offered);
    options.features = offered;
    connected = accepted = 0;
    const size_t heard = client_owner.heard.size();
    connect();
    accept();
    ASSERT_TRUE(run([&] { return connected == 1 && accepted == 1; }));
    EXPECT_EQ(acceptance.features, offered & wire::kFeatures);
    // Only who agreed upon it says what it has consumed: the other end would not understand.
    TestFrame welcome(Opcode::kWelcome, 0, "hello", ""), ops(Opcode::kOps, 1, "ops", pattern(300'000, 1));
    ASSERT_TRUE(server->send(welcome));
    ASSERT_TRUE(client->send(ops));
    ASSERT_TRUE(run([&] { return client_owner.heard.size() > heard && server_owner.complete > 0; }));
    for (const Heard& h : server_owner.heard) EXPECT_NE(h.opcode, Opcode::kConsumed);
    for (const Heard& h : client_owner.heard) EXPECT_NE(h.opcode, Opcode::kConsumed);
    client->close(Status::kOk);
    ASSERT_TRUE(run([&] { return !client && !server; }));
    client_owner.closed_count = server_owner.closed_count = 0;
    server_owner.complete = 0;
  }
}

TEST_P(Opening, AWrongSecretIsUnauthorized) {
  options.secret = wire::make_secret();
  connect();
  accept();
  ASSERT_TRUE(run([&] { return connected == 1 && accepted == 1; }));
  EXPECT_EQ(connect_error.status, Status::kUnauthorized);
  EXPECT_EQ(accept_error.status, Status::kUnavailable);
}

TEST_P(Opening, NoVersionInCommonComesWithASentence) {
  options.hello.version_min = options.hello.version_max = 99;
  connect();
  accept();
  ASSERT_TRUE(run([&] { return connected == 1 && accepted == 1; }));
  EXPECT_EQ(connect_error.status, Status::kVersion);
  EXPECT_NE(goodbye.find("99"), std::string::npos) << goodbye;
  EXPECT_EQ(accept_error.status, Status::kVersion);
}

TEST_P(Opening, NobodyListensThere) {
  listener.reset();
  connect();
  EXPECT_EQ(connected, 0);
  ASSERT_TRUE(run([&] { return connected == 1; }));
  EXPECT_EQ(connect_error.status, Status::kUnavailable);
  EXPECT_EQ(connect_error.sys_errno, ECONNREFUSED);
}

TEST_P(Opening, ASilentServerMeetsTheDeadline) {
  options.deadline_ns = reactor->now_ns() + 50'000'000;
  connect();
  ASSERT_TRUE(run([&] { return connected == 1; }));
  EXPECT_EQ(connect_error.status, Status::kDeadline);
}

TEST_P(Opening, CancelStillAnswersOnce) {
  connect();
  connector->cancel();
  connector->cancel();
  EXPECT_EQ(connected, 0);
  ASSERT_TRUE(run([&] { return connected == 1; }));
  EXPECT_EQ(connect_error.status, Status::kCanceled);
}

TEST_P(Opening, ASilentClientMeetsTheDeadline) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::connect(fd, address.get(), address.length), 0);
  accept(50'000'000);
  ASSERT_TRUE(run([&] { return accepted == 1; }));
  EXPECT_EQ(accept_error.status, Status::kDeadline);
  close(fd);
}

TEST_P(Opening, GarbageAndOversizedHellosAreInvalid) {
  wire::FrameHeader big;
  big.version = 0;
  big.opcode = Opcode::kHello;
  big.body_bytes = wire::kHelloBytesMax;
  std::array<std::byte, wire::kHeaderBytes> oversized{};
  wire::encode(big, oversized);
  const std::array<std::byte, wire::kHeaderBytes> garbage{};
  for (const auto& bytes : {oversized, garbage}) {
    const int before = accepted;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::connect(fd, address.get(), address.length), 0);
    ASSERT_EQ(write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    accept();
    ASSERT_TRUE(run([&] { return accepted == before + 1; }));
    EXPECT_EQ(accept_error.status, Status::kInvalid);
    close(fd);
  }
}

TEST_P(Opening, BadFramesCloseTheLink) {
  struct Case {
    const char* what;
    Status status;
    std::function<void(wire::FrameHeader&)> spoil;
    bool mac_after;
  };
  const std::vector<Case> cases = {
      {"wrong mac", Status::kUnauthorized, [](wire::FrameHeader& h) { h.mac[3] ^= 1; }, false},
      {"changed id", Status::kUnauthorized, [](wire::FrameHeader& h) { h.request_id++; }, false},
      {"sequence", Status::kInvalid, [](wire::FrameHeader& h) { h.sequence = 1; }, true},
      {"version", Status::kInvalid, [](wire::FrameHeader& h) { h.version = wire::kVersionMax + 1; }, true},
      {"handshake opcode", Status::kInvalid, [](wire::FrameHeader& h) { h.opcode = Opcode::kHello; }, true},
      {"unknown opcode", Status::kInvalid, [](wire::FrameHeader& h) { h.opcode = static_cast<Opcode>(99); }, true},
      {"body too large", Status::kInvalid, [](wire::FrameHeader& h) { h.body_bytes = wire::kBodyBytesMax + 1; }, true},
  };
  for (const Case& c : cases) {
    const auto [a, b] = tcp_pair();
    TestOwner owner;
    auto link = make_tcp_link(*reactor, b, Role::kServer, test_keys(), owner);
    owner.destroy = &link;
    wire::FrameHeader header;
    header.opcode = Opcode::kPing;
    header.mac = wire::make_mac(test_keys().client_to_server, header, {});
    c.spoil(header);
    if (c.mac_after) header.mac = wire::make_mac(test_keys().client_to_server, header, {});
    std::array<std::byte, wire::kHeaderBytes> bytes{};
    wire::encode(header, bytes);
    ASSERT_EQ(write(a, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    ASSERT_TRUE(run([&] { return !link; })) << c.what;
    EXPECT_EQ(owner.closed.status, c.status) << c.what;
    EXPECT_TRUE(owner.heard.empty()) << c.what;
    close(a);
  }
}

TEST_P(Opening, FramesThatComeByteByByteAreWhole) {
  const auto [a, b] = tcp_pair();
  client_owner.destroy = nullptr;
  server = make_tcp_link(*reactor, b, Role::kServer, test_keys(), server_owner);
  TestFrame f(Opcode::kOps, 7, "body", "payload");
  wire::FrameHeader header;
  header.opcode = f.opcode;
  header.request_id = f.request_id;
  header.body_bytes = 4;
  header.payload_bytes = 7;
  header.mac = wire::make_mac(test_keys().client_to_server, header, f.body);
  std::array<std::byte, wire::kHeaderBytes> bytes{};
  wire::encode(header, bytes);
  const std::string all = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) + "bodypayload";
  for (char c : all) {
    ASSERT_EQ(write(a, &c, 1), 1);
    run_until(
        *reactor, [] { return false; }, 100'000);
  }
  ASSERT_TRUE(run([&] { return server_owner.complete == 1; }));
  EXPECT_EQ(server_owner.heard[0].body, "body");
  EXPECT_EQ(server_owner.heard[0].payload, "payload");
  close(a);
  ASSERT_TRUE(run([&] { return !server; }));
  EXPECT_EQ(server_owner.closed.status, Status::kUnavailable);
}

INSTANTIATE_TEST_SUITE_P(Reactors, Opening, testing::Values(Carrier::kEpoll, Carrier::kUring),
                         [](const auto& param_info) { return name_of(param_info.param); });

}  // namespace
}  // namespace memkv::transport
