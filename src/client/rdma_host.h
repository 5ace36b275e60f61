#pragma once
/// RDMA of this process: one host for all clients that name the same devices.

#include <memory>
#include <string>
#include <vector>

#include "memkv/client.h"
#include "memkv/error.h"
#include "transport/rdma/devices.h"

namespace memkv::client {

/// Opens the devices at the first call; memory that one client registered is known to all of them. Blocks. Thread: any.
Result<std::shared_ptr<transport::rdma::Devices>, Message> shared_rdma_host(const std::vector<std::string>& devices);

/// By rail; `host` may be null. Thread: any.
std::vector<RailCounters> rail_counters(transport::rdma::Devices* host);

}  // namespace memkv::client
