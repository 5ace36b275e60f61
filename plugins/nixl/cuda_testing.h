#pragma once
/// For tests that move bytes to and from the stand-in CUDA runtime.

#include <gtest/gtest.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "memory.h"
#include "tests/support/fake_cudart/fake_cudart.h"

namespace memkv::nixl {

inline const memkv::test::FakeCudart& fake_cuda() {
  setenv("MEMKV_CUDART", FAKE_CUDART, 0);
  return memkv::test::FakeCudart::get();
}

inline memkv::test::FakeCudartCounts fake_counts() {
  memkv::test::FakeCudartCounts counts;
  fake_cuda().counts(&counts);
  return counts;
}

/// While it lives, streams stand still.
struct HeldStreams {
  HeldStreams() { fake_cuda().hold(1); }
  ~HeldStreams() { fake_cuda().hold(0); }
};

/// While it lives, a call fails.
struct FailingCall {
  FailingCall(const char* call, int status) : name(call) { fake_cuda().fail(call, status); }
  ~FailingCall() { fake_cuda().fail(name, 0); }
  const char* name;
};

/// Memory of a fake device.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes, uint32_t device = 0) : bytes_(bytes), device_(device) {
    fake_cuda().SetDevice(static_cast<int>(device));
    EXPECT_EQ(fake_cuda().Malloc(&at_, bytes), 0);
  }
  ~DeviceMemory() { fake_cuda().Free(at_); }
  DeviceMemory(const DeviceMemory&) = delete;

  Place place() const { return {reinterpret_cast<uintptr_t>(at_), device_, MemoryKind::kCuda}; }
  std::vector<unsigned char> bytes() const {
    std::vector<unsigned char> out(bytes_);
    fake_cuda().read(out.data(), at_, bytes_);
    return out;
  }
  void write(const std::vector<unsigned char>& bytes) { fake_cuda().write(at_, bytes.data(), bytes.size()); }

 private:
  void* at_ = nullptr;
  size_t bytes_;
  uint32_t device_;
};

inline Place host_place(const void* memory) { return {reinterpret_cast<uintptr_t>(memory), 0, MemoryKind::kHost}; }

}  // namespace memkv::nixl
