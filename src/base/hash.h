#pragma once
/// XXH3-64 with a seed, by the widest kernel that this CPU has. Equal on every machine to XXH3_64bits_withSeed.

#include "base/bytes.h"

namespace memkv::base {

/// Source: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
uint64_t xxh3(Bytes data, uint64_t seed);

/// Copies `size` bytes and returns xxh3 of what arrived at `to`, in pieces that stay in the first-level cache.
/// A source that changes meanwhile (another process's memory) cannot make the hash and the copy differ. No overlap.
uint64_t xxh3_copy(void* to, const void* from, size_t size, uint64_t seed);

/// The kernel in use: "v2" (SSE), "avx2" or "avx512".
const char* hash_isa();

/// xxh3 of bytes that come in pieces. No allocation.
class Xxh3Stream {
 public:
  explicit Xxh3Stream(uint64_t seed = 0) { reset(seed); }
  void reset(uint64_t seed);
  void update(Bytes data);
  uint64_t digest() const;  ///< of all so far; more may follow

  static constexpr size_t kStateBytes = 576;  ///< sizeof(XXH3_state_t), asserted in the kernels

 private:
  alignas(64) std::byte state_[kStateBytes];
};

}  // namespace memkv::base
