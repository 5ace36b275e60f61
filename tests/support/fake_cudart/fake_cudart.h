#pragma once
/// A stand-in for the CUDA runtime, for tests on machines without a GPU: libcudart_fake.so, loaded by name
/// (MEMKV_CUDART). What a real runtime lets pass or answers with rubbish aborts here with a sentence: a copy kind that
/// does not fit its pointers, a range outside its allocation, an event of another device than its stream, memory freed
/// or unregistered under a copy. Device memory cannot be touched by the host: its public address has no access, the
/// bytes live in a second, hidden mapping. Streams run on a thread of the library, each in order.
/// The library is a stand-in for the CUDA driver as well, of what exports memory as a dma-buf (fake_driver.cc): whoever
/// asks for libcuda.so.1 in a process that has it loaded gets it.
///
/// Environment: FAKE_CUDART_DEVICES (2), FAKE_CUDART_DELAY_US (0, of every copy), FAKE_CUDART_FAIL ("HostRegister=2":
/// this call always fails so).

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <type_traits>

namespace memkv::test {

struct FakeCudartCounts {
  int contexts[8];              ///< contexts made so far, by device
  uint64_t copies;              ///< copies that were asked for
  uint64_t bytes;               ///< bytes that were asked to be copied
  uint64_t largest_copy_bytes;  ///< in a single call
  uint64_t pageable_copies;     ///< asynchronous copies whose host side was not registered
  uint64_t captures_broken;     ///< calls that would have spoiled a capture under way
  uint64_t registered_bytes;    ///< now
  uint64_t device_bytes;        ///< now
  uint64_t streams;             ///< now
  uint64_t events;              ///< now
  uint64_t queued;              ///< copies not yet run
};

/// The library's controls, for the test that has it loaded.
struct FakeCudart {
  int (*Malloc)(void** out, size_t bytes);
  int (*Free)(void* device);
  int (*SetDevice)(int device);
  int (*GetDevice)(int* device);
  void (*counts)(FakeCudartCounts* out);
  void (*read)(void* to, const void* device_from, size_t bytes);
  void (*write)(void* device_to, const void* from, size_t bytes);
  void (*fail)(const char* call, int status);  ///< makes this call fail with `status` from now on; 0: it works again
  void (*delay_us)(uint64_t delay);            ///< of each copy
  void (*hold)(int on);                        ///< while on, streams stand still
  void (*let)(uint64_t copies);                ///< while held, lets so many copies run, and no more
  void (*capturing)(int on);                   ///< another thread captures a graph in global mode

  /// Loads the library named by MEMKV_CUDART, as the plugin does.
  static const FakeCudart& get();
};

inline const FakeCudart& FakeCudart::get() {
  static const FakeCudart fake = [] {
    const char* path = std::getenv("MEMKV_CUDART");
    void* library = path ? dlopen(path, RTLD_NOW) : nullptr;
    if (!library) {
      std::fprintf(stderr, "MEMKV_CUDART: %s\n", path ? dlerror() : "not set");
      std::abort();
    }
    FakeCudart out;
    const auto find = [library](const char* name, auto*& call) {
      call = reinterpret_cast<std::remove_reference_t<decltype(call)>>(dlsym(library, name));
      if (!call) std::abort();
    };
    find("cudaMalloc", out.Malloc);
    find("cudaFree", out.Free);
    find("cudaSetDevice", out.SetDevice);
    find("cudaGetDevice", out.GetDevice);
    find("fake_cudart_counts", out.counts);
    find("fake_cudart_read", out.read);
    find("fake_cudart_write", out.write);
    find("fake_cudart_fail", out.fail);
    find("fake_cudart_delay_us", out.delay_us);
    find("fake_cudart_hold", out.hold);
    find("fake_cudart_let", out.let);
    find("fake_cudart_capturing", out.capturing);
    return out;
  }();
  return fake;
}

}  // namespace memkv::test
