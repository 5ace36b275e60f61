#pragma once
/// How many bytes of blocks fit on a drive: headers, footers and the segments that are kept free taken off.

#include <cstdint>

namespace memkv::format {

/// Blocks that are put together, as `fitting_bytes` takes it where nothing else is said.
inline constexpr uint32_t kFitBatch = 16;

/// What a full log holds of blocks of `block_bytes`, put `batch` at a time (1: each alone), on average: reclaim frees a
/// segment at a time. Nothing is replaced, removed, or kept by reclaim. Blocks of more than a chunk count as chunks.
uint64_t fitting_bytes(uint64_t slice_bytes, uint64_t segment_bytes, uint64_t block_bytes, uint32_t batch);

}  // namespace memkv::format
