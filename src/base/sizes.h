#pragma once
/// The sizes that everything is cut into (docs/glossary.md).

#include <cstddef>
#include <cstdint>

namespace memkv::base {

inline constexpr uint32_t kSectorBytes = 4096;              ///< of drives and their format, whatever the drive's own is
inline constexpr uint64_t kGrainBytes = 65536;              ///< of a chunk, with a checksum of its own
inline constexpr uint64_t kChunkBytes = uint64_t{2} << 20;  ///< of a block, at most; the largest op on the wire
inline constexpr size_t kGrainsPerChunk = kChunkBytes / kGrainBytes;

}  // namespace memkv::base
