/// check_room(): asks the file systems before a drive file is made.

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/bytes.h"
#include "base/units.h"
#include "io/device.h"

namespace memkv::io {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kKeptFreeMax = base::kGiB;
constexpr uint64_t kKeptFreePercent = 5;
constexpr uint64_t kStatBlockBytes = 512;

/// How many bytes are asked of one file system.
struct Demand {
  std::string folder;
  std::string files;
  uint64_t bytes = 0;
};

std::string folder_of(const std::string& path) {
  const auto parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

/// How many bytes become free when the existing file is replaced.
uint64_t bytes_given_back(const std::string& path) {
  struct stat info {};
  const bool alone = ::lstat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 1;
  return alone ? static_cast<uint64_t>(info.st_blocks) * kStatBlockBytes : 0;
}

/// The file in which a file system on a loop device lies. Empty: it does not lie in a file.
std::string backing_file_of(dev_t device) {
  const std::string sys = fmt::format("/sys/dev/block/{}:{}/", major(device), minor(device));
  for (const char* place : {"loop/backing_file", "../loop/backing_file"}) {  // of a partition: its device's
    std::ifstream in(sys + place);
    std::string path;
    if (std::getline(in, path)) return path;
  }
  return {};
}

/// A file system can lie in a sparse file. That file grows when something is written to it, so its own file system
/// needs room too.
NewFile growth_below(dev_t device, uint64_t bytes) {
  NewFile growth{backing_file_of(device), 0};
  struct stat info {};
  if (growth.path.empty() || ::stat(growth.path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return {};
  const uint64_t has = static_cast<uint64_t>(info.st_blocks) * kStatBlockBytes;
  const auto whole = static_cast<uint64_t>(info.st_size);
  growth.size_bytes = std::min(bytes, whole > has ? whole - has : 0);
  return growth;
}

Result<void, Message> check(const Demand& demand) {
  struct statvfs room {};
  if (::statvfs(demand.folder.c_str(), &room) != 0) return {};
  const uint64_t free = uint64_t{room.f_bavail} * room.f_frsize;
  const uint64_t kept = std::min(uint64_t{room.f_blocks} * room.f_frsize / 100 * kKeptFreePercent, kKeptFreeMax);
  const uint64_t most = free > kept ? free - kept : 0;
  if (room.f_blocks == 0 || demand.bytes <= most) return {};
  return Message{Status::kNoSpace,
                 fmt::format("{}: no space for {}: the file system of {} has {} free, of which {} must stay free: that "
                             "leaves {}. Nothing was written",
                             demand.files, base::format_bytes(demand.bytes), demand.folder, base::format_bytes(free),
                             base::format_bytes(kept), base::format_bytes(most))};
}

}  // namespace

Result<void, Message> check_room(const std::vector<NewFile>& files) {
  std::map<dev_t, Demand> demands;
  std::deque<NewFile> open(files.begin(), files.end());
  for (size_t round = 0; !open.empty(); ++round) {
    const NewFile file = open.front();
    open.pop_front();
    struct stat info {};
    const std::string folder = folder_of(file.path);
    if (::stat(folder.c_str(), &info) != 0) continue;
    const bool asked_for = round < files.size();  // false for a file that lies below one of these
    const uint64_t back = asked_for ? bytes_given_back(file.path) : 0;
    const uint64_t bytes = file.size_bytes > back ? file.size_bytes - back : 0;
    Demand& demand = demands[info.st_dev];
    demand.folder = folder;
    demand.files += (demand.files.empty() ? "" : " and ") + file.path;
    demand.bytes += bytes;
    if (const NewFile below = growth_below(info.st_dev, bytes); below.size_bytes > 0) open.push_back(below);
  }
  for (const auto& [device, demand] : demands) {
    if (auto fits = check(demand); !fits) return fits;
  }
  return {};
}

}  // namespace memkv::io
