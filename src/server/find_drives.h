#pragma once
/// Finds NVMe drives of this machine that nobody uses.

#include <cstdint>
#include <string>
#include <vector>

namespace memkv::server {

struct FoundDrive {
  std::string path;
  uint64_t bytes = 0;
  std::string model;
  std::string in_use;  ///< why the drive is left alone; empty: it is free
};

/// The files in which the kernel tells about drives. Tests make their own.
struct MachineFiles {
  std::string sys_block = "/sys/block";
  std::string mounts = "/proc/self/mounts";
  std::string swaps = "/proc/swaps";
  std::string dev = "/dev";
};

/// All NVMe drives, by name. A drive is free if it is not mounted, no swap, has no partitions and no holders, and
/// nothing at its start looks like data.
std::vector<FoundDrive> find_nvme(const MachineFiles& files);
/// False if the drive or file cannot be read, or something other than zeros stands at its start and there is no MemKV
/// superblock. `why` then says what was found.
bool looks_unused(const std::string& path, std::string* why);

}  // namespace memkv::server
