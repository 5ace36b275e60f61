#pragma once
/// A client's settings after all their sources are merged: field > MEMKV_* environment > MEMKV_CONFIG file > default.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "memkv/client.h"
#include "wire/handshake.h"

namespace memkv::transport::rdma {
class Devices;
}  // namespace memkv::transport::rdma

namespace memkv::client {

struct ClientIdentity;

/// One entry of the server list. Keys are placed by `name`, never by address.
struct ServerAddress {
  std::string name;
  bool named = false;  ///< the list says NAME=...; else the name is the literal host:port
  std::string host;
  uint16_t port = kPortDefault;
};

/// "name=host:port", "host:port", "host", "[::1]:9900"; a scheme and a trailing slash are dropped.
Result<ServerAddress, Message> parse_server(std::string_view text);

/// Dotted or colon notation: needs no resolver.
bool is_numeric_host(const std::string& host);
bool is_loopback_host(const std::string& host);

struct Settings {
  std::vector<ServerAddress> servers;
  Transport transport = Transport::kAuto;
  std::vector<std::string> shm_dirs;      ///< where a server's socket may be, in order
  std::vector<std::string> rdma_devices;  ///< empty = all usable ones
  wire::Secret secret{};
  uint32_t io_contexts = 2;
  uint32_t connections_per_worker = 1;
  uint64_t get_timeout_ns = 2'000'000'000;
  uint64_t put_timeout_ns = 10'000'000'000;
  PutChecksum put_checksum = PutChecksum::kClient;
  bool verify = true;
  std::string congestion;  ///< empty: the system's
  std::string client_name;
  ClientIdentity* identity = nullptr;  ///< null: that of the process (a simulator has several clients in one)
  std::shared_ptr<transport::rdma::Devices> rdma;  ///< null: that of the process, by `rdma_devices`
};

/// Also sets the log's level, where one is given.
Result<Settings, Message> resolve_settings(ClientOptions options);

/// Fills the fields of `options` that are unset from a YAML file. Unknown keys and bad values are errors with file and
/// line.
Result<void, Message> merge_config_file(const std::string& path, ClientOptions& options);

Result<Transport, Message> parse_transport(std::string_view text, std::string_view where);

Result<base::LogLevel, Message> parse_log_level(std::string_view text, std::string_view where);

}  // namespace memkv::client
