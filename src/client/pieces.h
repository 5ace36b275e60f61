#pragma once
/// A caller's list of pieces, seen as one run of bytes.

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace memkv::client {

uint64_t total_bytes(std::span<const iovec> pieces);

/// A place in a list of pieces. Moves forward only.
struct PiecePlace {
  size_t index = 0;
  size_t offset = 0;  ///< in pieces[index]
  void advance(std::span<const iovec> pieces, uint64_t bytes);
};

/// Appends the parts of `pieces` that make up `length` bytes from `from`. Empty pieces are left out.
void slice(std::span<const iovec> pieces, PiecePlace from, uint64_t length, std::vector<iovec>& out);

/// Checksums of a range of a chunk (docs/wire-protocol.md, "Checksums"): one sum for each piece cut at the chunk's
/// grain boundaries. `slices` hold exactly the range's bytes and may split a grain anywhere. Returns how many sums were
/// written, at most wire::kSumsMax.
size_t range_sums(std::span<const iovec> slices, uint32_t offset_in_chunk, uint64_t chunk_seed, uint64_t* out);

/// How many sums a range has.
size_t range_sum_count(uint32_t offset_in_chunk, uint64_t length);

}  // namespace memkv::client
