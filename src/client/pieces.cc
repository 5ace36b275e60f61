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

size_t RangeHasher::hash(std::span<const iovec> slices, uint64_t arrived, uint64_t* out) {
  while (left_ > 0) {
    const uint64_t grain = at_ / base::kGrainBytes;
    const uint64_t bytes = std::min((grain + 1) * base::kGrainBytes - at_, left_);
    if (done_ + bytes > arrived) break;
    MEMKV_ASSERT(count_ < wire::kSumsMax);
    out[count_++] = hash_piece(slices, bytes, seed_ + grain);
    at_ += bytes;
    left_ -= bytes;
    done_ += bytes;
  }
  return count_;
}

uint64_t RangeHasher::hash_piece(std::span<const iovec> slices, uint64_t bytes, uint64_t seed) {
  const auto here = [&] {
    while (slices[place_.index].iov_len == place_.offset) place_ = {place_.index + 1, 0};
    const iovec& piece = slices[place_.index];
    return base::Bytes(static_cast<const std::byte*>(piece.iov_base) + place_.offset,
                       std::min<uint64_t>(piece.iov_len - place_.offset, bytes));
  };
  const base::Bytes whole = here();
  if (whole.size() == bytes) {
    place_.advance(slices, bytes);
    return base::xxh3(whole, seed);
  }
  base::Xxh3Stream stream(seed);
  while (bytes > 0) {
    const base::Bytes part = here();
    stream.update(part);
    place_.advance(slices, part.size());
    bytes -= part.size();
  }
  return stream.digest();
}

size_t range_sums(std::span<const iovec> slices, uint32_t offset_in_chunk, uint64_t chunk_seed, uint64_t* out) {
  const uint64_t bytes = total_bytes(slices);
  return RangeHasher(offset_in_chunk, bytes, chunk_seed).hash(slices, bytes, out);
}

}  // namespace memkv::client
