#pragma once
/// One build of XXH3 per instruction set; hash.cc picks one at start.

#include <cstddef>
#include <cstdint>

namespace memkv::base {

/// `state` is Xxh3Stream's storage, here and below.
struct HashKernel {
  const char* isa;
  uint64_t (*hash)(const void* data, size_t size, uint64_t seed);
  uint64_t (*copy)(void* to, const void* from, size_t size, uint64_t seed);
  void (*reset)(void* state, uint64_t seed);
  void (*update)(void* state, const void* data, size_t size);
  uint64_t (*digest)(const void* state);
};

extern const HashKernel kHashKernelV2;
extern const HashKernel kHashKernelAvx2;    ///< only where the CPU has AVX2
extern const HashKernel kHashKernelAvx512;  ///< only where the CPU has AVX-512 F, BW, CD, DQ and VL

}  // namespace memkv::base
