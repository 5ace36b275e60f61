/// No thread or no descriptor is to be had: a call of the client fails with that reason, and works later. These tests
/// do not run under ThreadSanitizer, which starts threads of its own, nor under the check of objects' types, which
/// needs descriptors.
#if !defined(__SANITIZE_THREAD__)

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "base/thread_testing.h"
#include "base/unique_fd.h"
#include "client/remote/resolver.h"
#include "io/socket.h"
#include "memkv/client.h"

namespace memkv::client {
namespace {

using base::NoThreads;

/// Each test runs in a process of its own that is executed anew: the test gives up rights and starts threads there.
class CaseC2Threads : public testing::Test {
 protected:
  CaseC2Threads() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

bool has(const std::string& text, std::string_view part) { return text.find(part) != text.npos; }

/// A server by host name, so that a thread must resolve the name. Nobody answers.
ClientOptions options_of(uint16_t port, Transport transport = Transport::kTcp) {
  ClientOptions options;
  options.servers = {"kv1=localhost:" + std::to_string(port)};
  options.transport = transport;
  options.io_contexts = 1;
  options.congestion = "system";  // the test gives up the right to choose another one
  options.get_timeout = std::chrono::seconds(30);
  return options;
}

/// A port of this host where connections are refused.
uint16_t closed_port() {
  const auto listener = io::listen_tcp("127.0.0.1", 0, {});
  return io::local_port(listener->get());
}

/// Takes all descriptors while it lives.
class NoDescriptors {
 public:
  NoDescriptors() {
    const rlimit few{256, 256};
    setrlimit(RLIMIT_NOFILE, &few);
    for (int fd; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) taken_.emplace_back(fd);
  }

 private:
  std::vector<base::UniqueFd> taken_;
};

int resolve_without_threads() {
  auto reactor = io::make_epoll_reactor({.kind = io::ReactorKind::kEpoll, .ops_max = 64, .device_threads = 0});
  Resolver resolver("localhost", 1);
  {
    const NoThreads none;
    resolver.start(**reactor);
    if (!resolver.ready() || !has(resolver.failure(), "cannot resolve localhost") ||
        !has(resolver.failure(), "no thread can be made")) {
      return 1;
    }
  }
  resolver.start(**reactor);
  while (!resolver.ready()) (*reactor)->run_once(100'000'000);
  return resolver.addresses().empty() || !resolver.failure().empty() ? 2 : 0;
}

TEST_F(CaseC2Threads, a_name_is_resolved_once_there_are_threads_again) {
  EXPECT_EXIT(_exit(resolve_without_threads()), testing::ExitedWithCode(0), "");
}

int connect_without_threads() {
  {
    const NoThreads none;
    const auto client = Client::connect(options_of(1));
    if (client || !has(client.error().text, "cannot start its I/O thread") || !has(client.error().text, "pids.max")) {
      return 1;
    }
  }
  return Client::connect(options_of(1)).ok() ? 0 : 2;
}

TEST_F(CaseC2Threads, a_client_is_refused_and_the_next_one_works) {
  EXPECT_EXIT(_exit(connect_without_threads()), testing::ExitedWithCode(0), "");
}

/// Waits until the client says `part` of its only server.
bool comes_to_say(Client& client, std::string_view part) {
  for (int i = 0; i < 3000; i++) {
    (void)client.get("key", Scatter(nullptr, 0));
    if (has(client.describe(), part)) return true;
    usleep(1000);
  }
  return false;
}

int lose_server_without_threads() {
  auto client = Client::connect(options_of(closed_port()));
  if (!client) return 1;
  {
    const NoThreads none;
    if (client->get("key", Scatter(nullptr, 0)).hit()) return 2;
    if (!has(client->describe(), "cannot resolve localhost: Resource temporarily unavailable")) return 3;
  }
  return comes_to_say(*client, "connect failed: Connection refused") ? 0 : 4;
}

TEST_F(CaseC2Threads, ops_of_a_running_client_fail_and_it_lives_on) {
  EXPECT_EXIT(_exit(lose_server_without_threads()), testing::ExitedWithCode(0), "");
}

#if !defined(__SANITIZE_ADDRESS__)
int connect_without_descriptors() {
  std::optional<NoDescriptors> none(std::in_place);
  const auto refused = Client::connect(options_of(1));
  if (refused || !has(refused.error().text, "ulimit -n")) return 1;
  none.reset();
  return Client::connect(options_of(1)).ok() ? 0 : 2;
}

TEST_F(CaseC2Threads, no_descriptors_refuse_a_client_and_the_next_one_works) {
  EXPECT_EXIT(_exit(connect_without_descriptors()), testing::ExitedWithCode(0), "");
}

int lose_server_without_descriptors() {
  ClientOptions options = options_of(closed_port());
  options.servers = {"kv1=127.0.0.1:" + std::to_string(closed_port())};
  auto client = Client::connect(options);
  if (!client) return 1;
  std::optional<NoDescriptors> none(std::in_place);
  if (client->get("key", Scatter(nullptr, 0)).hit()) return 2;
  if (!has(client->describe(), "Too many open files")) return 3;
  none.reset();
  return comes_to_say(*client, "connect failed: Connection refused") ? 0 : 4;
}

TEST_F(CaseC2Threads, ops_without_descriptors_fail_with_the_reason_and_the_client_lives_on) {
  EXPECT_EXIT(_exit(lose_server_without_descriptors()), testing::ExitedWithCode(0), "");
}

#endif

}  // namespace
}  // namespace memkv::client
#endif
