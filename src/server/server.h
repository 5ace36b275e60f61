#pragma once
/// The two calls of the command line that make a server's store and run the server. start.cc behind them wires all
/// parts together.

#include <cstdint>
#include <string>
#include <vector>

#include "memkv/error.h"

namespace memkv::server {

struct SetupOptions {
  std::vector<std::string> drives;  ///< "PATH", "PATH:8GiB" (a file to be made); empty: find unused NVMe drives
  uint32_t shards = 0;              ///< 0: one for each 4 GiB
  bool force = false;
  std::string output;         ///< where the configuration goes, made whole or not at all; empty: stdout
  std::string auth_key_file;  ///< of the new credential (mode 0600); empty: beside the configuration, see --help
  std::string address = "0.0.0.0:9900";
};
/// Formats the drives. The YAML goes to stdout or `output`, messages and progress go to stderr. The configuration is
/// written before a drive is touched, so that no formatted drive is without one. Returns the exit code.
int run_setup(const SetupOptions& options);

struct StartOptions {
  std::string config_file;          ///< empty: the embedded default (a file in the current folder, loopback only)
  std::string address;              ///< overrides network.address; ":0" takes a free port
  std::string storage_mode;         ///< overrides storage.mode: direct, file, memory
  std::string memory_size;          ///< overrides memory.max_size
  std::vector<std::string> drives;  ///< overrides storage.drives
  std::vector<std::string> accept_loss;
  uint32_t workers = 0;
  std::string io;  ///< auto, uring, epoll
  std::string congestion;
  bool tcp_one_copy = false;      ///< or network.tcp_one_copy
  std::string shm_dir, shm_size;  ///< override shm.dir and shm.max_size
  bool no_shm = false;
  std::string log_level;   ///< overrides log.level
  std::string ready_file;  ///< written ("host:port\n") once ready, removed first: for scripts and tests
};
/// Serves until SIGTERM or SIGINT, then drains and returns 0. Otherwise returns the exit code.
int run_start(const StartOptions& options);

}  // namespace memkv::server
