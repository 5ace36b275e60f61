#include "format/fit.h"

#include <algorithm>

#include "base/bytes.h"
#include "format/format_check.h"
#include "format/layout.h"

namespace memkv::format {
namespace {

constexpr uint64_t kSharedBytesMax = 512 * 1024;  // of an extent that records share
constexpr uint64_t kKeyBytes = 64;                // of a key, about
constexpr uint64_t kManySegments = 32;
constexpr uint64_t kFreeOfMany = 4,
                   kFreeOfFew = 3;  // segments that hold nothing, on average; the one being filled is half

/// An extent of so many records.
uint64_t extent_bytes(uint64_t records, uint64_t block_bytes) {
  const uint64_t note = sizeof(ExtentNote) + records * sizeof(NoteEntry);
  const uint64_t grains = (block_bytes + base::kGrainBytes - 1) / base::kGrainBytes;
  const uint64_t headers = sizeof(ExtentHeader) + records * record_header_bytes(kKeyBytes, grains, 0);
  const bool sectors = block_bytes % base::kSectorBytes == 0;
  const uint64_t payloads = records * base::align_up(block_bytes, sectors ? base::kSectorBytes : kPackBytes);
  return base::align_up(headers + (records > 1 ? note : 0), base::kSectorBytes) +
         base::align_up(payloads, base::kSectorBytes);
}

/// All extents of a batch: full ones, and the rest.
uint64_t batch_bytes(uint64_t records, uint64_t block_bytes) {
  uint64_t full = records;
  while (full > 1 && extent_bytes(full, block_bytes) > kSharedBytesMax) --full;
  const uint64_t rest = records % full;
  return records / full * extent_bytes(full, block_bytes) + (rest > 0 ? extent_bytes(rest, block_bytes) : 0);
}

/// In one segment: what stands alone fits whole or not at all, a group is cut to what is left.
uint64_t records_in(uint64_t segment_bytes, uint64_t block_bytes, uint64_t batch) {
  const uint64_t room = segment_bytes - base::kSectorBytes;
  const uint64_t bytes = batch_bytes(batch, block_bytes);
  uint64_t records = room * batch / (bytes + batch * sizeof(RecordHeader));
  if (batch > 1) return records;
  while (records > 0 && records * bytes + footer_bytes_for(records * sizeof(RecordHeader)) > room) --records;
  return records;
}

}  // namespace

uint64_t fitting_bytes(uint64_t slice_bytes, uint64_t segment_bytes, uint64_t block_bytes, uint32_t batch) {
  const uint64_t size = std::clamp<uint64_t>(block_bytes, 1, base::kChunkBytes);
  const uint64_t segments = segment_count(slice_bytes, segment_bytes);
  const uint64_t free = segments >= kManySegments ? kFreeOfMany : kFreeOfFew;
  const uint64_t together = size > base::kGrainBytes ? 1 : std::max(batch, 1u);
  return segments <= free ? 0 : (segments - free) * records_in(segment_bytes, size, together) * size;
}

}  // namespace memkv::format
