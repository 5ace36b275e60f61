#include "cudart.h"

#include <dlfcn.h>

#include <cstdlib>
#include <mutex>
#include <optional>

namespace memkv::nixl {
namespace {

constexpr const char* kNames[] = {"libcudart.so.12", "libcudart.so.13", "libcudart.so"};

Message unavailable(std::string text) { return {Status::kUnavailable, "CUDA is not at hand: " + std::move(text)}; }

std::string last_dl_error() {
  const char* text = dlerror();
  return text ? text : "unknown reason";
}

/// The library, or nullptr and the reasons appended to `why`.
void* open_named(const char* name, std::string* why) {
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) *why += (why->empty() ? "" : "; ") + last_dl_error();
  return library;
}

void* open_library(std::string* why) {
  const char* chosen = std::getenv("MEMKV_CUDART");
  if (chosen && *chosen) return open_named(chosen, why);
  for (const char* name : kNames) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD)) return library;
  }
  for (const char* name : kNames) {
    if (void* library = open_named(name, why)) return library;
  }
  return nullptr;
}

template <typename F>
bool find(void* library, const char* name, F*& out, std::string* missing) {
  out = reinterpret_cast<F*>(dlsym(library, name));
  if (!out && missing->empty()) *missing = name;
  return out != nullptr;
}

/// The name of the first call that is not there, or empty.
std::string find_all(void* library, CudaRuntime& out) {
  std::string missing;
#define MEMKV_FIND(call) find(library, "cuda" #call, out.call, &missing)
  MEMKV_FIND(GetDeviceCount);
  MEMKV_FIND(GetDevice);
  MEMKV_FIND(SetDevice);
  MEMKV_FIND(StreamCreateWithFlags);
  MEMKV_FIND(StreamDestroy);
  MEMKV_FIND(StreamSynchronize);
  MEMKV_FIND(EventCreateWithFlags);
  MEMKV_FIND(EventRecord);
  MEMKV_FIND(EventQuery);
  MEMKV_FIND(EventDestroy);
  MEMKV_FIND(MemcpyAsync);
  MEMKV_FIND(MemcpyPeerAsync);
  MEMKV_FIND(HostRegister);
  MEMKV_FIND(HostUnregister);
  MEMKV_FIND(PointerGetAttributes);
  MEMKV_FIND(ThreadExchangeStreamCaptureMode);
  MEMKV_FIND(GetErrorString);
  MEMKV_FIND(GetLastError);
#undef MEMKV_FIND
  return missing;
}

/// Empty when there is a device to use.
std::string why_no_device(const CudaRuntime& runtime) {
  int count = 0;
  const CudaStatus status = runtime.GetDeviceCount(&count);
  if (status != kCudaSuccess) {
    runtime.GetLastError();  // so that the caller's own next check does not find our error
    return runtime.GetErrorString(status);
  }
  return count > 0 ? "" : "it knows no device";
}

}  // namespace

Result<const CudaRuntime*, Message> load_cuda_runtime() {
  static std::mutex mutex;
  static std::optional<CudaRuntime> loaded;
  const std::lock_guard lock(mutex);
  if (loaded) return &*loaded;
  std::string why;
  void* library = open_library(&why);
  if (!library) return unavailable(std::move(why));
  CudaRuntime runtime;
  if (const std::string missing = find_all(library, runtime); !missing.empty())
    return unavailable("the library found has no " + missing);
  if (const std::string reason = why_no_device(runtime); !reason.empty()) return unavailable(reason);
  loaded = runtime;
  return &*loaded;
}

}  // namespace memkv::nixl
