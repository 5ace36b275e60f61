#pragma once
/// Checksums of payloads: one sum for each grain of 64 KiB, and one for each chunk over its grain sums. A ranged get
/// can so be checked grain by grain. Layout: docs/data-file.md.

#include "base/bytes.h"
#include "base/sizes.h"

namespace memkv::base {

/// How many grains a payload has. The last one may be shorter than 64 KiB. 0 for an empty payload.
constexpr size_t grain_count(uint64_t length) { return static_cast<size_t>((length + kGrainBytes - 1) / kGrainBytes); }

/// Writes grain_count(payload.size()) sums to `out`. Grain i is hashed with the seed `seed + i`, so that grains cannot
/// be exchanged.
void grain_sums(Bytes payload, uint64_t seed, uint64_t* out);

/// The sum of a chunk: xxh3 over its grain sums (little-endian) and its length in bytes. n is at most kGrainsPerChunk.
uint64_t chunk_checksum(const uint64_t* sums, size_t n, uint64_t length, uint64_t seed);

/// The chunk checksum of a payload of at most one chunk, straight from its bytes.
uint64_t chunk_checksum_of(Bytes payload, uint64_t seed);

}  // namespace memkv::base
