#pragma once
/// The server's configuration: one YAML file with few keys (docs/operating.md).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "io/reactor.h"
#include "memkv/error.h"
#include "server/shm_socket.h"
#include "wire/handshake.h"

namespace memkv::server {

/// kDirect: raw drives. kFile: drive files. kMemory: nothing survives a restart.
enum class StorageMode : uint8_t { kDirect, kFile, kMemory };
std::string_view to_string(StorageMode mode);

struct DriveOption {
  std::string path;
  bool power_loss_protected = false;  ///< its cache survives a loss of power: writes need no flush
};

/// A namespace: its credential, and its own options.
struct NamespaceOption {
  std::string name;
  wire::Secret secret{};
};

struct Options {
  std::string name;  ///< a name by which clients may know the server; empty: none
  std::string address = "0.0.0.0:9900";
  std::string congestion;                   ///< empty: cubic where it is to be had; "system": leave it
  bool tcp_one_copy = false;                ///< where that can be
  std::vector<NamespaceOption> namespaces;  ///< network.auth_key is the namespace "default"
  StorageMode mode = StorageMode::kDirect;
  std::vector<DriveOption> drives;
  std::vector<std::string> accept_loss;  ///< names of missing members whose blocks the owner gives up
  uint64_t memory_bytes_max = 0;         ///< memory mode: of the store; else of slots and tier; 0: the machine decides
  std::optional<uint64_t> tier_bytes;    ///< of the RAM tier over drives; none: what memory.max_size leaves
  uint64_t index_block_bytes = 32 * 1024;  ///< the average block size for which the index has room
  ShmOptions shm;
  uint32_t workers = 0;  ///< 0: half of the CPUs
  io::ReactorKind io = io::ReactorKind::kAuto;
  bool rdma = true;                         ///< use RDMA where there are devices
  std::vector<std::string> rdma_devices;    ///< empty: all usable ones
  std::optional<base::LogLevel> log_level;  ///< none: MEMKV_LOG_LEVEL decides, else info
};

/// Reads the file's text. `file` is its name for messages: "FILE, line L, column C: KEY: what is wrong, and what to
/// write".
Result<Options, Message> parse_options(std::string_view yaml, const std::string& file);
Result<Options, Message> load_options(const std::string& file);

// Reads words that the command line and the file share. A message begins with `where`.
Result<StorageMode, Message> parse_mode(std::string_view word, const std::string& where);
Result<io::ReactorKind, Message> parse_io(std::string_view word, const std::string& where);
Result<base::LogLevel, Message> parse_log_level(std::string_view word, const std::string& where);
/// Reads a comma list of devices, as in /sys/class/infiniband, or "none".
void take_rdma_devices(std::string_view text, Options& options);
/// Splits the comma lists of drives from the command line. A path that exists is one path, even if it has commas.
std::vector<std::string> split_drives(const std::vector<std::string>& texts);
/// Reads a size; it must have a unit.
Result<uint64_t, Message> parse_size_option(std::string_view text, const std::string& where);

}  // namespace memkv::server
