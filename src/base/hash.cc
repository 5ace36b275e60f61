#include "base/hash.h"

#include "base/hash_kernel.h"

namespace memkv::base {
namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

// The kernels are compiled for x86-64-v3 and -v4, and the compiler may use any instruction of these levels. So the CPU
// must have all of them, not only the vector ones.
bool has_v3() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
         __builtin_cpu_supports("fma");
}

const HashKernel& pick() {
  __builtin_cpu_init();
  if (has_v3() && has_avx512()) return kHashKernelAvx512;
  if (has_v3()) return kHashKernelAvx2;
  return kHashKernelV2;
}

const HashKernel& kernel() {
  static const HashKernel& picked = pick();
  return picked;
}

}  // namespace

uint64_t xxh3(Bytes data, uint64_t seed) { return kernel().hash(data.data(), data.size(), seed); }

uint64_t xxh3_copy(void* to, const void* from, size_t size, uint64_t seed) {
  return kernel().copy(to, from, size, seed);
}

const char* hash_isa() { return kernel().isa; }

void Xxh3Stream::reset(uint64_t seed) { kernel().reset(state_, seed); }
void Xxh3Stream::update(Bytes data) { kernel().update(state_, data.data(), data.size()); }
uint64_t Xxh3Stream::digest() const { return kernel().digest(state_); }

}  // namespace memkv::base
