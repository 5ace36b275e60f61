#pragma once
/// Pseudo-random numbers that replay from a seed, and random bytes of the system for secrets.

#include "base/bytes.h"

namespace memkv::base {

/// xoshiro256** seeded by splitmix64; never for secrets. Source: Blackman, Vigna, https://prng.di.unimi.it.
class Random {
 public:
  explicit Random(uint64_t seed);
  uint64_t next_u64();
  /// Uniform in [0, n); n > 0.
  uint64_t below(uint64_t n);
  /// Uniform in [low, high].
  uint64_t between(uint64_t low, uint64_t high) { return low + below(high - low + 1); }
  /// True `numerator` times in `denominator`.
  bool chance(uint64_t numerator, uint64_t denominator) { return below(denominator) < numerator; }
  /// Uniform in [0, 1).
  double next_double() { return static_cast<double>(next_u64() >> 11) * 0x1.0p-53; }
  void fill(MutBytes out);

  // What <algorithm> and <random> ask of a generator.
  using result_type = uint64_t;
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~uint64_t{0}; }
  uint64_t operator()() { return next_u64(); }

 private:
  uint64_t state_[4];
};

/// One step of splitmix64: a cheap way from one number to another that looks unrelated.
uint64_t mix64(uint64_t value);

/// Fills with bytes fit for secrets (getrandom). Blocks only before the system's first entropy.
void os_random(MutBytes out);

}  // namespace memkv::base
