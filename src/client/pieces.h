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

/// Checksums of a range of a chunk (docs/wire-protocol.md, "Checksums"), made as its bytes arrive: one sum for each
/// piece cut at the chunk's grain boundaries. `slices` hold exactly the range's bytes and may split a grain anywhere.
class RangeHasher {
 public:
  RangeHasher() = default;
  RangeHasher(uint32_t offset_in_chunk, uint64_t bytes, uint64_t chunk_seed)
      : at_(offset_in_chunk), left_(bytes), seed_(chunk_seed) {}
  /// The first `arrived` bytes of the range are there. Writes the sums of the grains that are whole now to `out`, which
  /// has room for wire::kSumsMax and is the same in each call; returns how many sums it holds.
  size_t hash(std::span<const iovec> slices, uint64_t arrived, uint64_t* out);

 private:
  uint64_t hash_piece(std::span<const iovec> slices, uint64_t bytes, uint64_t seed);

  uint64_t at_ = 0;    // where the next byte lies in the chunk
  uint64_t left_ = 0;  // bytes of the range from there on
  uint64_t done_ = 0;
  uint64_t seed_ = 0;
  size_t count_ = 0;
  PiecePlace place_;
};

/// All of a range that is there. Returns how many sums were written, at most wire::kSumsMax.
size_t range_sums(std::span<const iovec> slices, uint32_t offset_in_chunk, uint64_t chunk_seed, uint64_t* out);

/// How many sums a range has.
size_t range_sum_count(uint32_t offset_in_chunk, uint64_t length);

}  // namespace memkv::client
