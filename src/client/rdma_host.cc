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

}  // namespace memkv::client
