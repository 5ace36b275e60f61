#pragma once
/// The content of the benchmark's blocks. Every 8 bytes follow from key, generation and position, so that a wrong
/// block, an old version, a shift or a hole is noticed.

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/random.h"

namespace memkv::bench {

inline uint64_t pattern_seed(uint64_t key, uint64_t generation) {
  return base::mix64(key * 0x9E3779B97F4A7C15ULL + base::mix64(generation + 1));
}

inline uint64_t pattern_word(uint64_t seed, uint64_t position) { return (seed + position) * 0xD1342543DE82EF95ULL; }

inline void fill_pattern(std::byte* out, size_t bytes, uint64_t seed) {
  const size_t words = bytes / 8;
  for (size_t i = 0; i < words; i++) {
    const uint64_t word = pattern_word(seed, i);
    std::memcpy(out + i * 8, &word, 8);
  }
  const uint64_t last = pattern_word(seed, words);
  std::memcpy(out + words * 8, &last, bytes % 8);
}

inline bool matches_pattern(const std::byte* data, size_t bytes, uint64_t seed) {
  const size_t words = bytes / 8;
  uint64_t difference = 0;
  for (size_t i = 0; i < words; i++) {
    uint64_t word = 0;
    std::memcpy(&word, data + i * 8, 8);
    difference |= word ^ pattern_word(seed, i);
  }
  const uint64_t last = pattern_word(seed, words);
  return difference == 0 && std::memcmp(data + words * 8, &last, bytes % 8) == 0;
}

}  // namespace memkv::bench
