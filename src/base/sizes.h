#pragma once
/// The sizes that everything is cut into: a block into chunks, a chunk into grains, a drive into sectors
/// (docs/glossary.md).

#include <cstddef>
#include <cstdint>

namespace memkv::base {

inline constexpr uint32_t kSectorBytes = 4096;              ///< of our format; the drive's own may be smaller
inline constexpr uint64_t kGrainBytes = 65536;              ///< a piece of a chunk that has a checksum of its own
inline constexpr uint64_t kChunkBytes = uint64_t{2} << 20;  ///< largest piece of a block, largest op on the wire
inline constexpr size_t kGrainsPerChunk = kChunkBytes / kGrainBytes;

}  // namespace memkv::base
