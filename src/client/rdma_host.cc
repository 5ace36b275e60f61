#include "client/rdma_host.h"

#include <atomic>
#include <map>
#include <mutex>

#include "base/fork_guard.h"

namespace memkv::client {
namespace {

struct Hosts {
  const base::ForkGuard guard;
  std::mutex mutex;
  std::map<std::vector<std::string>, std::weak_ptr<transport::rdma::Devices>> by_devices;
};

/// Never freed. The child of a fork begins anew: its parent's hosts have their threads in the parent.
Hosts& hosts_of_this_process() {
  static std::atomic<Hosts*> current{new Hosts};
  Hosts* hosts = current.load();
  if (!hosts->guard.forked()) return *hosts;
  auto fresh = std::make_unique<Hosts>();
  return *(current.compare_exchange_strong(hosts, fresh.get()) ? fresh.release() : hosts);
}

}  // namespace

Result<std::shared_ptr<transport::rdma::Devices>, Message> shared_rdma_host(const std::vector<std::string>& devices) {
  Hosts& hosts = hosts_of_this_process();
  const std::lock_guard lock(hosts.mutex);
  if (auto host = hosts.by_devices[devices].lock()) return host;
  auto opened = transport::rdma::Devices::open(devices);
  if (!opened) return opened.error();
  std::shared_ptr<transport::rdma::Devices> host = std::move(*opened);
  hosts.by_devices[devices] = host;
  return host;
}

std::vector<RailCounters> rail_counters(transport::rdma::Devices* host) {
  std::vector<RailCounters> list;
  for (size_t i = 0; host && i < host->rail_count(); i++) {
    transport::rdma::Rail& rail = host->rail(i);
    const auto& c = rail.counters;
    list.push_back({.device = rail.name,
                    .working = rail.device.load() != nullptr,
                    .links = c.links.load(),
                    .links_total = c.links_total.load(),
                    .ops = c.ops.load(),
                    .bytes_in = c.bytes_in.load(),
                    .bytes_out = c.bytes_out.load(),
                    .failures = c.failures.load(),
                    .retry_errors = c.retry_errors.load(),
                    .rnr_errors = c.rnr_errors.load(),
                    .access_errors = c.access_errors.load(),
                    .switches = c.switches.load()});
  }
  return list;
}

}  // namespace memkv::client
