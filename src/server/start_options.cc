#include "server/start_options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>

#include "base/log.h"
#include "base/units.h"
#include "io/socket.h"
#include "volume/volume.h"

namespace memkv::server {
namespace {

constexpr const char* kDefaultDrive = "memkv-data.memkv";
constexpr uint64_t kDefaultDriveBytes = base::kGiB;

Result<Options, Message> options_below(const StartOptions& start) {
  if (!start.config_file.empty()) return load_options(start.config_file);
  Options options;
  options.address = fmt::format("127.0.0.1:{}", kPortDefault);
  options.mode = StorageMode::kFile;
  if (is_embedded(start)) options.drives = {{kDefaultDrive, false}};
  return options;
}

Result<void, Message> merge_address(const std::string& address, Options& options) {
  if (!address.starts_with(":")) {
    if (!address.empty()) options.address = address;
    return {};
  }
  // ":0" keeps the host and takes another port.
  auto host = io::parse_host_port(options.address);
  if (!host) return host.error();
  options.address = (host->host.find(':') != std::string::npos ? "[" + host->host + "]" : host->host) + address;
  return {};
}

/// Storage options of the command line replace those of the file. Then mode and drives must fit together, or the start
/// is refused.
Result<void, Message> merge_storage(const StartOptions& start, Options& options) {
  if (!start.storage_mode.empty()) {
    auto mode = parse_mode(start.storage_mode, "--mode");
    if (!mode) return mode.error();
    options.mode = *mode;
  }
  if (!start.memory_size.empty()) {
    auto bytes = parse_size_option(start.memory_size, "--memory");
    if (!bytes) return bytes.error();
    options.memory_bytes_max = *bytes;
  }
  if (!start.drives.empty()) {
    options.drives.clear();
    for (const std::string& path : split_drives(start.drives)) options.drives.push_back({path, false});
  }
  options.accept_loss.insert(options.accept_loss.end(), start.accept_loss.begin(), start.accept_loss.end());
  if (options.mode == StorageMode::kMemory && !start.drives.empty()) {
    return Message{Status::kInvalid, "--drive: memory mode uses no drive: leave one of the two out"};
  }
  if (options.mode == StorageMode::kMemory && !options.drives.empty()) {
    MEMKV_LOG(kWarn, "memory mode: the drives of {} are not used, and nothing survives", start.config_file);
  }
  if (options.mode != StorageMode::kMemory && options.drives.empty()) {
    return Message{
        Status::kInvalid,
        "storage.drives names no drive: run `memkv setup`, which writes them down, or use storage.mode: memory"};
  }
  return {};
}

Result<void, Message> merge_shm(const StartOptions& start, Options& options) {
  if (!start.shm_dir.empty()) options.shm.dir = start.shm_dir;
  if (start.no_shm) options.shm.enabled = false;
  if (start.shm_size.empty()) return {};
  auto bytes = parse_size_option(start.shm_size, "--shm-size");
  if (!bytes) return bytes.error();
  options.shm.window_bytes_max = *bytes;
  return {};
}

Result<void, Message> merge_log_level(const std::string& word, Options& options) {
  const char* environment = std::getenv("MEMKV_LOG_LEVEL");
  const bool from_environment = word.empty() && !options.log_level && environment != nullptr && *environment != 0;
  if (word.empty() && !from_environment) return {};
  auto level =
      from_environment ? parse_log_level(environment, "MEMKV_LOG_LEVEL") : parse_log_level(word, "--log-level");
  if (!level) return level.error();
  options.log_level = *level;
  return {};
}

}  // namespace

bool is_embedded(const StartOptions& start) {
  return start.config_file.empty() && start.drives.empty() && start.storage_mode != "memory";
}

Result<Options, Message> merge_options(const StartOptions& start) {
  auto below = options_below(start);
  if (!below) return below.error();
  Options options = std::move(below).value();
  if (auto done = merge_storage(start, options); !done) return done.error();
  if (auto done = merge_address(start.address, options); !done) return done.error();
  if (auto done = merge_shm(start, options); !done) return done.error();
  if (auto done = merge_log_level(start.log_level, options); !done) return done.error();
  if (!start.io.empty()) {
    auto kind = parse_io(start.io, "--io");
    if (!kind) return kind.error();
    options.io = *kind;
  }
  if (start.workers != 0) options.workers = start.workers;
  if (!start.congestion.empty()) options.congestion = start.congestion;
  options.tcp_one_copy |= start.tcp_one_copy;
  if (const char* devices = std::getenv("MEMKV_RDMA_DEVICES"); devices != nullptr && options.rdma_devices.empty()) {
    take_rdma_devices(devices, options);
  }
  return options;
}

Result<bool, Message> make_default_drive(io::FillProgress progress, void* context) {
  MEMKV_LOG(kInfo, "no --config: blocks go to ./{}, for this machine only", kDefaultDrive);
  if (::access(kDefaultDrive, F_OK) == 0) return false;
  MEMKV_LOG(kInfo, "making ./{} ({})", kDefaultDrive, base::format_bytes(kDefaultDriveBytes));
  auto made = io::create_drive_file(kDefaultDrive, kDefaultDriveBytes, progress, context);
  if (!made) return made.error();
  auto file = io::DriveFile::open(kDefaultDrive, {});
  auto formatted = file ? volume::Volume::format({file->get()}, {}) : Result<void, Message>(file.error());
  if (formatted) return true;
  ::unlink(kDefaultDrive);
  return formatted.error();
}

void remove_default_drive() {
  if (::unlink(kDefaultDrive) == 0) MEMKV_LOG(kInfo, "./{} is removed again", kDefaultDrive);
}

}  // namespace memkv::server
