/// Fuzzes the parser of extent headers. If bit 0 of the first input byte is set, magic, size and checksum are made
/// right, so that the fuzzer reaches the records. The rest of the input is the header, padded to sectors of 4 KiB.

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/assert.h"
#include "base/hash.h"
#include "format/format_check.h"

using namespace memkv;
using namespace memkv::format;

namespace {

constexpr size_t kHeaderBytesMax = 4 * base::kSectorBytes;
constexpr uint64_t kSeed = 1;

void make_right(std::vector<std::byte>& bytes) {
  base::store_u64(&bytes[offsetof(ExtentHeader, magic)], kExtentMagic);
  base::store_u32(&bytes[offsetof(ExtentHeader, header_bytes)], static_cast<uint32_t>(bytes.size()));
  base::store_u64(&bytes[offsetof(ExtentHeader, checksum)], 0);
  base::store_u64(&bytes[offsetof(ExtentHeader, checksum)], base::xxh3(bytes, kSeed));
}

void visit(const RecordView& record) {
  MEMKV_ASSERT(record.key.size() == record.header.key_bytes);
  for (size_t i = 0; i < record.header.grain_count; ++i) (void)record.grain_sum(i);
  for (size_t i = 0; i < record.header.range_count; ++i) {
    MEMKV_ASSERT(record.range(i).begin < record.range(i).end && record.range(i).end <= record.header.payload_bytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 || size > kHeaderBytesMax) return 0;
  std::vector<std::byte> bytes(std::max<size_t>(base::align_up(size - 1, base::kSectorBytes), base::kSectorBytes));
  std::memcpy(bytes.data(), data + 1, size - 1);
  if ((data[0] & 1) != 0) make_right(bytes);
  const auto extent = open_extent(bytes, kSeed);
  if (!extent.ok()) return 0;
  RecordReader reader(*extent, bytes);
  RecordView record;
  uint32_t records = 0;
  auto more = reader.next(record);
  for (; more.ok() && *more; more = reader.next(record), ++records) visit(record);
  MEMKV_ASSERT(!more.ok() || records == extent->record_count);
  const auto note = read_note(*extent, bytes);
  for (size_t i = 0; note && i < note->size(); ++i) MEMKV_ASSERT(note->entry(i).sequence < kSequenceMax);
  return 0;
}
