#pragma once
/// Checksums of payloads: one per grain of 64 KiB, and one per chunk over its grain sums. Layout: docs/data-file.md.

#include "base/bytes.h"
#include "base/sizes.h"

namespace memkv::base {

/// Grains of a payload; the last may be short; 0 for no bytes.
constexpr size_t grain_count(uint64_t length) { return static_cast<size_t>((length + kGrainBytes - 1) / kGrainBytes); }

/// Writes grain_count(payload.size()) sums to `out`; grain i is hashed with seed + i.
void grain_sums(Bytes payload, uint64_t seed, uint64_t* out);

/// xxh3 over the little-endian sums and the length in bytes, for one grain as for many. n <= kGrainsPerChunk.
uint64_t chunk_checksum(const uint64_t* sums, size_t n, uint64_t length, uint64_t seed);

/// The chunk checksum of a payload of at most one chunk, straight from its bytes.
uint64_t chunk_checksum_of(Bytes payload, uint64_t seed);

}  // namespace memkv::base
