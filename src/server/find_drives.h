#pragma once
/// NVMe drives of this machine that nobody uses.

#include <cstdint>
#include <string>
#include <vector>

namespace memkv::server {

struct FoundDrive {
  std::string path;
  uint64_t bytes = 0;
  std::string model;
  std::string in_use;  ///< why it is left alone; empty: it is free
};

/// Where the kernel tells about drives; tests make their own.
struct MachineFiles {
  std::string sys_block = "/sys/block";
  std::string mounts = "/proc/self/mounts";
  std::string swaps = "/proc/swaps";
  std::string dev = "/dev";
};

/// All NVMe drives by name. Free: not mounted, no swap, no partitions, no holders, and nothing that looks like data at
/// its start.
std::vector<FoundDrive> find_nvme(const MachineFiles& files);
/// False if the start of a drive or file holds anything but zeros, and there is no MemKV superblock; also when it
/// cannot be read. `why`: then, what was found.
bool looks_unused(const std::string& path, std::string* why);

}  // namespace memkv::server
