#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <set>

#include "base/log.h"
#include "base/text.h"
#include "client/settings.h"
#include "io/congestion.h"
#include "io/limits.h"
#include "transport/link.h"
#include "wire/local_credential.h"

namespace memkv::client {
namespace {

constexpr uint32_t kIoContextsMax = 64;
constexpr uint32_t kConnectionsPerWorkerMax = 16;

/// Empty counts as unset.
std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

Message invalid(std::string text) { return {Status::kInvalid, std::move(text)}; }

Result<void, Message> merge_environment(ClientOptions& options) {
  if (options.servers.empty()) options.servers = base::split_list(environment("MEMKV_SERVERS"));
  if (options.namespace_key.empty()) options.namespace_key = environment("MEMKV_AUTH_KEY");
  if (options.config_file.empty()) options.config_file = environment("MEMKV_CONFIG");
  if (options.rdma_devices.empty()) options.rdma_devices = base::split_list(environment("MEMKV_RDMA_DEVICES"));
  if (options.shm_dir.empty()) options.shm_dir = environment("MEMKV_SHM_DIR");
  const std::string transport = environment("MEMKV_TRANSPORT");
  if (options.transport == Transport::kAuto && !transport.empty()) {
    auto parsed = parse_transport(transport, "MEMKV_TRANSPORT");
    if (!parsed) return parsed.error();
    options.transport = *parsed;
  }
  const std::string level = environment("MEMKV_LOG_LEVEL");
  if (options.log_level.empty() && !level.empty()) {
    if (auto parsed = parse_log_level(level, "MEMKV_LOG_LEVEL"); !parsed) return parsed.error();
    options.log_level = level;
  }
  return {};
}

/// None: the server on this host.
Result<void, Message> take_servers(const ClientOptions& options, Settings& out) {
  if (options.servers.empty()) {
    out.servers.push_back(*parse_server("127.0.0.1"));
    return {};
  }
  std::set<std::string> names;
  for (const std::string& text : options.servers) {
    auto server = parse_server(text);
    if (!server) return server.error();
    if (!names.insert(server->name).second) {
      return invalid("server name '" + server->name + "' stands twice in the list: give each server a name of its own");
    }
    out.servers.push_back(std::move(*server));
  }
  return {};
}

bool is_local_server(const ServerAddress& server) {
  return server.port == kPortDefault && is_numeric_host(server.host) && is_loopback_host(server.host);
}

Result<void, Message> take_credential(const ClientOptions& options, Settings& out) {
  if (!options.namespace_key.empty()) {
    auto secret = wire::parse_secret(options.namespace_key);
    if (!secret) return secret.error();
    out.secret = *secret;
    return {};
  }
  if (out.servers.size() == 1 && is_local_server(out.servers.front())) {
    auto secret = wire::read_local_credential(out.shm_dirs);
    if (!secret && options.servers.empty()) return secret.error();
    if (secret && *secret) out.secret = **secret;
    return {};
  }
  for (const ServerAddress& server : out.servers) {
    if (!is_numeric_host(server.host) || is_loopback_host(server.host)) continue;
    return invalid(
        "server '" + server.name + "' at " + server.host +
        " is not on this host and needs a credential: set `auth_key` or MEMKV_AUTH_KEY to 64 hex characters or @FILE "
        "(`memkv setup` made one)");
  }
  return {};
}

/// 0 = the default that `out` holds.
Result<void, Message> take_count(const char* name, uint32_t value, uint32_t max, uint32_t& out) {
  if (value > max) {
    return invalid(std::string(name) + " is " + std::to_string(value) + ": at most " + std::to_string(max));
  }
  if (value != 0) out = value;
  return {};
}

Result<void, Message> take_timeout(const char* name, Deadline value, uint64_t& out) {
  if (value.count() < 0) return invalid(std::string(name) + " is negative");
  if (value.count() > 0) out = static_cast<uint64_t>(value.count());
  return {};
}

/// A default that is not to be had is told once, however many clients the process opens.
Result<void, Message> take_congestion(const std::string& name, std::string& out) {
  static std::atomic<bool> told{false};
  auto chosen = io::choose_congestion(name, "congestion");
  if (!chosen) return chosen.error();
  if (!chosen->note.empty() && !told.exchange(true)) MEMKV_LOG(kInfo, "{}", chosen->note);
  out = chosen->name;
  return {};
}

std::string default_client_name() {
  return std::string(program_invocation_short_name) + "[" + std::to_string(getpid()) + "]";
}

}  // namespace

Result<Transport, Message> parse_transport(std::string_view text, std::string_view where) {
  for (const Transport transport : {Transport::kAuto, Transport::kTcp, Transport::kShm, Transport::kRdma}) {
    if (text == to_string(transport)) return transport;
  }
  return invalid(std::string(where) + ": unknown transport '" + std::string(text) +
                 "'; known are auto, shm, rdma and tcp");
}

Result<base::LogLevel, Message> parse_log_level(std::string_view text, std::string_view where) {
  auto level = base::LogLevel::kInfo;
  if (base::parse_log_level(text, &level)) return level;
  return invalid(std::string(where) + ": unknown log level '" + std::string(text) +
                 "'; known are debug, info, warn, error and off");
}

Result<Settings, Message> resolve_settings(ClientOptions options) {
  if (auto merged = merge_environment(options); !merged) return merged.error();
  if (!options.config_file.empty()) {
    if (auto merged = merge_config_file(options.config_file, options); !merged) return merged.error();
  }
  if (!options.log_level.empty()) {
    auto level = parse_log_level(options.log_level, "log_level");
    if (!level) return level.error();
    base::set_log_level(*level);
  }
  wire::prepare_handshakes();
  Settings out;
  if (io::process_limits().cpu_milli() < 2000) out.io_contexts = 1;  // a second thread would only take turns with it
  out.shm_dirs = options.shm_dir.empty() ? transport::usual_shm_dirs(std::getenv("XDG_RUNTIME_DIR"))
                                         : std::vector<std::string>{options.shm_dir};
  for (const auto& step : {take_servers(options, out), take_credential(options, out),
                           take_count("io_contexts", options.io_contexts, kIoContextsMax, out.io_contexts),
                           take_count("connections_per_worker", options.connections_per_worker,
                                      kConnectionsPerWorkerMax, out.connections_per_worker),
                           take_timeout("get_timeout", options.get_timeout, out.get_timeout_ns),
                           take_timeout("put_timeout", options.put_timeout, out.put_timeout_ns),
                           take_congestion(options.congestion, out.congestion)}) {
    if (!step) return step.error();
  }
  out.transport = options.transport;
  out.rdma_devices = options.rdma_devices;
  out.put_checksum = options.put_checksum;
  out.verify = options.verify;
  out.client_name = options.client_name.empty() ? default_client_name() : options.client_name;
  return out;
}

}  // namespace memkv::client
