#pragma once
/// What this process may use of the machine: the CPUs, memory and threads that its cgroups (v1 and v2) allow. Of nested
/// limits the smallest counts.

#include <cstdint>
#include <limits>
#include <string>

namespace memkv::io {

/// A limit, and what sets it (a file, or the machine).
struct Limit {
  static constexpr uint64_t kNone = std::numeric_limits<uint64_t>::max();

  uint64_t value = kNone;
  std::string source;  ///< for messages: the file that says it, or "the machine"

  bool is_set() const { return value != kNone; }
  /// Lowers the limit to `other` if that is smaller.
  void lower(uint64_t other, const std::string& other_source);
};

struct Limits {
  uint32_t cpus = 1;  ///< CPUs that the process may run on (affinity, cpusets)
  Limit quota_milli;  ///< CPU time for each second of the clock, in thousandths of a CPU
  /// The smallest of memory.max, memory.high, memory.limit_in_bytes, ulimit -v and -d, and the machine's memory.
  Limit memory_bytes;
  Limit threads;            ///< threads that may still be started (pids.max less pids.current)
  uint64_t huge_bytes = 0;  ///< bytes in free huge pages (2 MiB) that were set aside; they do not count as memory_bytes

  /// How many CPUs can work at once, in thousandths.
  uint64_t cpu_milli() const;
  /// False where a polling thread would take CPU time from the threads that it waits for: with one CPU, or under a
  /// quota.
  bool may_poll() const;
};

/// What the machine has, before cgroups limit it.
struct Machine {
  uint32_t cpus = 1;
  uint64_t memory_bytes = 0;
};
Machine this_machine();

/// Reads /proc and the cgroup folders below `root` ("" for the real ones). What cannot be read sets no limit.
Limits read_limits(const std::string& root, const Machine& machine);

/// The limits of this process. They are read once. Thread: any.
const Limits& process_limits();

/// Raises the process's soft limit of open files to the hard one.
void raise_open_files();

}  // namespace memkv::io
