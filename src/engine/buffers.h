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
/// records share them, and some are for merges, which take one each, or two: for the old bytes, and for new ones that
/// are read from a drive. Where there are several drives there are twice as many as one merge may take, so that one that
/// hangs with its drive does not hold up all.
///
/// Owns the memory; all buffers go out and come back. Thread: worker.
class Buffers {
 public:
  /// Throws std::bad_alloc.
  explicit Buffers(size_t drives);
  /// What a store on so many drives takes.
  static uint64_t bytes_for(size_t drives);

  std::byte* take_extent();  ///< null: none is free
  void give_extent(std::byte* buffer);
  size_t extents() const { return extents_; }
  /// Room for a chunk, with a sector in front for its header. There is one: see free_merges().
  std::byte* take_merge();
  void give_merge(std::byte* data);
  size_t free_merges() const { return free_merges_.size(); }
  size_t merges() const { return merges_; }

 private:
  io::HugeMemory memory_;
  const size_t extents_, merges_;
  std::vector<std::byte*> free_extents_, free_merges_;
};

}  // namespace memkv::engine
