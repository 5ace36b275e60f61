#pragma once
/// For tests: two connected links on one reactor, and owners that record what they are told.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "io/socket.h"
#include "transport/link.h"
#include "transport/one_copy.h"
#include "transport/shm/window.h"

namespace memkv::transport {

/// What carries a pair of links, on which reactor. Those of rdma are made by rdma/link_testing.h, in the guest.
enum class Carrier {
  kEpoll,
  kUring,
  kLoopback,
  kShmEpoll,
  kShmUring,
  kOneCopyEpoll,
  kOneCopyUring,
  kRdmaEpoll,
  kRdmaUring
};

inline std::string name_of(Carrier carrier) {
  constexpr const char* kNames[] = {"TcpEpoll",     "TcpUring",     "Loopback",  "ShmEpoll", "ShmUring",
                                    "OneCopyEpoll", "OneCopyUring", "RdmaEpoll", "RdmaUring"};
  return kNames[static_cast<size_t>(carrier)];
}

struct Heard {
  wire::Opcode opcode;
  uint64_t request_id;
  std::string body;
  std::string payload;
};

/// Takes payloads into memory of its own, in pieces, unless the test says otherwise.
class TestOwner : public LinkOwner {
 public:
  PayloadTarget on_frame(Link& link, const wire::FrameHeader& header, std::span<const std::byte> body) override {
    heard.push_back({header.opcode, header.request_id, {reinterpret_cast<const char*>(body.data()), body.size()}, {}});
    payload_bytes = header.payload_bytes;
    if (also_on_frame) also_on_frame(link);
    if (header.payload_bytes == 0) complete++;
    return mode == PayloadTarget::Kind::kInto    ? target()
           : mode == PayloadTarget::Kind::kPause ? PayloadTarget::pause()
                                                 : PayloadTarget::sink();
  }
  void on_payload_part(Link&, size_t arrived) override { parts.push_back({arrived, memory.substr(0, arrived)}); }
  void on_payload(Link& link) override {
    if (mode != PayloadTarget::Kind::kSink) heard.back().payload = memory;
    complete++;
    if (also_on_payload) also_on_payload(link);
  }
  void on_unwanted(Link& link) override {
    unwanted++;
    link.resume(PayloadTarget::sink());
  }
  void on_closed(Link&, const Error& why) override {
    closed_count++;
    closed = why;
    if (destroy) destroy->reset();
  }
  PayloadTarget target() {
    memory.assign(payload_bytes, '?');
    pieces.clear();
    const size_t step = piece_bytes;
    for (size_t at = 0; at < memory.size(); at += step) {
      pieces.push_back({memory.data() + at, std::min(step, memory.size() - at)});
    }
    return PayloadTarget::into(pieces);
  }

  PayloadTarget::Kind mode = PayloadTarget::Kind::kInto;
  size_t piece_bytes = 100'000;
  std::vector<Heard> heard;
  std::string memory;
  std::vector<iovec> pieces;
  std::vector<std::pair<size_t, std::string>> parts;  // how far payloads had arrived, each with its bytes up to there
  size_t payload_bytes = 0;
  size_t complete = 0;  // frames that arrived with all of their payload
  int unwanted = 0;     // payloads that the peer gave up while they waited
  int closed_count = 0;
  Error closed;
  std::unique_ptr<Link>* destroy = nullptr;  // a link to destroy inside on_closed
  std::function<void(Link&)> also_on_frame;
  std::function<void(Link&)> also_on_payload;
};

struct TestFrame : SendFrame {
  TestFrame(wire::Opcode code, uint64_t id, std::string text, std::string load)
      : body_text(std::move(text)), payload_text(std::move(load)) {
    opcode = code;
    request_id = id;
    body = {reinterpret_cast<const std::byte*>(body_text.data()), body_text.size()};
    may_lend = true;
    const size_t half = payload_text.size() / 2;
    if (!payload_text.empty()) {
      load_pieces = {{payload_text.data(), half}, {payload_text.data() + half, payload_text.size() - half}};
      payload = load_pieces;
    }
    on_done = [](SendFrame& frame, bool whole) {
      auto& self = static_cast<TestFrame&>(frame);
      self.done++;
      self.sent = whole;
    };
  }
  TestFrame(const TestFrame&) = delete;
  TestFrame& operator=(const TestFrame&) = delete;

  std::string body_text;
  std::string payload_text;
  std::vector<iovec> load_pieces;
  int done = 0;
  bool sent = false;
};

inline std::string pattern(size_t bytes, uint32_t seed) {
  std::string text(bytes, '\0');
  uint32_t x = seed * 2654435761u + 1;
  for (char& c : text) x = x * 1664525u + 1013904223u, c = static_cast<char>(x >> 24);
  return text;
}

inline wire::SessionKeys test_keys() { return {{1, 2}, {3, 4}}; }

/// Connected TCP sockets on this machine.
inline std::pair<int, int> tcp_pair() {
  auto listener = io::listen_tcp("127.0.0.1", 0, {});
  EXPECT_TRUE(listener);
  auto addresses = io::resolve("127.0.0.1", io::local_port(listener->get()));
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(client, addresses->front().get(), addresses->front().length), 0);
  const int server = accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  return {client, server};
}

inline std::unique_ptr<io::Reactor> make_test_reactor(Carrier carrier) {
  io::ReactorOptions options;
  const bool uring = carrier == Carrier::kUring || carrier == Carrier::kShmUring || carrier == Carrier::kOneCopyUring ||
                     carrier == Carrier::kRdmaUring;
  options.kind = uring ? io::ReactorKind::kUring : io::ReactorKind::kEpoll;
  options.ops_max = 256;
  options.device_threads = 0;
  std::string why;
  auto reactor = io::make_reactor(options, &why);
  return reactor ? std::move(*reactor) : nullptr;
}

inline constexpr wire::Windows kTestWindows = {.get_ring_bytes = 256 * 1024, .put_ring_bytes = 128 * 1024};

/// Both ends' views of one window, as if its descriptors had crossed a socket.
inline std::pair<std::shared_ptr<ShmWindow>, std::shared_ptr<ShmWindow>> window_pair(
    const wire::Windows& sizes = kTestWindows) {
  auto server = ShmWindow::make(sizes, nullptr);
  EXPECT_TRUE(server) << (server ? "" : server.error().what);
  auto client =
      ShmWindow::take(sizes, base::UniqueFd(dup((*server)->get_fd())), base::UniqueFd(dup((*server)->in_fd())));
  EXPECT_TRUE(client) << (client ? "" : client.error().what);
  return {std::move(*client), std::move(*server)};
}

/// Connected unix sockets.
inline std::pair<int, int> unix_pair() {
  std::array<int, 2> fds{};
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
  return {fds[0], fds[1]};
}

inline LinkPair make_links(Carrier carrier, io::Reactor& reactor, LinkOwner& client_owner, LinkOwner& server_owner) {
  const auto keys = test_keys();
  if (carrier == Carrier::kLoopback) return make_loopback_links(reactor, keys, client_owner, server_owner);
  if (carrier == Carrier::kShmEpoll || carrier == Carrier::kShmUring) {
    const auto [a, b] = unix_pair();
    auto [client, server] = window_pair();
    return {make_shm_link(reactor, a, Role::kClient, keys, std::move(client), client_owner),
            make_shm_link(reactor, b, Role::kServer, keys, std::move(server), server_owner)};
  }
  TcpOptions options;
  static OneCopyStats stats;
  const bool one_copy = carrier == Carrier::kOneCopyEpoll || carrier == Carrier::kOneCopyUring;
  if (one_copy) options = {.features = wire::kFeatures, .one_copy = &stats};
  const auto [a, b] = tcp_pair();
  return {make_tcp_link(reactor, a, Role::kClient, keys, client_owner, options),
          make_tcp_link(reactor, b, Role::kServer, keys, server_owner, options)};
}

template <typename Done>
bool run_until(io::Reactor& reactor, Done&& done, uint64_t limit_ns = 10'000'000'000) {
  const uint64_t end = reactor.now_ns() + limit_ns;
  while (!done()) {
    if (reactor.now_ns() > end) return false;
    reactor.run_once(10'000'000);
  }
  return true;
}

}  // namespace memkv::transport
