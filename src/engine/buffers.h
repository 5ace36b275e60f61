#pragma once
/// The memory that small records and merges pass through.

#include <cstddef>
#include <vector>

#include "base/checksum.h"
#include "engine/log.h"
#include "format/format.h"
#include "io/huge_memory.h"

namespace memkv::engine {

/// A whole chunk and what a drive reads around it.
inline constexpr size_t kBigBufferBytes = base::kChunkBytes + 2 * base::kSectorBytes;

/// Buffers taken once at start, on large pages: a drive takes them in fewer, larger pieces. Some are for extents whose
/// records share them, and two are for merges: the old bytes, and the new ones.
///
/// Owns the memory; the extent buffers go out to the logs and come back. Thread: worker.
class Buffers {
 public:
  /// Throws std::bad_alloc.
  explicit Buffers(size_t drives);
  /// What a store on so many drives takes.
  static uint64_t bytes_for(size_t drives);

  std::byte* take_extent();  ///< null: none is free
  void give_extent(std::byte* buffer);
  size_t extents() const { return extents_; }
  /// Room for a chunk, with a sector in front for its header. `which` is 0 or 1.
  std::byte* merge_data(size_t which) const;

 private:
  io::HugeMemory memory_;
  const size_t extents_;
  std::vector<std::byte*> free_extents_;
};

}  // namespace memkv::engine
