#include "server/find_drives.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/bytes.h"
#include "base/hex.h"
#include "base/unique_fd.h"
#include "format/format.h"

namespace memkv::server {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kSysSectorBytes = 512;  // the unit of /sys/block/X/size, whatever the drive's own sector is

std::string first_line(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

/// Natural order: nvme2n1 comes before nvme10n1.
bool by_number(const std::string& a, const std::string& b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

/// True if the first word of a line of `file` (mounts or swaps) is the device.
bool names_device(const std::string& file, const std::string& device) {
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line)) {
    if (line.substr(0, line.find_first_of(" \t")) == device) return true;
  }
  return false;
}

std::string partition_of(const fs::path& sys) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(sys, error)) {
    if (fs::exists(entry.path() / "partition", error)) return entry.path().filename();
  }
  return {};
}

std::string holder_of(const fs::path& sys) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(sys / "holders", error)) return entry.path().filename();
  return {};
}

std::string use_of(const MachineFiles& files, const fs::path& sys, const FoundDrive& drive) {
  if (drive.bytes == 0) return "has no namespace attached";
  if (first_line(sys / "ro") == "1") return "is read-only";
  if (names_device(files.mounts, drive.path)) return "is mounted";
  if (names_device(files.swaps, drive.path)) return "is swap";
  if (const std::string part = partition_of(sys); !part.empty()) return "has partitions (" + part + ")";
  if (const std::string holder = holder_of(sys); !holder.empty()) return "is part of " + holder;
  std::string why;
  return looks_unused(drive.path, &why) ? std::string() : why;
}

bool has_superblock(int fd) {
  for (const uint64_t offset : format::kSuperblockOffsets) {
    std::array<std::byte, sizeof(uint64_t)> magic{};
    if (::pread(fd, magic.data(), magic.size(), static_cast<off_t>(offset)) != ssize_t{magic.size()}) continue;
    if (base::load_u64(magic.data()) == format::kSuperblockMagic) return true;
  }
  return false;
}

/// Something by which a person may recognize the content: its first bytes that are not zero, as text if they are text.
std::string shown(base::Bytes bytes, size_t at) {
  constexpr size_t kShown = 16;
  const base::Bytes some = bytes.subspan(at, std::min(kShown, bytes.size() - at));
  const auto is_text = [](std::byte b) { return b >= std::byte{' '} && b <= std::byte{'~'}; };
  const auto end = std::find_if_not(some.begin(), some.end(), is_text);
  const std::string_view text(reinterpret_cast<const char*>(some.data()), static_cast<size_t>(end - some.begin()));
  if (text.size() >= 4) return fmt::format("at byte {}: \"{}\"", at, text);
  return fmt::format("at byte {}: hex {}", at, base::hex_encode(some));
}

}  // namespace

bool looks_unused(const std::string& path, std::string* why) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    *why = std::string("cannot be opened (") + std::strerror(errno) + ")";
    return false;
  }
  // Signatures of file systems, arrays and partition tables stand within the first 128 KiB (btrfs: at 64 KiB). A file's
  // signature stands at its start.
  std::vector<std::byte> start(128 * 1024);
  const ssize_t got = ::pread(fd.get(), start.data(), start.size(), 0);
  if (got < 0) {
    *why = std::string("cannot be read (") + std::strerror(errno) + ")";
    return false;
  }
  start.resize(static_cast<size_t>(got));
  const auto data = std::find_if(start.begin(), start.end(), [](std::byte b) { return b != std::byte{0}; });
  if (data == start.end() || has_superblock(fd.get())) return true;  // format() will say which store
  *why = fmt::format("holds data that is no MemKV store ({})", shown(start, static_cast<size_t>(data - start.begin())));
  return false;
}

std::vector<FoundDrive> find_nvme(const MachineFiles& files) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(files.sys_block, error)) {
    const std::string name = entry.path().filename();
    // nvme0n1 is a drive. nvme0c0n1 is not: it is one of several paths to a drive.
    const bool plain =
        name.starts_with("nvme") && name.find('n', 4) != std::string::npos && name.find('c') == std::string::npos;
    if (plain) names.push_back(name);
  }
  std::sort(names.begin(), names.end(), by_number);
  std::vector<FoundDrive> drives;
  for (const std::string& name : names) {
    const fs::path sys = fs::path(files.sys_block) / name;
    FoundDrive drive;
    drive.path = (fs::path(files.dev) / name).string();
    drive.bytes = std::strtoull(first_line(sys / "size").c_str(), nullptr, 10) * kSysSectorBytes;
    drive.model = first_line(sys / "device" / "model");
    drive.in_use = use_of(files, sys, drive);
    drives.push_back(std::move(drive));
  }
  return drives;
}

}  // namespace memkv::server
