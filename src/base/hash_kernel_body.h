// The body of each hash_ISA.cc, which is compiled with the flags of that instruction set. There is no #pragma once, and
// no template or inline function of another header is used: if such a function were compiled here, the linker could
// keep this copy for the whole program, and a CPU without the instructions would crash.
#define XXH_INLINE_ALL
#include <string.h>
#include <xxhash.h>

#include "base/hash_kernel.h"

namespace memkv::base {
namespace {

constexpr size_t kStateBytes = 576;
constexpr size_t kPieceBytes = 16384;  // half of the smallest first-level cache
static_assert(sizeof(XXH3_state_t) == kStateBytes && alignof(XXH3_state_t) <= 64);

XXH3_state_t* state_of(void* state) { return static_cast<XXH3_state_t*>(state); }

uint64_t hash(const void* data, size_t size, uint64_t seed) { return XXH3_64bits_withSeed(data, size, seed); }

void reset(void* state, uint64_t seed) {
  XXH3_INITSTATE(state_of(state));  // or XXH3 takes an old seed in the storage for one that is prepared
  XXH3_64bits_reset_withSeed(state_of(state), seed);
}

void update(void* state, const void* data, size_t size) { XXH3_64bits_update(state_of(state), data, size); }

uint64_t digest(const void* state) { return XXH3_64bits_digest(static_cast<const XXH3_state_t*>(state)); }

uint64_t copy(void* to, const void* from, size_t size, uint64_t seed) {
  if (size <= kPieceBytes) {
    if (size > 0) memcpy(to, from, size);
    return hash(to, size, seed);
  }
  alignas(64) unsigned char state[kStateBytes];
  reset(state, seed);
  for (size_t at = 0; at < size; at += kPieceBytes) {
    const size_t piece = size - at < kPieceBytes ? size - at : kPieceBytes;
    unsigned char* target = static_cast<unsigned char*>(to) + at;
    memcpy(target, static_cast<const unsigned char*>(from) + at, piece);
    update(state, target, piece);
  }
  return digest(state);
}

}  // namespace
}  // namespace memkv::base
