#pragma once
/// The ways to the servers that are measured beside each other: what --transport and --rails list.

#include <string>
#include <vector>

#include "memkv/client.h"
#include "tools/bench/options.h"

namespace memkv::bench {

struct Way {
  Transport transport = Transport::kAuto;
  uint32_t rails = 0;                ///< of rdma, as asked; 0: not asked
  std::vector<std::string> devices;  ///< of the asked rails; empty: the client's own choice
  bool emulated = false;             ///< one of its devices is no hardware

  std::string word() const;  ///< "tcp", "rdma", "rdma:2"
  std::string name() const;  ///< "tcp", "rdma", "rdma, dual rail"
  void choose_in(ClientOptions& client) const;
};

/// Without --transport: `otherwise`. --rails without rdma is an error.
Result<std::vector<Way>, Message> ways_of(const TargetOptions& options, const std::vector<Transport>& otherwise);

/// Of each way over rdma: the first devices that can be opened of those that `client`, its file or the environment
/// names (else of all), as many as asked. An error where there are fewer.
Result<void, Message> find_devices(std::vector<Way>& ways, const ClientOptions& client);

}  // namespace memkv::bench
