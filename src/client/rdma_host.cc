#include "client/rdma_host.h"

#include <map>
#include <mutex>

namespace memkv::client {

Result<std::shared_ptr<transport::rdma::Host>, Message> shared_rdma_host(const std::vector<std::string>& devices) {
  static std::mutex mutex;
  static std::map<std::vector<std::string>, std::weak_ptr<transport::rdma::Host>> hosts;
  const std::lock_guard lock(mutex);
  if (auto host = hosts[devices].lock()) return host;
  auto opened = transport::rdma::Host::open(devices);
  if (!opened) return opened.error();
  std::shared_ptr<transport::rdma::Host> host = std::move(*opened);
  hosts[devices] = host;
  return host;
}

std::vector<RailCounters> rail_counters(transport::rdma::Host* host) {
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
