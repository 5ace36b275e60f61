#include "sim/fork.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/log.h"

namespace memkv::sim {
namespace {

constexpr rlim_t kCpuSecondsMax = 20;  // a run that takes more hangs
constexpr size_t kTextMax = 2000;
constexpr int kMmapThreshold = 32 << 20;
constexpr int kHeapBytes = 64 << 20;
constexpr uintptr_t kHugePage = 2 << 20;

/// Memory shared with the child.
struct Shared {
  bool finished = false;
  RunResult figures;  // everything but its texts
  char violation[kTextMax] = {};
};

/// Takes the heap of a run at once, in huge pages, and gives nothing back. Taken page by page, page faults were more
/// than half of a run's time.
void take_memory() {
  mallopt(M_MMAP_THRESHOLD, kMmapThreshold);
  mallopt(M_TRIM_THRESHOLD, kHeapBytes);
  mallopt(M_TOP_PAD, kHeapBytes);
  const auto begin = base::align_up(reinterpret_cast<uintptr_t>(sbrk(0)), kHugePage);
  void* volatile once = std::malloc(kMmapThreshold / 2);
  std::free(once);
  const auto end = reinterpret_cast<uintptr_t>(sbrk(0));
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint
}

/// A child process that runs a seed.
struct Child {
  pid_t pid = -1;
  uint64_t seed = 0;
  Shared* shared = nullptr;
  int words = -1;  ///< its standard error

  void start(uint64_t which, const Run::Options& options, const std::vector<size_t>* keep);
  SeedReport take(int status);
};

void Child::start(uint64_t which, const Run::Options& options, const std::vector<size_t>* keep) {
  seed = which;
  void* at = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  MEMKV_ASSERT(at != MAP_FAILED);
  shared = new (at) Shared;
  words = memfd_create("memkv-sim", MFD_CLOEXEC);
  MEMKV_ASSERT(words >= 0);
  std::fflush(nullptr);
  pid = fork();
  MEMKV_ASSERT(pid >= 0, "fork");
  if (pid > 0) return;
  dup2(words, STDERR_FILENO);
  const rlimit cpu{kCpuSecondsMax, kCpuSecondsMax + 5}, no_core{0, 0};
  setrlimit(RLIMIT_CPU, &cpu);
  setrlimit(RLIMIT_CORE, &no_core);
  base::set_log_level(base::LogLevel::kOff);
  take_memory();
  RunResult result = run_seed(which, options, keep);
  std::strncpy(shared->violation, result.violation.c_str(), kTextMax - 1);
  result.violation.clear();
  shared->figures = result;
  shared->finished = true;
  _exit(0);
}

SeedReport Child::take(int status) {
  SeedReport report;
  report.seed = seed;
  report.result = shared->figures;
  report.result.violation = shared->violation;
  if (!shared->finished) {
    report.crashed = true;
    std::array<char, kTextMax> text{};
    const off_t end = lseek(words, 0, SEEK_END);
    const off_t from = std::max<off_t>(0, end - static_cast<off_t>(text.size()) + 1);
    const ssize_t got = pread(words, text.data(), text.size() - 1, from);
    report.result.violation = std::string(text.data(), static_cast<size_t>(std::max<ssize_t>(got, 0)));
    while (!report.result.violation.empty() && report.result.violation.back() == '\n')
      report.result.violation.pop_back();
    if (WIFSIGNALED(status)) report.result.violation += " (signal " + std::to_string(WTERMSIG(status)) + ")";
  }
  close(words);
  shared->~Shared();
  munmap(shared, sizeof(Shared));
  *this = {};
  return report;
}

}  // namespace

SeedReport run_forked(uint64_t seed, const Run::Options& options, const std::vector<size_t>* keep) {
  Child child;
  child.start(seed, options, keep);
  int status = 0;
  MEMKV_ASSERT(waitpid(child.pid, &status, 0) == child.pid);
  return child.take(status);
}

void run_many(uint32_t jobs, const Run::Options& options, const std::function<bool(uint64_t& seed)>& next,
              const std::function<void(const SeedReport&)>& tell) {
  std::vector<Child> children;
  bool more = true;
  while (more || !children.empty()) {
    uint64_t seed = 0;
    while (more && children.size() < jobs && (more = next(seed))) {
      children.emplace_back();
      children.back().start(seed, options, nullptr);
    }
    if (children.empty()) return;
    int status = 0;
    const pid_t ended = waitpid(-1, &status, 0);
    const auto at = std::find_if(children.begin(), children.end(), [&](const Child& c) { return c.pid == ended; });
    MEMKV_ASSERT(at != children.end());
    tell(at->take(status));
    children.erase(at);
  }
}

}  // namespace memkv::sim
