/// The C names of the stand-in CUDA driver: what exports device memory as a dma-buf. The descriptor is a memfd's.

#include "tests/support/fake_cudart/fake_runtime.h"

using namespace memkv::test;

namespace {

constexpr int kUnknownError = 999;
constexpr int kNotSupported = 801;
thread_local int contexts_pushed = 0;

Fake& fake() { return Fake::get(); }
bool is_device(int device) { return device >= 0 && device < fake().devices(); }

}  // namespace

extern "C" {

int cuInit(unsigned) { return fake().forced_failure("cuInit"); }
int cuGetErrorName(int result, const char** name) {
  static const std::map<int, const char*> names = {
      {1, "CUDA_ERROR_INVALID_VALUE"}, {101, "CUDA_ERROR_INVALID_DEVICE"}, {801, "CUDA_ERROR_NOT_SUPPORTED"}};
  const auto found = names.find(result);
  if (found == names.end()) return kInvalidValue;
  *name = found->second;
  return kSuccess;
}
int cuDeviceGet(int* device, int ordinal) {
  if (!is_device(ordinal)) return kInvalidDevice;
  *device = ordinal;
  return kSuccess;
}
/// FAKE_CUDART_FAIL, or fail(): "dma-buf" makes devices say that they have none.
int cuDeviceGetAttribute(int* value, int attribute, int device) {
  if (!is_device(device) || attribute != 124) return kInvalidValue;
  *value = fake().forced_failure("dma-buf") == 0;
  return kSuccess;
}
int cuPointerGetAttribute(void* value, int attribute, unsigned long long address) {
  PointerAttributes attributes;
  fake().attributes(&attributes, reinterpret_cast<void*>(address));
  if (attributes.type != 2) return kInvalidValue;  // of pageable memory the driver knows nothing
  if (attribute != 2 && attribute != 9) return kUnknownError;
  const int out = attribute == 2 ? attributes.type : attributes.device;
  std::memcpy(value, &out, sizeof out);
  return kSuccess;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (!is_device(device)) return kInvalidDevice;
  *context = reinterpret_cast<void*>(static_cast<uintptr_t>(device) + 1);
  return kSuccess;
}
int cuDevicePrimaryCtxRelease_v2(int device) { return is_device(device) ? kSuccess : kInvalidDevice; }
int cuCtxPushCurrent_v2(void*) {
  contexts_pushed++;
  return kSuccess;
}
int cuCtxPopCurrent_v2(void** context) {
  if (contexts_pushed-- == 0) die("cuCtxPopCurrent without a context");
  *context = nullptr;
  return kSuccess;
}
int cuMemGetHandleForAddressRange(void* handle, unsigned long long address, size_t size, int type,
                                  unsigned long long flags) {
  if (contexts_pushed == 0) die("cuMemGetHandleForAddressRange without a context");
  if (const int status = fake().forced_failure("cuMemGetHandleForAddressRange")) return status;
  if (type != 1 || flags != 0) return kNotSupported;
  const int fd = fake().export_range(reinterpret_cast<void*>(address), size);
  if (fd < 0) return kInvalidValue;
  std::memcpy(handle, &fd, sizeof fd);
  return kSuccess;
}

}  // extern "C"
