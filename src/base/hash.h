#pragma once
/// XXH3-64 with a seed. At start the widest kernel that this CPU can run is chosen; the result is the same with each,
/// and equals XXH3_64bits_withSeed.

#include "base/bytes.h"

namespace memkv::base {

/// Source: https://github.com/Cyan4973/xxHash, doc/xxhash_spec.md.
uint64_t xxh3(Bytes data, uint64_t seed);

/// Copies `size` bytes and returns the xxh3 of the bytes that arrived at `to`. It goes in pieces that stay in the
/// first-level cache. If another process changes the source meanwhile, the hash is still the one of the copy. `from`
/// and `to` must not overlap.
uint64_t xxh3_copy(void* to, const void* from, size_t size, uint64_t seed);

/// The kernel in use: "v2" (SSE), "avx2" or "avx512".
const char* hash_isa();

/// xxh3 of bytes that come in pieces. No allocation.
class Xxh3Stream {
 public:
  explicit Xxh3Stream(uint64_t seed = 0) { reset(seed); }
  void reset(uint64_t seed);
  void update(Bytes data);
  uint64_t digest() const;  ///< of all bytes so far; more may follow

  static constexpr size_t kStateBytes = 576;  ///< sizeof(XXH3_state_t), asserted in the kernels

 private:
  alignas(64) std::byte state_[kStateBytes];
};

}  // namespace memkv::base
