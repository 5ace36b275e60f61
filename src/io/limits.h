#pragma once
/// What this process may use of the machine: the CPUs, memory and threads that its cgroups (v1 and v2) leave it. Of
/// nested limits the smallest counts.

#include <cstdint>
#include <limits>
#include <string>

namespace memkv::io {

/// A limit and who sets it.
struct Limit {
  static constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();

  uint64_t value = kNone;
  std::string source;  ///< for messages: the file that says it, or "the machine"

  bool is_set() const { return value != kNone; }
  /// Takes `other` where it is smaller.
  void lower(uint64_t other, const std::string& other_source);
};

struct Limits {
  uint32_t cpus = 1;  ///< that the process may run on (affinity, cpusets)
  Limit quota_milli;  ///< CPU time by the clock, in thousandths of a CPU
  /// memory.max and memory.high, memory.limit_in_bytes, ulimit -v and -d, the machine's memory.
  Limit memory_bytes;
  Limit threads;            ///< that may still be made (pids.max less pids.current)
  uint64_t huge_bytes = 0;  ///< huge pages (2 MiB) set aside and free: they do not count as memory_bytes

  /// CPUs' worth of work at once, in thousandths.
  uint64_t cpu_milli() const;
  /// False where a polling thread would take CPU time from the threads it waits for: with one CPU, or under a quota.
  bool may_poll() const;
};

/// The bare machine, before cgroups.
struct Machine {
  uint32_t cpus = 1;
  uint64_t memory_bytes = 0;
};
Machine this_machine();

/// Reads proc and the cgroup folders below `root` ("" for the real ones). What cannot be read does not limit.
Limits read_limits(const std::string& root, const Machine& machine);

/// Of this process, read once. Thread: any.
const Limits& process_limits();

/// Raises the process's soft limit of open files to the hard one.
void raise_open_files();

}  // namespace memkv::io
