/// Fuzzes the parser of footers. If bit 0 of the first input byte is set, magic, size and checksum are made right, so
/// that the fuzzer reaches the entries. The rest is the beginning of the footer; its last 64 bytes are the trailer.

#include <cstring>
#include <vector>

#include "base/assert.h"
#include "base/hash.h"
#include "format/format_check.h"

using namespace memkv;
using namespace memkv::format;

namespace {

constexpr size_t kFooterBytesMax = 4 * base::kSectorBytes;
constexpr uint64_t kSeed = 1;

/// Puts the entries at the start and the trailer at the end of whole sectors.
std::vector<std::byte> lay_out(const uint8_t* data, size_t size) {
  const size_t entries = size - sizeof(FooterTrailer);
  std::vector<std::byte> bytes(footer_bytes_for(entries));
  if (entries > 0) std::memcpy(bytes.data(), data, entries);
  std::memcpy(bytes.data() + bytes.size() - sizeof(FooterTrailer), data + entries, sizeof(FooterTrailer));
  return bytes;
}

void make_right(std::vector<std::byte>& bytes) {
  std::byte* trailer = bytes.data() + bytes.size() - sizeof(FooterTrailer);
  base::store_u64(trailer + offsetof(FooterTrailer, magic), kFooterMagic);
  base::store_u32(trailer + offsetof(FooterTrailer, footer_bytes), static_cast<uint32_t>(bytes.size()));
  base::store_u64(trailer + offsetof(FooterTrailer, checksum), 0);
  base::store_u64(trailer + offsetof(FooterTrailer, checksum), base::xxh3(bytes, kSeed));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1 + sizeof(FooterTrailer) || size > kFooterBytesMax) return 0;
  std::vector<std::byte> bytes = lay_out(data + 1, size - 1);
  if ((data[0] & 1) != 0) make_right(bytes);
  const auto trailer = open_footer(bytes, kSeed);
  if (!trailer.ok()) return 0;
  FooterReader reader(*trailer, bytes);
  FooterEntry entry;
  uint32_t entries = 0;
  auto more = reader.next(entry);
  for (; more.ok() && *more; more = reader.next(entry), ++entries) {
    for (size_t i = 0; i < entry.head.head.chunk_count; ++i) MEMKV_ASSERT(entry.head.sequence(i) <= kSequenceMax);
  }
  MEMKV_ASSERT(!more.ok() || entries == trailer->record_count);
  return 0;
}
