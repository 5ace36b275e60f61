#pragma once
/// Bytes that tell where they belong. Every 8 bytes follow from key, version and position, so that a wrong key,
/// version, offset or order is noticed.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

namespace memkv::test {

inline uint64_t mix(uint64_t x) {
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  return x ^ (x >> 33);
}

inline uint64_t pattern_seed(std::string_view key, uint64_t version) {
  uint64_t seed = mix(version + 0x9E3779B97F4A7C15ULL);
  for (const char c : key) seed = mix(seed ^ static_cast<unsigned char>(c));
  return seed;
}

/// Fills `out` with the bytes [offset, offset + size) of the pattern.
inline void fill_pattern(void* out, size_t size, uint64_t seed, uint64_t offset = 0) {
  auto* bytes = static_cast<unsigned char*>(out);
  for (size_t i = 0; i < size;) {
    const uint64_t at = offset + i;
    const uint64_t word = mix(seed + (at / 8));
    const size_t skip = at % 8;
    const size_t n = std::min<size_t>(8 - skip, size - i);
    std::memcpy(bytes + i, reinterpret_cast<const unsigned char*>(&word) + skip, n);
    i += n;
  }
}

inline std::vector<unsigned char> pattern(std::string_view key, uint64_t version, size_t size, uint64_t offset = 0) {
  std::vector<unsigned char> bytes(size);
  fill_pattern(bytes.data(), size, pattern_seed(key, version), offset);
  return bytes;
}

/// Place of the first wrong byte; -1 if there is none.
inline int64_t first_mismatch(const void* data, size_t size, uint64_t seed, uint64_t offset = 0) {
  unsigned char expected[4096];
  const auto* bytes = static_cast<const unsigned char*>(data);
  for (size_t i = 0; i < size; i += sizeof expected) {
    const size_t n = std::min(sizeof expected, size - i);
    fill_pattern(expected, n, seed, offset + i);
    if (std::memcmp(bytes + i, expected, n) == 0) continue;
    for (size_t k = 0; k < n; ++k) {
      if (bytes[i + k] != expected[k]) return static_cast<int64_t>(i + k);
    }
  }
  return -1;
}

}  // namespace memkv::test
