#include "transport/rdma/dmabuf.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "base/bytes.h"

namespace memkv::transport::rdma {
namespace {

// Of cuda.h, whose ABI is stable: handles are pointers or ints, addresses 64-bit integers, results an int enum.
using CuResult = int;
using CuDevice = int;
using CuContext = void*;
using CuAddress = unsigned long long;
constexpr CuResult kCuSuccess = 0;
constexpr int kDeviceDmaBufSupported = 124;  // CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED
constexpr int kPointerMemoryType = 2;        // CU_POINTER_ATTRIBUTE_MEMORY_TYPE
constexpr int kPointerDeviceOrdinal = 9;     // CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
constexpr unsigned kMemoryTypeDevice = 2;    // CU_MEMORYTYPE_DEVICE
constexpr int kHandleTypeDmaBufFd = 1;       // CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD
constexpr const char* kLibrary = "libcuda.so.1";

/// The functions of the CUDA driver that are needed. Thread: any.
struct Driver {
  CuResult (*init)(unsigned flags);
  CuResult (*error_name)(CuResult result, const char** name);
  CuResult (*device_get)(CuDevice* device, int ordinal);
  CuResult (*device_attribute)(int* value, int attribute, CuDevice device);
  CuResult (*pointer_attribute)(void* value, int attribute, CuAddress address);
  CuResult (*primary_retain)(CuContext* context, CuDevice device);
  CuResult (*primary_release)(CuDevice device);
  CuResult (*push)(CuContext context);
  CuResult (*pop)(CuContext* context);
  CuResult (*handle_for_range)(void* handle, CuAddress address, size_t size, int type, unsigned long long flags);
  std::string why_not;  ///< not empty: there is no driver
};

Driver load_driver() {
  Driver driver{};
  void* library = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    driver.why_not = fmt::format("this host has no CUDA driver ({})", kLibrary);
    return driver;
  }
  const auto find = [&](auto& function, const char* name) {
    void* found = dlsym(library, name);
    if (!found && driver.why_not.empty()) driver.why_not = fmt::format("{} is too old: it has no {}", kLibrary, name);
    std::memcpy(&function, &found, sizeof function);
  };
  find(driver.init, "cuInit");
  find(driver.error_name, "cuGetErrorName");
  find(driver.device_get, "cuDeviceGet");
  find(driver.device_attribute, "cuDeviceGetAttribute");
  find(driver.pointer_attribute, "cuPointerGetAttribute");
  find(driver.primary_retain, "cuDevicePrimaryCtxRetain");
  find(driver.primary_release, "cuDevicePrimaryCtxRelease_v2");
  find(driver.push, "cuCtxPushCurrent_v2");
  find(driver.pop, "cuCtxPopCurrent_v2");
  find(driver.handle_for_range, "cuMemGetHandleForAddressRange");
  return driver;
}

/// One export: each step says what is missing.
class Export {
 public:
  Export(const Driver& driver, const void* data, size_t size, int ordinal)
      : driver_(driver), address_(reinterpret_cast<uintptr_t>(data)), size_(size), ordinal_(ordinal) {}

  Result<DmaBuf, Message> run() {
    if (auto ready = find_device(); !ready) return ready.error();
    if (auto checked = check_memory(); !checked) return checked.error();
    return with_context();
  }

 private:
  Message failed(const char* what, CuResult result) const {
    const char* name = nullptr;
    const bool named = driver_.error_name(result, &name) == kCuSuccess && name;
    return {Status::kUnsupported, named ? fmt::format("CUDA device {}: {}: {}", ordinal_, what, name)
                                        : fmt::format("CUDA device {}: {}: error {}", ordinal_, what, result)};
  }

  Result<void, Message> find_device() {
    if (const CuResult r = driver_.init(0); r != kCuSuccess) return failed("the driver does not start", r);
    if (const CuResult r = driver_.device_get(&device_, ordinal_); r != kCuSuccess) return failed("there is none", r);
    int supported = 0;
    const CuResult r = driver_.device_attribute(&supported, kDeviceDmaBufSupported, device_);
    if (r != kCuSuccess) return failed("the driver does not know of dma-buf", r);
    if (supported != 0) return {};
    return Message{Status::kUnsupported,
                   fmt::format("CUDA device {}: its memory cannot be exported as a dma-buf (that needs the open kernel "
                               "modules of the driver)",
                               ordinal_)};
  }

  Result<void, Message> check_memory() const {
    unsigned type = 0;
    int owner = 0;
    if (driver_.pointer_attribute(&type, kPointerMemoryType, address_) != kCuSuccess || type != kMemoryTypeDevice ||
        driver_.pointer_attribute(&owner, kPointerDeviceOrdinal, address_) != kCuSuccess) {
      return Message{Status::kInvalid, fmt::format("{:#x} is no memory of a CUDA device", address_)};
    }
    if (owner == ordinal_) return {};
    return Message{Status::kInvalid,
                   fmt::format("{:#x} is memory of CUDA device {}, not of {}", address_, owner, ordinal_)};
  }

  /// In the context that cudaMalloc allocates in, whatever the thread's own is.
  Result<DmaBuf, Message> with_context() const {
    CuContext context = nullptr;
    if (const CuResult r = driver_.primary_retain(&context, device_); r != kCuSuccess) return failed("no context", r);
    Result<DmaBuf, Message> out = Message{};
    if (const CuResult r = driver_.push(context); r != kCuSuccess) {
      out = failed("its context cannot be used", r);
    } else {
      out = take_handle();
      driver_.pop(&context);
    }
    driver_.primary_release(device_);
    return out;
  }

  /// The driver takes whole pages.
  Result<DmaBuf, Message> take_handle() const {
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t begin = base::align_down(address_, page);
    const uint64_t end = base::align_up(address_ + size_, page);
    int fd = -1;
    const CuResult r = driver_.handle_for_range(&fd, begin, end - begin, kHandleTypeDmaBufFd, 0);
    if (r != kCuSuccess) return failed("its memory was not exported as a dma-buf", r);
    return DmaBuf{base::UniqueFd(fd), address_ - begin};
  }

  const Driver& driver_;
  const uint64_t address_;
  const size_t size_;
  const int ordinal_;
  CuDevice device_ = 0;
};

}  // namespace

Result<DmaBuf, Message> export_gpu_memory(const void* data, size_t size, int device) {
  static const Driver driver = load_driver();
  if (!driver.why_not.empty()) return Message{Status::kUnsupported, driver.why_not};
  return Export(driver, data, size, device).run();
}

}  // namespace memkv::transport::rdma
