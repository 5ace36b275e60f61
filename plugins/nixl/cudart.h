#pragma once
/// The CUDA runtime, found when the first VRAM is registered and never linked: own declarations of the few calls used.
/// Source: CUDA Runtime API reference, versions 12 and 13 (the two agree in all that stands here but one struct's
/// size).

#include <cstddef>

#include "memkv/error.h"

namespace memkv::nixl {

/// cudaError_t.
using CudaStatus = int;
inline constexpr CudaStatus kCudaSuccess = 0;
inline constexpr CudaStatus kCudaNotReady = 600;
inline constexpr CudaStatus kCudaAlreadyRegistered = 712;

/// cudaStream_t, cudaEvent_t.
using CudaStream = struct CudaStreamTag*;
using CudaEvent = struct CudaEventTag*;

/// cudaMemcpyKind.
enum class CudaCopyKind : int { kHostToHost = 0, kHostToDevice = 1, kDeviceToHost = 2, kDeviceToDevice = 3 };
/// cudaMemoryType.
enum class CudaMemoryType : int { kUnregistered = 0, kHost = 1, kDevice = 2, kManaged = 3 };
/// cudaStreamCaptureMode.
enum class CudaCaptureMode : int { kGlobal = 0, kThreadLocal = 1, kRelaxed = 2 };

inline constexpr unsigned kCudaStreamNonBlocking = 1;
inline constexpr unsigned kCudaEventDisableTiming = 2;
inline constexpr unsigned kCudaHostRegisterPortable = 1;

/// cudaPointerAttributes. Layout: 0 type, 4 device, 8 devicePointer, 16 hostPointer; version 13 adds eight reserved
/// words (88 bytes), and the runtime fills all of its own size: the room at the end is for later versions.
struct CudaPointerAttributes {
  CudaMemoryType type = CudaMemoryType::kUnregistered;
  int device = -1;
  void* device_pointer = nullptr;
  void* host_pointer = nullptr;
  long reserved[29] = {};
};
static_assert(offsetof(CudaPointerAttributes, device) == 4 && offsetof(CudaPointerAttributes, device_pointer) == 8 &&
              offsetof(CudaPointerAttributes, host_pointer) == 16 && sizeof(CudaPointerAttributes) == 256);

/// The calls, each under its name without `cuda`. Thread: any, but the current device is the calling thread's.
struct CudaRuntime {
  CudaStatus (*GetDeviceCount)(int* count);
  CudaStatus (*GetDevice)(int* device);
  CudaStatus (*SetDevice)(int device);
  CudaStatus (*StreamCreateWithFlags)(CudaStream* stream, unsigned flags);
  CudaStatus (*StreamDestroy)(CudaStream stream);
  CudaStatus (*StreamSynchronize)(CudaStream stream);
  CudaStatus (*EventCreateWithFlags)(CudaEvent* event, unsigned flags);
  CudaStatus (*EventRecord)(CudaEvent event, CudaStream stream);
  CudaStatus (*EventQuery)(CudaEvent event);
  CudaStatus (*EventDestroy)(CudaEvent event);
  CudaStatus (*MemcpyAsync)(void* to, const void* from, size_t bytes, CudaCopyKind kind, CudaStream stream);
  CudaStatus (*MemcpyPeerAsync)(void* to, int to_device, const void* from, int from_device, size_t bytes,
                                CudaStream stream);
  CudaStatus (*HostRegister)(void* memory, size_t bytes, unsigned flags);
  CudaStatus (*HostUnregister)(void* memory);
  CudaStatus (*PointerGetAttributes)(CudaPointerAttributes* attributes, const void* pointer);
  CudaStatus (*ThreadExchangeStreamCaptureMode)(CudaCaptureMode* mode);
  const char* (*GetErrorString)(CudaStatus status);
  CudaStatus (*GetLastError)();
};

/// Finds and loads the runtime: `MEMKV_CUDART` if it is set, else one that the process has loaded already, else
/// libcudart.so.12, .13, .so. It stays loaded to the process's end. Creates no CUDA context. Failure: a sentence with
/// every name tried and why it did not do, or what the runtime says about its devices. Asking again tries again.
/// Thread: any.
Result<const CudaRuntime*, Message> load_cuda_runtime();

}  // namespace memkv::nixl
