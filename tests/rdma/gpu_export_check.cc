/// For machines with a GPU; no test runs it. Exports memory of the CUDA device as a dma-buf, as a client does that
/// registers it, and reports the result.
/// Usage: memkv-gpu-export-check [DEVICE], where DEVICE is 0 if it is not given.
/// Exit code 1: a range could not be exported, or memory was exported that is not the device's.

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "transport/rdma/dmabuf.h"

namespace memkv::test {
namespace {

using transport::rdma::export_gpu_memory;

/// Allocates as cudaMalloc does, but by the driver: memory in the device's primary context.
class DeviceMemory {
 public:
  explicit DeviceMemory(int device) {
    void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    void* context = nullptr;
    if (!call(library, "cuInit", 0u) || !call(library, "cuDevicePrimaryCtxRetain", &context, device)) return;
    if (!call(library, "cuCtxPushCurrent_v2", context)) return;
    if (!call(library, "cuMemAlloc_v2", &address_, kBytes)) address_ = 0;
    void* popped = nullptr;
    call(library, "cuCtxPopCurrent_v2", &popped);
  }
  char* at(size_t offset) const { return reinterpret_cast<char*>(address_) + offset; }
  explicit operator bool() const { return address_ != 0; }
  static constexpr size_t kBytes = 64u << 20;

 private:
  template <typename... Args>
  static bool call(void* library, const char* name, Args... args) {
    auto* function = reinterpret_cast<int (*)(Args...)>(dlsym(library, name));
    const int result = function ? function(args...) : -1;
    if (result != 0) std::printf("%s: %d\n", name, result);
    return result == 0;
  }
  unsigned long long address_ = 0;
};

bool try_range(const char* what, const void* data, size_t size, int device, bool works) {
  const auto exported = export_gpu_memory(data, size, device);
  if (!exported) {
    std::printf("%-28s %p %zu bytes: %s: %s\n", what, data, size,
                std::string(to_string(exported.error().status)).c_str(), exported.error().text.c_str());
    return !works;
  }
  struct stat status {};
  const int stated = fstat(exported->fd.get(), &status);
  char link[256] = "?";
  const std::string path = "/proc/self/fd/" + std::to_string(exported->fd.get());
  const ssize_t length = readlink(path.c_str(), link, sizeof link - 1);
  if (length > 0) link[length] = 0;
  std::printf("%-28s %p %zu bytes: exported, %s, %lld bytes, begins at %llu\n", what, data, size, link,
              stated == 0 ? static_cast<long long>(lseek(exported->fd.get(), 0, SEEK_END)) : -1,
              static_cast<unsigned long long>(exported->offset));
  return works;
}

int run(int device) {
  const DeviceMemory memory(device);
  if (!memory) {
    std::printf("no memory of CUDA device %d is to be had\n", device);
    return 1;
  }
  bool good = true;
  good &= try_range("whole allocation", memory.at(0), DeviceMemory::kBytes, device, true);
  good &= try_range("a page of it", memory.at(8192), 4096, device, true);
  good &= try_range("16 MiB in the middle", memory.at(4u << 20), 16u << 20, device, true);
  good &= try_range("not at a page", memory.at(100'000), 300'000, device, true);
  good &= try_range("its last bytes", memory.at(DeviceMemory::kBytes - 100), 100, device, true);
  const auto host = std::make_unique<std::vector<char>>(1 << 20);
  good &= try_range("host memory", host->data(), host->size(), device, false);
  good &= try_range("a device that is not there", memory.at(0), 4096, 9999, false);
  for (int i = 0; i < 2000; i++) good &= export_gpu_memory(memory.at(0), 1 << 20, device).ok();
  std::printf("2000 times more: %s\n", good ? "good" : "NOT good");
  return good ? 0 : 1;
}

}  // namespace
}  // namespace memkv::test

int main(int argc, char** argv) { return memkv::test::run(argc > 1 ? std::atoi(argv[1]) : 0); }
