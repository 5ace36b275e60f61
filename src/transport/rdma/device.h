#pragma once
/// RDMA devices of this host: which there are, which address each is reached by, and an opened one.

#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "memkv/error.h"
#include "transport/rdma/verbs.h"

namespace memkv::transport::rdma {

using Gid = std::array<uint8_t, 16>;
/// "198.18.0.1" for an IPv4-mapped one, else as IPv6.
std::string to_string(const Gid& gid);
/// The first `bits` of both are equal. IPv4-mapped ones count from the IPv4 address.
bool same_network(const Gid& a, const Gid& b, unsigned bits);
bool is_ipv4_mapped(const Gid& gid);

/// One entry of a port's table of addresses, as sysfs tells it.
struct GidEntry {
  int index = 0;
  Gid gid{};
  bool roce_v2 = false;
  std::string netdev;
};
/// RoCEv2 with an IPv4-mapped address before RoCEv2 with another, before the rest; link-local ones last; of equals the
/// first. Null: none.
const GidEntry* choose_gid(std::span<const GidEntry> entries);

/// How a peer reaches an opened device.
struct DeviceAddress {
  uint8_t port = 1;
  int gid_index = 0;
  Gid gid{};
  uint16_t lid = 0;      ///< InfiniBand only
  bool ethernet = true;  ///< RoCE: always by GID
  ibv_mtu mtu = IBV_MTU_1024;
  unsigned network_bits = 0;  ///< of the interface's IPv4 address; 0 = not known
  std::string netdev;
  std::string why;  ///< of the choice, for the log
};

/// An opened device with its protection domain. Made and destroyed in a thread that may block; the rest: any thread.
class Device {
 public:
  /// `name` as in /sys/class/infiniband. Fails with a sentence that says what is wrong with this device.
  static Result<std::shared_ptr<Device>, Message> open(const Verbs& verbs, const std::string& name);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const Verbs& verbs() const { return verbs_; }
  const std::string& name() const { return name_; }
  const DeviceAddress& address() const { return address_; }
  const ibv_device_attr& limits() const { return limits_; }
  ibv_context* context() const { return context_; }
  ibv_pd* pd() const { return pd_; }
  /// A driver without a NIC's help (soft-RoCE, soft-iWARP): what is measured over it is no performance.
  bool emulated() const;
  /// Looks whether the kernel still has it; never blocks. Thread: the one that opens devices.
  void look();
  /// True when the device is gone, or the kernel waits for us to close it. Nothing new may use it then.
  bool dead() const { return dead_.load(std::memory_order_acquire); }

 private:
  Device(const Verbs& verbs, std::string name, ibv_context* context);
  Result<void, Message> prepare();
  void read_events();

  const Verbs& verbs_;
  const std::string name_;
  ibv_context* const context_;
  ibv_pd* pd_ = nullptr;
  ibv_device_attr limits_{};
  DeviceAddress address_;
  std::atomic<bool> dead_{false};
};

/// Names of the host's RDMA devices, sorted; those that reach only this host (on the loopback interface) left out.
std::vector<std::string> list_devices(const Verbs& verbs);

}  // namespace memkv::transport::rdma
