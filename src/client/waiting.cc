#include "client/waiting.h"

#include <fstream>
#include <string>

namespace memkv::client {
namespace {

constexpr uint64_t kSpinNs = 50'000;

bool one_cpu() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  return sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) < 2;
}

bool has_quota() {
  std::string quota;
  if (std::ifstream(("/sys/fs/cgroup/cpu.max")) >> quota) return quota != "max";
  int64_t us = -1;
  return std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") >> us && us > 0;
}

}  // namespace

uint64_t spin_limit_ns() {
  static const uint64_t limit = one_cpu() || has_quota() ? 0 : kSpinNs;
  return limit;
}

}  // namespace memkv::client
