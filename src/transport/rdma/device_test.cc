/// The choice of addresses; in the guest also the devices themselves.

#include "transport/rdma/device.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "transport/rdma/devices.h"
#include "transport/rdma/guest_testing.h"

namespace memkv::transport::rdma {
namespace {

Gid v4(uint8_t a, uint8_t b, uint8_t c, uint8_t d) { return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d}; }
Gid link_local() { return {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1}; }
Gid global_v6() { return {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}; }

TEST(RdmaGid, RoceV2ByIpv4IsChosenFirst) {
  const std::vector<GidEntry> entries = {{0, link_local(), false, "eth0"},   {1, link_local(), true, "eth0"},
                                         {2, global_v6(), true, "eth0"},     {3, v4(10, 0, 0, 1), false, "eth0"},
                                         {4, v4(10, 0, 0, 1), true, "eth0"}, {5, v4(10, 0, 1, 1), true, "eth0.7"}};
  EXPECT_EQ(choose_gid(entries)->index, 4);
  EXPECT_EQ(choose_gid(std::span(entries).first(4))->index, 2) << "RoCEv2 before RoCEv1";
  EXPECT_EQ(choose_gid(std::span(entries).first(2))->index, 1);
  EXPECT_EQ(choose_gid({}), nullptr);
}

TEST(RdmaGid, NetworksAreComparedByTheirBits) {
  EXPECT_TRUE(same_network(v4(10, 0, 0, 1), v4(10, 0, 0, 200), 24));
  EXPECT_FALSE(same_network(v4(10, 0, 0, 1), v4(10, 0, 1, 1), 24));
  EXPECT_TRUE(same_network(v4(10, 0, 2, 1), v4(10, 0, 3, 1), 23));
  EXPECT_FALSE(same_network(v4(10, 0, 2, 1), global_v6(), 0));
  EXPECT_EQ(to_string(v4(198, 18, 0, 1)), "198.18.0.1");
  EXPECT_EQ(to_string(global_v6()), "2001:db8::1");
}

TEST(RdmaHost, SaysWhyThereIsNone) {
  if (in_guest()) return;
  auto host = Devices::open({});
  if (host) return;  // this machine has NICs
  EXPECT_NE(host.error().text.find("host has no"), std::string::npos) << host.error().text;
}

class RdmaGuest : public testing::TestWithParam<const char*> {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RdmaGuest);
INSTANTIATE_TEST_SUITE_P(Rails, RdmaGuest, testing::ValuesIn(only_in_guest<const char*>({"rxe0", "rxe1"})),
                         [](const auto& param_info) { return std::string(param_info.param); });

TEST_P(RdmaGuest, DeviceIsFoundAndOpens) {
  auto verbs = load_verbs();
  ASSERT_TRUE(verbs) << verbs.error().text;
  const auto names = list_devices(**verbs);
  EXPECT_NE(std::find(names.begin(), names.end(), GetParam()), names.end());
  EXPECT_EQ(std::find(names.begin(), names.end(), "rxe_lo"), names.end()) << "it reaches only this host";
  auto device = Device::open(**verbs, GetParam());
  ASSERT_TRUE(device) << device.error().text;
  const DeviceAddress& address = (*device)->address();
  EXPECT_EQ(to_string(address.gid), std::string("198.18.") + GetParam()[3] + ".1");
  EXPECT_EQ(address.network_bits, 24u);
  EXPECT_FALSE((*device)->dead());
}

TEST_P(RdmaGuest, QueuePairsConnectAndPassAMessage) {
  auto host = Devices::open({GetParam()});
  ASSERT_TRUE(host) << host.error().text;
  auto device = (*host)->rail(0).device.load();
  auto a = QueuePair::make(device, Role::kClient, 11), b = QueuePair::make(device, Role::kServer, 22);
  ASSERT_TRUE(a) << a.error().text;
  ASSERT_TRUE(b) << b.error().text;
  auto to_b = (*a)->connect((*b)->local());
  ASSERT_TRUE(to_b) << to_b.error().text;
  auto to_a = (*b)->connect((*a)->local());
  ASSERT_TRUE(to_a) << to_a.error().text;
  std::memcpy((*a)->send_buffer(3), "hello", 5);
  (*a)->begin();
  (*a)->send(3, 5, 77);
  (*a)->send(4, 0, 78);
  ASSERT_TRUE((*a)->end());
  std::vector<ibv_wc> seen;
  for (int turns = 0; seen.size() < 2 && turns < 1'000'000; turns++) {
    std::array<ibv_wc, 8> some;
    const int n = (*b)->poll(some);
    ASSERT_GE(n, 0);
    seen.insert(seen.end(), some.begin(), some.begin() + n);
  }
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_TRUE(QueuePair::is_receive(seen[0]));
  EXPECT_EQ(seen[0].byte_len, 5u);
  EXPECT_EQ(ntohl(seen[0].imm_data), 77u);
  EXPECT_EQ(std::memcmp((*b)->receive_buffer(static_cast<uint32_t>(seen[0].wr_id)), "hello", 5), 0);
  EXPECT_EQ(seen[1].byte_len, 0u);
}

/// Works on any host.
TEST(QueuePair, TellsWhatIsNoMessage) {
  ibv_wc message{};
  message.opcode = IBV_WC_RECV;
  message.wc_flags = IBV_WC_WITH_IMM;
  message.byte_len = kMessageBytes;
  EXPECT_TRUE(QueuePair::is_message(message));
  ibv_wc written = message;  // its bytes lie elsewhere
  written.opcode = IBV_WC_RECV_RDMA_WITH_IMM;
  EXPECT_FALSE(QueuePair::is_message(written));
  ibv_wc plain = message;
  plain.wc_flags = 0;
  EXPECT_FALSE(QueuePair::is_message(plain));
  ibv_wc large = message;
  large.byte_len++;
  EXPECT_FALSE(QueuePair::is_message(large));
}

}  // namespace
}  // namespace memkv::transport::rdma
