#include "base/checksum.h"

#include <algorithm>

#include "base/assert.h"
#include "base/hash.h"

namespace memkv::base {

void grain_sums(Bytes payload, uint64_t seed, uint64_t* out) {
  const size_t n = grain_count(payload.size());
  for (size_t i = 0; i < n; ++i) {
    const size_t at = i * kGrainBytes;
    out[i] = xxh3(payload.subspan(at, std::min<size_t>(kGrainBytes, payload.size() - at)), seed + i);
  }
}

uint64_t chunk_checksum(const uint64_t* sums, size_t n, uint64_t length, uint64_t seed) {
  MEMKV_ASSERT(n <= kGrainsPerChunk);
  MEMKV_ASSERT(n == grain_count(length));
  uint64_t words[kGrainsPerChunk + 1];
  std::copy_n(sums, n, words);
  words[n] = length;
  return xxh3(bytes_of(words, (n + 1) * sizeof words[0]), seed);
}

uint64_t chunk_checksum_of(Bytes payload, uint64_t seed) {
  MEMKV_ASSERT(payload.size() <= kChunkBytes);
  uint64_t sums[kGrainsPerChunk];
  grain_sums(payload, seed, sums);
  return chunk_checksum(sums, grain_count(payload.size()), payload.size(), seed);
}

}  // namespace memkv::base
