#pragma once
/// Stand-ins for a GPU that NICs reach: device memory of the fake CUDA runtime (the CPU faults on it), and a
/// registration of its dma-buf, which soft-RoCE has none of: the memory is mapped elsewhere and registered there, under
/// the addresses of the device memory. So the bytes go over the wire into the device memory and out of it.

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdlib>
#include <vector>

#include "base/bytes.h"
#include "tests/support/fake_cudart/fake_cudart.h"
#include "tests/support/pattern.h"
#include "transport/rdma/verbs.h"

namespace memkv::test {

class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : bytes_(bytes) { EXPECT_EQ(FakeCudart::get().Malloc(&data_, bytes), 0); }
  ~DeviceMemory() { FakeCudart::get().Free(data_); }
  DeviceMemory(const DeviceMemory&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  size_t size() const { return bytes_; }
  std::span<std::byte> part(size_t at, size_t bytes) const { return {data() + at, bytes}; }
  std::vector<std::byte> read(size_t at, size_t bytes) const {
    std::vector<std::byte> out(bytes);
    FakeCudart::get().read(out.data(), data() + at, bytes);
    return out;
  }
  void write(size_t at, std::span<const std::byte> from) {
    FakeCudart::get().write(data() + at, from.data(), from.size());
  }
  void fill(std::byte value) { write(0, std::vector<std::byte>(bytes_, value)); }

 private:
  void* data_ = nullptr;
  const size_t bytes_;
};

/// The mapping stays until the process ends, since nobody tells us when the registration ends.
inline ibv_mr* register_elsewhere(ibv_pd* pd, uint64_t offset, size_t length, uint64_t iova, int fd, int access) {
  const uint64_t begin = base::align_down(offset, 4096);
  void* mapped =
      mmap(nullptr, length + (offset - begin), PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(begin));
  if (mapped == MAP_FAILED) return nullptr;
  using Register = ibv_mr* (*)(ibv_pd*, void*, size_t, uint64_t, int);
  const auto reg = reinterpret_cast<Register>(dlsym(dlopen("libibverbs.so.1", RTLD_NOW), "ibv_reg_mr_iova"));
  return reg(pd, static_cast<std::byte*>(mapped) + (offset - begin), length, iova, access);
}

/// The function with which clients of this process register a dma-buf.
inline auto& dmabuf_registration() {
  return const_cast<transport::rdma::Verbs*>(transport::rdma::load_verbs().value())->reg_dmabuf_mr;
}

}  // namespace memkv::test
