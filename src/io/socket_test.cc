#include "io/socket.h"

#include <gtest/gtest.h>
#include <netinet/tcp.h>

namespace memkv::io {
namespace {

TEST(HostPort, ParsesAndFormats) {
  for (const char* text : {"10.0.0.1:9900", "name:1", "[::1]:9900", ":80"}) {
    auto parsed = parse_host_port(text);
    ASSERT_TRUE(parsed) << text;
    EXPECT_EQ(format_host_port(parsed->host, parsed->port), text);
  }
  EXPECT_EQ(parse_host_port("[fe80::1]:7")->host, "fe80::1");
  for (const char* text : {"", "name", "name:", "name:x", "name:65536", "name:-1", "::1:9900", "name:1 "}) {
    auto parsed = parse_host_port(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_FALSE(parsed.error().text.empty());
  }
}

TEST(Listen, TellsWhatIsWrong) {
  auto listener = listen_tcp("127.0.0.1", 0, {});
  ASSERT_TRUE(listener);
  const uint16_t port = local_port(listener->get());
  auto again = listen_tcp("127.0.0.1", port, {});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().text, "cannot listen on 127.0.0.1:" + std::to_string(port) + ": the port is in use");
  EXPECT_NE(listen_tcp("203.0.113.7", 0, {}).error().text.find("does not have that address"), std::string::npos);
  EXPECT_FALSE(listen_tcp("no.such.host.invalid", 0, {}));
  EXPECT_NE(listen_tcp("127.0.0.1", 0, {.congestion = "nonsense"}).error().text.find("'nonsense'"), std::string::npos);
}

TEST(Listen, AddressesAreTold) {
  auto listener = listen_tcp("", 0, {});
  ASSERT_TRUE(listener) << listener.error().text;
  const uint16_t port = local_port(listener->get());
  EXPECT_NE(port, 0);
  auto resolved = resolve("127.0.0.1", port);
  ASSERT_TRUE(resolved);
  EXPECT_EQ(to_string((*resolved)[0]), "127.0.0.1:" + std::to_string(port));
}

TEST(Options, AreSetAndRead) {
  auto listener = listen_tcp("127.0.0.1", 0, {.congestion = "reno"});
  ASSERT_TRUE(listener);
  EXPECT_EQ(get_congestion(listener->get()), "reno");
  auto address = resolve("127.0.0.1", local_port(listener->get()));
  auto fd = make_tcp_socket((*address)[0]);
  ASSERT_TRUE(fd);
  int nodelay = 0;
  socklen_t length = sizeof nodelay;
  ASSERT_EQ(getsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &nodelay, &length), 0);
  EXPECT_EQ(nodelay, 1);
  EXPECT_TRUE(set_notsent_lowat(fd->get(), 128 << 10));
  EXPECT_FALSE(set_nodelay(-1));
  EXPECT_EQ(get_congestion(-1), "");
  EXPECT_GT(memlock_limit_bytes(), 0u);
}

}  // namespace
}  // namespace memkv::io
