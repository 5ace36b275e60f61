#include "io/limits.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace memkv::io {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMiB = 1 << 20;
constexpr Machine kHost = {.cpus = 8, .memory_bytes = 24'000 * kMiB};

/// A small /proc and /sys in a temporary folder.
class CaseC3 : public ::testing::Test {
 protected:
  CaseC3() {
    std::string name = (fs::temp_directory_path() / "memkv-limits-XXXXXX").string();
    root_ = mkdtemp(name.data());
  }
  ~CaseC3() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    fs::create_directories(fs::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void v2(const std::string& path, const std::string& shown = "/") {
    write("/proc/self/cgroup", "0::" + path + "\n");
    write("/proc/self/mountinfo",
          "22 1 8:1 / / rw,relatime - ext4 /dev/vda rw\n"
          "30 22 0:26 " +
              shown + " /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
  }
  Limits read() { return read_limits(root_, kHost); }

  std::string root_;
};

TEST_F(CaseC3, without_cgroups_the_machine_is_the_limit) {
  const Limits limits = read();
  EXPECT_EQ(limits.memory_bytes.value, kHost.memory_bytes);
  EXPECT_EQ(limits.memory_bytes.source, "the machine's memory");
  EXPECT_EQ(limits.cpu_milli(), 8000u);
  EXPECT_TRUE(limits.may_poll());
  EXPECT_FALSE(limits.threads.is_set());
}

TEST_F(CaseC3, version_2_of_a_container_that_sees_its_own_cgroup_as_the_root) {
  v2("/");
  write("/sys/fs/cgroup/memory.max", "536870912\n");
  write("/sys/fs/cgroup/memory.high", "max\n");
  write("/sys/fs/cgroup/cpu.max", "50000 100000\n");
  write("/sys/fs/cgroup/pids.max", "20\n");
  write("/sys/fs/cgroup/pids.current", "5\n");
  const Limits limits = read();
  EXPECT_EQ(limits.memory_bytes.value, 512 * kMiB);
  EXPECT_EQ(limits.memory_bytes.source, "/sys/fs/cgroup/memory.max");
  EXPECT_EQ(limits.cpu_milli(), 500u);
  EXPECT_FALSE(limits.may_poll());
  EXPECT_EQ(limits.threads.value, 15u);
}

TEST_F(CaseC3, of_nested_limits_the_smallest_counts_wherever_it_stands) {
  v2("/kubepods.slice/pod7.slice/c1.scope");
  write("/sys/fs/cgroup/kubepods.slice/memory.max", "2147483648");
  write("/sys/fs/cgroup/kubepods.slice/pod7.slice/memory.max", "1073741824");
  write("/sys/fs/cgroup/kubepods.slice/pod7.slice/c1.scope/memory.max", "max");
  write("/sys/fs/cgroup/kubepods.slice/cpu.max", "150000 100000");
  write("/sys/fs/cgroup/kubepods.slice/pod7.slice/c1.scope/cpu.max", "max 100000");
  write("/sys/fs/cgroup/kubepods.slice/pod7.slice/pids.max", "100");
  write("/sys/fs/cgroup/kubepods.slice/pod7.slice/pids.current", "98");
  write("/sys/fs/cgroup/kubepods.slice/pod7.slice/c1.scope/pids.max", "50");
  write("/sys/fs/cgroup/kubepods.slice/pod7.slice/c1.scope/pids.current", "3");
  const Limits limits = read();
  EXPECT_EQ(limits.memory_bytes.value, 1024 * kMiB);
  EXPECT_EQ(limits.memory_bytes.source, "/sys/fs/cgroup/kubepods.slice/pod7.slice/memory.max");
  EXPECT_EQ(limits.quota_milli.value, 1500u);
  EXPECT_EQ(limits.threads.value, 2u);
}

TEST_F(CaseC3, memory_high_limits_as_well) {
  v2("/a");
  write("/sys/fs/cgroup/a/memory.max", "1073741824");
  write("/sys/fs/cgroup/a/memory.high", "805306368");
  EXPECT_EQ(read().memory_bytes.value, 768 * kMiB);
  EXPECT_EQ(read().memory_bytes.source, "/sys/fs/cgroup/a/memory.high");
}

TEST_F(CaseC3, version_1_has_a_hierarchy_for_each_controller) {
  write("/proc/self/cgroup",
        "9:name=systemd:/\n8:pids:/docker/f00\n4:memory:/docker/f00\n3:cpu,cpuacct:/docker/f00\n0::/\n");
  write("/proc/self/mountinfo",
        "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
        "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
        "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  write("/sys/fs/cgroup/memory/docker/f00/memory.limit_in_bytes", "734003200");
  write("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1");
  write("/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000");
  write("/sys/fs/cgroup/cpu,cpuacct/docker/f00/cpu.cfs_quota_us", "200000");
  write("/sys/fs/cgroup/cpu,cpuacct/docker/f00/cpu.cfs_period_us", "100000");
  write("/sys/fs/cgroup/pids/docker/f00/pids.max", "max");
  const Limits limits = read();
  EXPECT_EQ(limits.memory_bytes.value, 700 * kMiB);
  EXPECT_EQ(limits.memory_bytes.source, "/sys/fs/cgroup/memory/docker/f00/memory.limit_in_bytes");
  EXPECT_EQ(limits.cpu_milli(), 2000u);
  EXPECT_FALSE(limits.may_poll());
  EXPECT_FALSE(limits.threads.is_set());
}

TEST_F(CaseC3, version_1_in_a_container_that_sees_only_itself) {
  write("/proc/self/cgroup", "4:memory:/docker/f00/inner\n");
  write("/proc/self/mountinfo", "35 31 0:32 /docker/f00 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712");
  write("/sys/fs/cgroup/memory/memory.stat", "cache 12\nhierarchical_memory_limit 1073741824\ntotal_rss 7\n");
  write("/sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "536870912");
  EXPECT_EQ(read().memory_bytes.value, 512 * kMiB);
  fs::remove(root_ + "/sys/fs/cgroup/memory/inner/memory.limit_in_bytes");
  EXPECT_EQ(read().memory_bytes.value, 1024 * kMiB);
  EXPECT_EQ(read().memory_bytes.source, "/sys/fs/cgroup/memory/memory.stat");
}

TEST_F(CaseC3, a_cgroup_that_cannot_be_seen_counts_as_what_is_mounted) {
  v2("/../../elsewhere");
  write("/sys/fs/cgroup/memory.max", "268435456");
  EXPECT_EQ(read().memory_bytes.value, 256 * kMiB);
}

TEST_F(CaseC3, a_mount_with_blanks_in_its_name_is_found) {
  write("/proc/self/cgroup", "0::/x\n");
  write("/proc/self/mountinfo", "30 22 0:26 / /sys/my\\040cgroups rw - cgroup2 cgroup2 rw\n");
  write("/sys/my cgroups/x/memory.max", "268435456");
  EXPECT_EQ(read().memory_bytes.value, 256 * kMiB);
}

TEST_F(CaseC3, nonsense_does_not_limit) {
  write("/proc/self/cgroup", "\n:\n0:\nx\n0::\n1:memory:\n");
  write("/proc/self/mountinfo",
        "\n- cgroup2\n30 22 0:26 / /c rw - cgroup2 cgroup2 rw\n31 22 0:26 / /c\\0 rw - cgroup x memory\n");
  write("/c/memory.max", "lots");
  write("/c/cpu.max", "0 0");
  write("/c/pids.max", "-3");
  const Limits limits = read();
  EXPECT_EQ(limits.memory_bytes.value, kHost.memory_bytes);
  EXPECT_EQ(limits.cpu_milli(), 8000u);
  EXPECT_FALSE(limits.threads.is_set());
}

TEST_F(CaseC3, polling_needs_more_than_one_cpu_and_no_quota) {
  EXPECT_FALSE(read_limits(root_, {.cpus = 1, .memory_bytes = kMiB}).may_poll());
  v2("/");
  write("/sys/fs/cgroup/cpu.max", "800000 100000");  // two of them are as much as the machine has, so it is no limit
  EXPECT_TRUE(read().may_poll());
  write("/sys/fs/cgroup/cpu.max", "750000 100000");
  EXPECT_FALSE(read().may_poll());
}

TEST_F(CaseC3, huge_pages_are_those_set_aside_as_far_as_the_cgroup_may) {
  write("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "512\n");
  EXPECT_EQ(read().huge_bytes, 1024 * kMiB);
  v2("/");
  write("/sys/fs/cgroup/hugetlb.2MB.max", "67108864");
  EXPECT_EQ(read().huge_bytes, 64 * kMiB);
}

TEST(Limits, of_this_process_make_sense) {
  const Limits& limits = process_limits();
  EXPECT_GE(limits.cpus, 1u);
  EXPECT_GT(limits.memory_bytes.value, 16 * kMiB);
  EXPECT_LE(limits.memory_bytes.value, this_machine().memory_bytes);
  EXPECT_GE(limits.cpu_milli(), 1u);
}

}  // namespace
}  // namespace memkv::io
