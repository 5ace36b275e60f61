#include "client/pieces.h"

#include <algorithm>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/hash.h"
#include "wire/messages.h"

namespace memkv::client {

uint64_t total_bytes(std::span<const iovec> pieces) {
  uint64_t bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len;
  return bytes;
}

void PiecePlace::advance(std::span<const iovec> pieces, uint64_t bytes) {
  while (bytes > 0) {
    MEMKV_ASSERT(index < pieces.size(), "moved past the last piece");
    const uint64_t step = std::min<uint64_t>(pieces[index].iov_len - offset, bytes);
    offset += step;
    bytes -= step;
    if (offset == pieces[index].iov_len) index++, offset = 0;
  }
}

void slice(std::span<const iovec> pieces, PiecePlace from, uint64_t length, std::vector<iovec>& out) {
  for (; length > 0; from.index++, from.offset = 0) {
    MEMKV_ASSERT(from.index < pieces.size(), "sliced past the last piece");
    const iovec& piece = pieces[from.index];
    const uint64_t bytes = std::min<uint64_t>(piece.iov_len - from.offset, length);
    if (bytes > 0) out.push_back({static_cast<std::byte*>(piece.iov_base) + from.offset, bytes});
    length -= bytes;
  }
}

size_t range_sum_count(uint32_t offset_in_chunk, uint64_t length) {
  if (length == 0) return 0;
  return (offset_in_chunk + length - 1) / base::kGrainBytes - offset_in_chunk / base::kGrainBytes + 1;
}

size_t range_sums(std::span<const iovec> slices, uint32_t offset_in_chunk, uint64_t chunk_seed, uint64_t* out) {
  size_t count = 0;
  uint64_t at = offset_in_chunk;  // where the next byte lies in the chunk
  uint64_t left = total_bytes(slices);
  PiecePlace place;
  while (left > 0) {
    MEMKV_ASSERT(count < wire::kSumsMax);
    const uint64_t grain = at / base::kGrainBytes;
    uint64_t bytes = std::min((grain + 1) * base::kGrainBytes - at, left);
    at += bytes;
    left -= bytes;
    while (slices[place.index].iov_len == place.offset) place = {place.index + 1, 0};
    const iovec& piece = slices[place.index];
    const auto* data = static_cast<const std::byte*>(piece.iov_base) + place.offset;
    if (piece.iov_len - place.offset >= bytes) {
      out[count++] = base::xxh3({data, bytes}, chunk_seed + grain);
      place.advance(slices, bytes);
      continue;
    }
    base::Xxh3Stream stream(chunk_seed + grain);
    while (bytes > 0) {
      const iovec& part = slices[place.index];
      const uint64_t step = std::min<uint64_t>(part.iov_len - place.offset, bytes);
      stream.update({static_cast<const std::byte*>(part.iov_base) + place.offset, step});
      bytes -= step;
      if (step > 0)
        place.advance(slices, step);
      else
        place = {place.index + 1, 0};
    }
    out[count++] = stream.digest();
  }
  return count;
}

}  // namespace memkv::client
