#include "transport/rdma/device.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/log.h"

namespace memkv::transport::rdma {
namespace {

constexpr uint8_t kPort = 1;
constexpr int kGidsMax = 256;
constexpr size_t kIpv4At = 12;

std::string read_line(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

std::string port_path(const std::string& device) {
  return fmt::format("/sys/class/infiniband/{}/ports/{}", device, kPort);
}

bool is_zero(const Gid& gid) {
  return std::all_of(gid.begin(), gid.end(), [](uint8_t byte) { return byte == 0; });
}

bool is_link_local(const Gid& gid) { return gid[0] == 0xfe && (gid[1] & 0xc0) == 0x80; }

std::vector<GidEntry> read_gids(const Verbs& verbs, ibv_context* context, const std::string& name, int count) {
  std::vector<GidEntry> entries;
  for (int i = 0; i < std::min(count, kGidsMax); i++) {
    ibv_gid raw{};
    if (verbs.query_gid(context, kPort, i, &raw) != 0) continue;
    GidEntry entry;
    entry.index = i;
    std::memcpy(entry.gid.data(), raw.raw, sizeof raw.raw);
    if (is_zero(entry.gid)) continue;
    const std::string attributes = port_path(name) + "/gid_attrs/";
    entry.roce_v2 = read_line(fmt::format("{}types/{}", attributes, i)) == "RoCE v2";
    entry.netdev = read_line(fmt::format("{}ndevs/{}", attributes, i));
    entries.push_back(std::move(entry));
  }
  return entries;
}

int rank_of(const GidEntry& entry) {
  int rank = entry.roce_v2 ? 4 : 0;
  if (is_ipv4_mapped(entry.gid)) rank += 2;
  if (!is_link_local(entry.gid)) rank += 1;
  return rank;
}

/// Of the interface's IPv4 address; 0 = it has none.
unsigned network_bits_of(const std::string& netdev, const Gid& gid) {
  ifaddrs* all = nullptr;
  if (!is_ipv4_mapped(gid) || getifaddrs(&all) != 0) return 0;
  unsigned bits = 0;
  for (const ifaddrs* at = all; at; at = at->ifa_next) {
    if (!at->ifa_addr || !at->ifa_netmask || at->ifa_addr->sa_family != AF_INET || netdev != at->ifa_name) continue;
    const auto* own = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
    if (std::memcmp(&own->sin_addr, gid.data() + kIpv4At, sizeof own->sin_addr) != 0) continue;
    bits = static_cast<unsigned>(std::popcount(reinterpret_cast<const sockaddr_in*>(at->ifa_netmask)->sin_addr.s_addr));
  }
  freeifaddrs(all);
  return bits;
}

bool on_loopback(const std::string& device) {
  const std::string netdev = read_line(port_path(device) + "/gid_attrs/ndevs/0");
  return netdev == "lo" || read_line("/sys/class/infiniband/" + device + "/parent") == "lo";
}

}  // namespace

bool is_ipv4_mapped(const Gid& gid) {
  static constexpr std::array<uint8_t, kIpv4At> kPrefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::equal(kPrefix.begin(), kPrefix.end(), gid.begin());
}

std::string to_string(const Gid& gid) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (is_ipv4_mapped(gid)) {
    inet_ntop(AF_INET, gid.data() + kIpv4At, text, sizeof text);
  } else {
    inet_ntop(AF_INET6, gid.data(), text, sizeof text);
  }
  return text;
}

bool same_network(const Gid& a, const Gid& b, unsigned bits) {
  if (is_ipv4_mapped(a) != is_ipv4_mapped(b)) return false;
  const size_t from = is_ipv4_mapped(a) ? kIpv4At : 0;
  for (size_t i = from; i < a.size() && bits > 0; i++) {
    const unsigned here = std::min(bits, 8u);
    if ((a[i] ^ b[i]) >> (8 - here) != 0) return false;
    bits -= here;
  }
  return true;
}

const GidEntry* choose_gid(std::span<const GidEntry> entries) {
  const auto best = std::max_element(entries.begin(), entries.end(),
                                     [](const auto& a, const auto& b) { return rank_of(a) < rank_of(b); });
  return best == entries.end() ? nullptr : &*best;
}

Device::Device(const Verbs& verbs, std::string name, ibv_context* context)
    : verbs_(verbs), name_(std::move(name)), context_(context) {}

Device::~Device() {
  if (pd_) verbs_.dealloc_pd(pd_);
  verbs_.close_device(context_);
}

Result<std::shared_ptr<Device>, Message> Device::open(const Verbs& verbs, const std::string& name) {
  int count = 0;
  ibv_device** list = verbs.get_device_list(&count);  // null on a host without kernel support
  ibv_context* context = nullptr;
  bool found = false;
  for (int i = 0; list && i < count && !found; i++) {
    found = name == verbs.get_device_name(list[i]);
    if (found) context = verbs.open_device(list[i]);
  }
  const int error = errno;
  if (list) verbs.free_device_list(list);
  if (!found) return Message{Status::kUnavailable, fmt::format("there is no RDMA device {}", name)};
  if (!context) {
    return Message{Status::kUnavailable,
                   fmt::format("RDMA device {} cannot be opened: {}", name, std::strerror(error))};
  }
  std::shared_ptr<Device> device(new Device(verbs, name, context));
  if (auto prepared = device->prepare(); !prepared) return prepared.error();
  return device;
}

/// Reads what this device can do, and chooses the address (GID) that peers will reach it by. Fails with a sentence
/// where the device cannot be used.
Result<void, Message> Device::prepare() {
  const auto failed = [this](const char* what) {
    return Message{Status::kUnavailable, fmt::format("RDMA device {}: {}", name_, what)};
  };
  ibv_port_attr port{};
  if (verbs_.query_device(context_, &limits_) != 0 || verbs_.port_attributes(context_, kPort, &port) != 0) {
    return failed("it does not tell its limits");
  }
  if (port.state != IBV_PORT_ACTIVE) return failed("its port is not active");
  const auto entries = read_gids(verbs_, context_, name_, port.gid_tbl_len);
  const GidEntry* chosen = choose_gid(entries);
  address_.ethernet = port.link_layer == IBV_LINK_LAYER_ETHERNET;
  if (!chosen && address_.ethernet) return failed("it has no address (is its interface up, with an IP address?)");
  address_.port = kPort;
  address_.lid = port.lid;
  address_.mtu = port.active_mtu;
  if (chosen) {
    address_.gid_index = chosen->index;
    address_.gid = chosen->gid;
    address_.netdev = chosen->netdev;
    address_.network_bits = network_bits_of(chosen->netdev, chosen->gid);
    address_.why = fmt::format("GID {} of {}, {}{}", chosen->index, entries.size(),
                               chosen->roce_v2     ? "RoCEv2"
                               : address_.ethernet ? "RoCEv1"
                                                   : "InfiniBand",
                               is_ipv4_mapped(chosen->gid) ? " by IPv4" : "");
  }
  const int flags = fcntl(context_->async_fd, F_GETFL);
  if (flags < 0 || fcntl(context_->async_fd, F_SETFL, flags | O_NONBLOCK) < 0) return failed("no event channel");
  pd_ = verbs_.alloc_pd(context_);
  if (!pd_) return failed("no protection domain");
  return {};
}

bool Device::emulated() const {
  constexpr uint32_t kSoftRoce = 0xffffff, kSoftIwarp = 0x626d74;  // drivers/infiniband/sw of the kernel
  return limits_.vendor_id == kSoftRoce || limits_.vendor_id == kSoftIwarp;
}

/// A driver that cannot take a device away from its users (soft-RoCE) waits until they close it. Its device node is
/// gone by then, and that is how we notice.
void Device::look() {
  read_events();
  const std::string node = std::string("/sys/class/infiniband_verbs/") + context_->device->dev_name;
  if (dead() || access(node.c_str(), F_OK) == 0) return;
  MEMKV_LOG(kWarn, "RDMA device {} is being removed", name_);
  dead_.store(true, std::memory_order_release);
}

void Device::read_events() {
  ibv_async_event event{};
  while (!dead() && verbs_.get_async_event(context_, &event) == 0) {
    if (event.event_type == IBV_EVENT_DEVICE_FATAL) {
      MEMKV_LOG(kWarn, "RDMA device {} is gone", name_);
      dead_.store(true, std::memory_order_release);
    } else if (event.event_type == IBV_EVENT_PORT_ERR || event.event_type == IBV_EVENT_PORT_ACTIVE) {
      MEMKV_LOG(kInfo, "RDMA device {}: its port is {}", name_,
                event.event_type == IBV_EVENT_PORT_ACTIVE ? "active" : "down");
    }
    verbs_.ack_async_event(&event);
  }
}

std::vector<std::string> list_devices(const Verbs& verbs) {
  int count = 0;
  std::vector<std::string> names;
  ibv_device** list = verbs.get_device_list(&count);
  if (!list) return names;
  for (int i = 0; i < count; i++) names.emplace_back(verbs.get_device_name(list[i]));
  verbs.free_device_list(list);
  std::erase_if(names, on_loopback);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace memkv::transport::rdma
