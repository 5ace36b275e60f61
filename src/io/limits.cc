#include "io/limits.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "base/text.h"

namespace memkv::io {
namespace {

constexpr uint64_t kHugePageBytes = 2u << 20;

/// A line of /proc/self/cgroup: `ID:CONTROLLERS:PATH`. Version 2 has no controllers in it.
struct Membership {
  std::vector<std::string> controllers;
  std::string path;
};

/// A mounted hierarchy: the folder `at` shows the cgroup `shown`.
struct Mount {
  bool v2 = false;
  std::vector<std::string> options;  ///< in version 1 the controllers are among the options
  std::string shown, at;
};

std::vector<Membership> read_memberships(const std::string& root) {
  std::vector<Membership> found;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    found.push_back({base::split_list(line.substr(first + 1, second - first - 1)), line.substr(second + 1)});
  }
  return found;
}

/// mountinfo writes blanks and backslashes as octal digits; this reads them.
std::string unescape(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); i++) {
    const std::string_view digits = std::string_view(text).substr(i + 1, 3);
    const bool octal = text[i] == '\\' && digits.size() == 3 && digits.find_first_not_of("01234567") == digits.npos;
    plain += octal ? static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0')) : text[i];
    if (octal) i += 3;
  }
  return plain;
}

/// Reads a line of mountinfo: `36 35 98:0 ROOT MOUNT_POINT OPTIONS [TAGS...] - TYPE SOURCE SUPER_OPTIONS`.
std::optional<Mount> parse_mount(const std::string& line) {
  std::istringstream words(line);
  std::string skipped, type, source, options;
  Mount mount;
  words >> skipped >> skipped >> skipped >> mount.shown >> mount.at;
  while (words >> skipped && skipped != "-") {
  }
  if (!(words >> type >> source >> options) || (type != "cgroup" && type != "cgroup2")) return std::nullopt;
  mount.v2 = type == "cgroup2";
  mount.options = base::split_list(options);
  mount.shown = unescape(mount.shown);
  mount.at = unescape(mount.at);
  return mount;
}

std::vector<Mount> read_mounts(const std::string& root) {
  std::vector<Mount> found;
  std::ifstream file(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    if (auto mount = parse_mount(line)) found.push_back(std::move(*mount));
  }
  return found;
}

bool has(const std::vector<std::string>& words, const std::string& word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// The part of `path` below the cgroup that the mount shows. If the path lies outside of it (in another namespace, or
/// it was moved), the mount itself counts: its limits hold in any case.
std::string below(const std::string& path, const std::string& shown) {
  if (path.find("/..") != std::string::npos) return {};
  if (shown == "/") return path == "/" ? std::string{} : path;
  const bool inside = path.starts_with(shown) && (path.size() == shown.size() || path[shown.size()] == '/');
  return inside ? path.substr(shown.size()) : std::string{};
}

std::optional<uint64_t> read_number(const std::string& file) {
  std::string word;
  if (!(std::ifstream(file) >> word) || word.empty() || !std::isdigit(static_cast<unsigned char>(word[0])))
    return std::nullopt;  // "max", "-1", not there
  uint64_t value = 0;
  return std::istringstream(word) >> value ? std::optional(value) : std::nullopt;
}

std::optional<uint64_t> milli_of(uint64_t quota_us, uint64_t period_us) {
  if (quota_us == 0 || period_us == 0) return std::nullopt;
  return std::max<uint64_t>(1, quota_us * 1000 / period_us);
}

/// Reads `cpu.max` of version 2: "QUOTA PERIOD" or "max PERIOD".
std::optional<uint64_t> read_cpu_max(const std::string& file) {
  uint64_t quota_us = 0, period_us = 0;
  if (!(std::ifstream(file) >> quota_us >> period_us)) return std::nullopt;
  return milli_of(quota_us, period_us);
}

std::optional<uint64_t> read_cfs_quota(const std::string& folder) {
  const auto quota_us = read_number(folder + "/cpu.cfs_quota_us");
  const auto period_us = read_number(folder + "/cpu.cfs_period_us");
  return quota_us && period_us ? milli_of(*quota_us, *period_us) : std::nullopt;
}

std::optional<uint64_t> read_threads_left(const std::string& folder) {
  const auto most = read_number(folder + "/pids.max");
  if (!most) return std::nullopt;
  const uint64_t now = read_number(folder + "/pids.current").value_or(0);
  return *most > now ? *most - now : 0;
}

/// For version 1 in a container, where ancestors cannot be seen: the kernel reports their smallest limit in this file.
std::optional<uint64_t> read_hierarchical_limit(const std::string& folder) {
  std::ifstream file(folder + "/memory.stat");
  std::string name;
  for (uint64_t value = 0; file >> name >> value;) {
    if (name == "hierarchical_memory_limit") return value;
  }
  return std::nullopt;
}

std::optional<uint64_t> read_rlimit(__rlimit_resource resource) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return std::nullopt;
  return limit.rlim_cur;
}

void lower(Limit& limit, const std::optional<uint64_t>& value, const std::string& source) {
  if (value) limit.lower(*value, source);
}

/// Takes the limits of one cgroup, for the controllers that this hierarchy has. `name` is the folder without the root
/// that tests put in front.
void take_folder(Limits& limits, const Mount& mount, const std::string& folder, const std::string& name) {
  const auto governs = [&](const char* controller) { return mount.v2 || has(mount.options, controller); };
  if (governs("memory")) {
    for (const char* file : {"/memory.max", "/memory.high", "/memory.limit_in_bytes"})
      lower(limits.memory_bytes, read_number(folder + file), name + file);
    lower(limits.memory_bytes, read_hierarchical_limit(folder), name + "/memory.stat");
  }
  if (governs("cpu")) {
    lower(limits.quota_milli, read_cpu_max(folder + "/cpu.max"), name + "/cpu.max");
    lower(limits.quota_milli, read_cfs_quota(folder), name + "/cpu.cfs_quota_us");
  }
  if (governs("hugetlb")) {
    for (const char* file : {"/hugetlb.2MB.max", "/hugetlb.2MB.limit_in_bytes"})
      limits.huge_bytes = std::min(limits.huge_bytes, read_number(folder + file).value_or(limits.huge_bytes));
  }
  if (governs("pids")) lower(limits.threads, read_threads_left(folder), name + "/pids.max");
}

/// Takes the limits of the cgroup itself and of all ancestors that can be seen.
void take_cgroup(Limits& limits, const Mount& mount, const std::string& path, const std::string& root) {
  for (std::string left = below(path, mount.shown);; left.resize(left.rfind('/'))) {
    const std::string name = mount.at + left;
    take_folder(limits, mount, root + name, name);
    if (left.find('/') == std::string::npos) return;
  }
}

/// Bytes in huge pages that the operator has set aside and that are free.
uint64_t read_huge_bytes(const std::string& root) {
  return read_number(root + "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").value_or(0) * kHugePageBytes;
}

}  // namespace

void Limit::lower(uint64_t other, const std::string& other_source) {
  if (other >= value) return;
  value = other;
  source = other_source;
}

uint64_t Limits::cpu_milli() const { return std::min(uint64_t{cpus} * 1000, quota_milli.value); }

bool Limits::may_poll() const { return cpus > 1 && quota_milli.value >= uint64_t{cpus} * 1000; }

Machine this_machine() {
  Machine machine;
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
    machine.cpus = std::max(1u, static_cast<uint32_t>(CPU_COUNT(&cpus)));
  machine.memory_bytes = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return machine;
}

Limits read_limits(const std::string& root, const Machine& machine) {
  Limits limits;
  limits.cpus = machine.cpus;
  limits.memory_bytes.lower(machine.memory_bytes, "the machine's memory");
  limits.huge_bytes = read_huge_bytes(root);
  const std::vector<Mount> mounts = read_mounts(root);
  for (const Membership& membership : read_memberships(root)) {
    for (const Mount& mount : mounts) {
      const auto& names = membership.controllers;
      const bool same = mount.v2 ? names.empty() : std::any_of(names.begin(), names.end(), [&](const auto& name) {
        return has(mount.options, name);
      });
      if (same) take_cgroup(limits, mount, membership.path, root);
    }
  }
  return limits;
}

const Limits& process_limits() {
  static const Limits limits = [] {
    Limits read = read_limits("", this_machine());
    lower(read.memory_bytes, read_rlimit(RLIMIT_AS), "the limit of address space (ulimit -v)");
    lower(read.memory_bytes, read_rlimit(RLIMIT_DATA), "the limit of data (ulimit -d)");
    return read;
  }();
  return limits;
}

void raise_open_files() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace memkv::io
