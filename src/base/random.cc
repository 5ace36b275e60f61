#include "base/random.h"

#include <sys/random.h>

#include <bit>
#include <cerrno>

#include "base/assert.h"

namespace memkv::base {
namespace {

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15u;
__extension__ using Uint128 = unsigned __int128;

}  // namespace

uint64_t mix64(uint64_t value) {
  value += kGolden;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

Random::Random(uint64_t seed) {
  for (uint64_t& word : state_) {
    word = mix64(seed);
    seed += kGolden;
  }
}

uint64_t Random::next_u64() {
  const uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

uint64_t Random::below(uint64_t n) {
  MEMKV_ASSERT(n > 0);
  // Lemire, "Fast random integer generation in an interval", 2019.
  Uint128 product = static_cast<Uint128>(next_u64()) * n;
  if (static_cast<uint64_t>(product) < n) {
    const uint64_t threshold = (0 - n) % n;
    while (static_cast<uint64_t>(product) < threshold) product = static_cast<Uint128>(next_u64()) * n;
  }
  return static_cast<uint64_t>(product >> 64);
}

void Random::fill(MutBytes out) {
  size_t at = 0;
  for (; out.size() - at >= 8; at += 8) store_u64(out.data() + at, next_u64());
  if (at == out.size()) return;
  std::byte last[8];
  store_u64(last, next_u64());
  std::memcpy(out.data() + at, last, out.size() - at);
}

void os_random(MutBytes out) {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    MEMKV_ASSERT(got > 0, "getrandom");
    out = out.subspan(static_cast<size_t>(got));
  }
}

}  // namespace memkv::base
