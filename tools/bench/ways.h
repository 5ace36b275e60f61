#pragma once
/// The ways to the servers that are compared: what --transport and --rails list.

#include <string>
#include <vector>

#include "memkv/client.h"
#include "tools/bench/options.h"

namespace memkv::bench {

struct Way {
  Transport transport = Transport::kAuto;
  uint32_t rails = 0;                ///< for rdma, as asked; 0: not asked
  std::vector<std::string> devices;  ///< devices of the asked rails; empty: the client chooses
  bool emulated = false;             ///< one of its devices is not hardware

  std::string word() const;  ///< "tcp", "rdma", "rdma:2"
  std::string name() const;  ///< "tcp", "rdma", "rdma, dual rail"
  void choose_in(ClientOptions& client) const;
};

/// The ways that were asked for; `otherwise` without --transport. --rails without rdma is an error.
Result<std::vector<Way>, Message> ways_of(const TargetOptions& options, const std::vector<Transport>& otherwise);

/// Finds devices for each way over rdma: the first that can be opened, as many as were asked for, of those that
/// `client`, its file or the environment names (of all if none is named). It is an error if there are fewer.
Result<void, Message> find_devices(std::vector<Way>& ways, const ClientOptions& client);

}  // namespace memkv::bench
