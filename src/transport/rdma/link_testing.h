#pragma once
/// For tests: two ends of an RDMA link on one reactor, over one rail of this host.

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "transport/rdma/guest_testing.h"
#include "transport/rdma/rdma_link.h"

namespace memkv::transport::rdma {

inline Devices& test_host() {
  static const std::unique_ptr<Devices> host = [] {
    auto opened = Devices::open({});
    EXPECT_TRUE(opened) << opened.error().text;
    return opened ? std::move(*opened) : nullptr;
  }();
  return *host;
}

inline std::unique_ptr<Poller> make_test_poller(io::Reactor& reactor, Devices& host = test_host()) {
  auto poller = Poller::make(reactor, host, {.staging = {{64 << 10, 8}, {2 << 20, 4}}});
  EXPECT_TRUE(poller) << poller.error().text;
  return poller ? std::move(*poller) : nullptr;
}

/// It blocks, which only a test may do.
inline LinkPair make_rdma_links(Poller& client_poller, Poller& server_poller, size_t rail,
                                const wire::SessionKeys& keys, LinkOwner& client_owner, LinkOwner& server_owner) {
  auto device = client_poller.host().rail(rail).device.load();
  auto a = QueuePair::make(device, Role::kClient, 1001), b = QueuePair::make(device, Role::kServer, 2002);
  EXPECT_TRUE(a && b);
  int control[2];
  EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control), 0);
  const wire::RdmaEnd of_a = (*a)->local(), of_b = (*b)->local();
  auto a_connected = (*a)->connect(of_b);
  auto b_connected = (*b)->connect(of_a);
  EXPECT_TRUE(a_connected && b_connected);
  return {std::make_unique<RdmaLink>(client_poller, LinkParts{std::move(*a), rail, of_b, base::UniqueFd(control[0])},
                                     Role::kClient, keys, client_owner),
          std::make_unique<RdmaLink>(server_poller, LinkParts{std::move(*b), rail, of_a, base::UniqueFd(control[1])},
                                     Role::kServer, keys, server_owner)};
}

}  // namespace memkv::transport::rdma
