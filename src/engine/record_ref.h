#pragma once
/// Records as the parts of a store name them to one another.

#include <cstdint>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "engine/index.h"

namespace memkv::engine {

inline constexpr uint64_t kLoneOver = base::kGrainBytes;  ///< longer payloads stand alone in their extent

/// A record as the index or an upload knows it.
struct RecordRef {
  Place place;
  uint64_t sequence = 0;
  uint64_t checksum = 0;
  uint32_t length = 0;
  bool has_holes = false;
  /// It stands alone in its extent, so its header lies directly before it.
  bool lone() const { return length > kLoneOver || has_holes; }
};

/// Chunks of a block by their number.
using ChunkRefs = std::vector<std::pair<uint32_t, RecordRef>>;

/// How many chunks a block of so many bytes has.
constexpr uint32_t chunk_count(uint64_t block_bytes) {
  return static_cast<uint32_t>((block_bytes + base::kChunkBytes - 1) / base::kChunkBytes);
}

}  // namespace memkv::engine
