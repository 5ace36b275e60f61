#include "format/format_check.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/checksum.h"
#include "base/hash.h"
#include "memkv/types.h"

namespace memkv::format {

namespace {

Error corrupt(const char* what) { return {Status::kCorrupt, 0, what}; }

/// XXH3-64 of a structure, with its checksum field (8 bytes at offset `field`) taken as zero.
uint64_t sum_without(base::Bytes bytes, size_t field, uint64_t seed) {
  static constexpr std::byte kZero[8] = {};
  base::Xxh3Stream stream(seed);
  stream.update(bytes.first(field));
  stream.update(kZero);
  stream.update(bytes.subspan(field + sizeof kZero));
  return stream.digest();
}

template <typename Block>
uint64_t sum_of(const Block& sector, uint64_t seed) {
  return sum_without(base::bytes_of(&sector, sizeof sector), offsetof(Block, checksum), seed);
}

template <typename T>
T load(base::Bytes bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

bool has_payload(RecordKind kind) {
  return kind == RecordKind::kWhole || kind == RecordKind::kChunk || kind == RecordKind::kHead;
}

/// What must hold for every record header, in extents and in footers. Returns what is wrong, or null.
const char* record_flaw(const RecordHeader& header) {
  if (header.kind < RecordKind::kWhole || header.kind > RecordKind::kFlush) return "record of unknown kind";
  if (header.sequence == 0 || header.sequence > kSequenceMax) return "record sequence out of bounds";
  if (header.key_bytes > kKeyBytesMax) return "record key too long";
  if (header.payload_bytes > base::kChunkBytes) return "record payload larger than a chunk";
  if (header.grain_count != base::grain_count(header.payload_bytes))
    return "record grain count does not fit its payload";
  if (header.range_count > kRangesMax) return "record with too many ranges";
  if (has_payload(header.kind) ? header.key_bytes == 0 : header.payload_bytes != 0)
    return "record fields do not fit its kind";
  if (header.range_count != 0 && header.kind != RecordKind::kWhole && header.kind != RecordKind::kChunk) {
    return "ranges in a record without a chunk";
  }
  return nullptr;
}

/// True if the payload lies in [begin, end), counted as payload_place is. A record without payload must have place 0.
bool payload_inside(const RecordHeader& header, uint64_t begin, uint64_t end) {
  if (header.payload_bytes == 0) return true;
  const uint64_t place = uint64_t{header.payload_place} * kPackBytes;
  return place >= begin && place + header.payload_bytes <= end;
}

bool ranges_sound(const RecordView& record) {
  uint64_t behind = 0;
  for (size_t i = 0; i < record.header.range_count; ++i) {
    const PresentRange range = record.range(i);
    if (range.begin >= range.end || range.end > record.header.payload_bytes) return false;
    if (i > 0 && range.begin <= behind) return false;
    behind = range.end;
  }
  return true;
}

bool zero_padded(const char (&name)[32]) {
  const auto* end = std::find(std::begin(name), std::end(name), '\0');
  return end != std::begin(name) && std::all_of(end, std::end(name), [](char c) { return c == '\0'; });
}

}  // namespace

uint64_t store_seed(const uint8_t (&store_id)[16]) { return base::load_u64(store_id); }

uint64_t log_seed(const uint8_t (&store_id)[16], uint64_t life) { return store_seed(store_id) ^ life; }

void seal(Superblock& sector) {
  sector.magic = kSuperblockMagic;
  sector.checksum = sum_of(sector, 0);
}

void seal(Anchor& sector) {
  sector.magic = kAnchorMagic;
  sector.checksum = sum_of(sector, store_seed(sector.store_id));
}

void seal(SegmentHeader& sector, uint64_t seed) {
  sector.magic = kSegmentMagic;
  sector.checksum = sum_of(sector, seed);
}

bool valid(const Superblock& sector) {
  return sector.magic == kSuperblockMagic && sector.checksum == sum_of(sector, 0);
}

bool valid(const Anchor& sector, uint64_t seed) {
  return sector.magic == kAnchorMagic && store_seed(sector.store_id) == seed && sector.checksum == sum_of(sector, seed);
}

bool valid(const SegmentHeader& sector, uint64_t seed) {
  return sector.magic == kSegmentMagic && sector.checksum == sum_of(sector, seed);
}

Result<void> check_fields(const Superblock& sector) {
  if (sector.format_version > kFormatVersion) return Error{Status::kVersion, 0, "superblock of a newer format"};
  if (sector.format_version == 0) return corrupt("superblock without a format version");
  if (!std::has_single_bit(sector.shard_count) || sector.shard_count > kShardsMax)
    return corrupt("shard count out of bounds");
  if (sector.member_count == 0 || sector.member_count > kDrivesMax) return corrupt("member count out of bounds");
  if (sector.drive_index >= sector.member_count) return corrupt("drive index out of bounds");
  if (sector.members_in >> sector.member_count != 0) return corrupt("members in that are not there");
  if (sector.namespace_count > kNamespacesMax) return corrupt("namespace count out of bounds");
  if (sector.stripe_width == 0 || sector.stripe_width > kDrivesMax) return corrupt("stripe width out of bounds");
  if (std::memcmp(sector.members[sector.drive_index].drive_id, sector.drive_id, sizeof sector.drive_id) != 0) {
    return corrupt("drive id is not that of its member");
  }
  if (sector.segment_bytes < segment_bytes_for(1) || sector.segment_bytes > segment_bytes_for(kSegmentChunksMax) ||
      sector.segment_bytes % base::kSectorBytes != 0) {
    return corrupt("segment size out of bounds");
  }
  const uint64_t size_bytes = sector.members[sector.drive_index].size_bytes;
  if (size_bytes < kSlicesOffset || sector.slice_bytes % base::kSectorBytes != 0 ||
      sector.slice_bytes > (size_bytes - kSlicesOffset) / sector.shard_count ||
      sector.slice_bytes < 2 * base::kSectorBytes + sector.segment_bytes) {
    return corrupt("slice size out of bounds");
  }
  for (uint32_t i = 0; i < sector.namespace_count; ++i) {
    if (sector.namespaces[i].id == 0 || !zero_padded(sector.namespaces[i].name)) return corrupt("namespace malformed");
  }
  return {};
}

// --- extents ---------------------------------------------------------------------------------------------------------

Result<ExtentHeader> peek_extent(base::Bytes first_bytes) {
  if (first_bytes.size() < sizeof(ExtentHeader)) return corrupt("extent header cut short");
  const auto header = load<ExtentHeader>(first_bytes);
  if (header.magic != kExtentMagic) return corrupt("no extent header");
  if (header.header_bytes == 0 || header.header_bytes % base::kSectorBytes != 0)
    return corrupt("extent header size malformed");
  if (header.extent_bytes < header.header_bytes || header.extent_bytes % base::kSectorBytes != 0) {
    return corrupt("extent size malformed");
  }
  return header;
}

Result<ExtentHeader> open_extent(base::Bytes bytes, uint64_t seed) {
  auto header = peek_extent(bytes);
  if (!header) return header;
  if (header->header_bytes > bytes.size()) return corrupt("extent header cut short");
  if (sum_without(bytes.first(header->header_bytes), offsetof(ExtentHeader, checksum), seed) != header->checksum) {
    return corrupt("extent header checksum");
  }
  return header;
}

RecordReader::RecordReader(const ExtentHeader& extent, base::Bytes bytes)
    : extent_(extent), left_(extent.record_count) {
  MEMKV_ASSERT(bytes.size() >= extent.header_bytes && extent.header_bytes >= sizeof(ExtentHeader));
  rest_ = bytes.first(extent.header_bytes).subspan(sizeof(ExtentHeader));
}

Result<bool> RecordReader::next(RecordView& out) {
  if (left_ == 0) return false;
  if (rest_.size() < sizeof(RecordHeader)) return corrupt("record header cut short");
  out.header = load<RecordHeader>(rest_);
  const RecordHeader& header = out.header;
  if (const char* flaw = record_flaw(header)) return corrupt(flaw);
  const uint32_t size = record_header_bytes(header.key_bytes, header.grain_count, header.range_count);
  if (size > rest_.size()) return corrupt("record cut short");
  if (!payload_inside(header, extent_.header_bytes, extent_.extent_bytes)) return corrupt("payload outside its extent");
  if (header.grain_count > 1 && (extent_.record_count != 1 || extent_.header_bytes != base::kSectorBytes ||
                                 header.payload_place != base::kSectorBytes / kPackBytes)) {
    return corrupt("record of several grains is not alone");
  }
  const size_t sums_at = sizeof(RecordHeader) + base::align_up(header.key_bytes, 8);
  out.key = {reinterpret_cast<const char*>(rest_.data()) + sizeof(RecordHeader), header.key_bytes};
  out.grain_sums = rest_.subspan(sums_at, size_t{8} * header.grain_count);
  out.ranges = rest_.subspan(sums_at + out.grain_sums.size(), size_t{8} * header.range_count);
  if (!ranges_sound(out)) return corrupt("ranges out of order");
  rest_ = rest_.subspan(size);
  --left_;
  return true;
}

ExtentBuilder::ExtentBuilder(base::MutBytes buffer) : buffer_(buffer) {
  MEMKV_ASSERT(!buffer.empty() && buffer.size() % base::kSectorBytes == 0);
}

ExtentBuilder::ExtentBuilder(base::MutBytes buffer, uint32_t used, uint16_t records) : ExtentBuilder(buffer) {
  MEMKV_ASSERT(used >= sizeof(ExtentHeader) && used <= buffer.size());
  used_ = used;
  records_ = records;
}

bool ExtentBuilder::append(const RecordHeader& header, std::string_view key, std::span<const uint64_t> grain_sums,
                           std::span<const PresentRange> ranges) {
  MEMKV_ASSERT(note_words_ == 0, "the note comes last: it takes the end of the room that records grow into");
  const uint32_t size = record_header_bytes(key.size(), grain_sums.size(), ranges.size());
  if (size > buffer_.size() - used_ || records_ == UINT16_MAX) return false;
  MEMKV_ASSERT(key.size() <= kKeyBytesMax && grain_sums.size() <= base::kGrainsPerChunk && ranges.size() <= kRangesMax);
  RecordHeader record = header;
  record.key_bytes = static_cast<uint16_t>(key.size());
  record.grain_count = static_cast<uint16_t>(grain_sums.size());
  record.range_count = static_cast<uint8_t>(ranges.size());
  std::byte* to = buffer_.data() + used_;
  const auto put = [&to](const void* from, size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
    to += bytes;
  };
  put(&record, sizeof record);
  put(key.data(), key.size());
  const size_t padding = base::align_up(key.size(), 8) - key.size();
  std::memset(to, 0, padding);
  to += padding;
  put(grain_sums.data(), grain_sums.size_bytes());
  put(ranges.data(), ranges.size_bytes());
  used_ += size;
  ++records_;
  return true;
}

bool ExtentBuilder::note(uint32_t sector, std::span<const NoteEntry> entries) {
  MEMKV_ASSERT(sector > 0 && note_words_ == 0, "one note, of an extent: sector 0 is the segment's header");
  const size_t bytes = sizeof(ExtentNote) + entries.size_bytes();
  if (bytes > buffer_.size() - used_) return false;
  std::byte* to = buffer_.data() + buffer_.size() - bytes;
  const ExtentNote head{sector};
  std::memcpy(to, &head, sizeof head);
  if (!entries.empty()) std::memcpy(to + sizeof head, entries.data(), entries.size_bytes());
  note_words_ = static_cast<uint16_t>(bytes / 8);
  return true;
}

Result<NoteView> read_note(const ExtentHeader& extent, base::Bytes bytes) {
  MEMKV_ASSERT(bytes.size() >= extent.header_bytes);
  NoteView note;
  if (extent.note_words == 0) return note;
  const size_t size = size_t{8} * extent.note_words;
  if (size > extent.header_bytes - sizeof(ExtentHeader)) return corrupt("note larger than its header");
  if ((size - sizeof(ExtentNote)) % sizeof(NoteEntry) != 0) return corrupt("note cut short");
  const base::Bytes all = bytes.first(extent.header_bytes).last(size);
  const uint64_t sector = load<ExtentNote>(all).sector;
  if (sector == 0 || sector >= extent.sector_in_segment) return corrupt("note of an extent that is not before");
  note.sector = static_cast<uint32_t>(sector);
  note.entries = all.subspan(sizeof(ExtentNote));
  for (size_t i = 0; i < note.size(); ++i) {
    if (note.entry(i).sequence >= kSequenceMax) return corrupt("note's sequence out of bounds");
  }
  return note;
}

uint64_t ExtentBuilder::finish(ExtentHeader header, uint64_t seed) {
  header.magic = kExtentMagic;
  header.checksum = 0;
  header.header_bytes = static_cast<uint32_t>(buffer_.size());
  header.record_count = records_;
  header.note_words = note_words_;
  std::memset(buffer_.data() + used_, 0, buffer_.size() - used_ - size_t{8} * note_words_);
  std::memcpy(buffer_.data(), &header, sizeof header);
  const uint64_t checksum = base::xxh3(buffer_, seed);
  base::store_u64(buffer_.data() + offsetof(ExtentHeader, checksum), checksum);
  return checksum;
}

// --- heads -----------------------------------------------------------------------------------------------------------

Result<HeadView> parse_head(base::Bytes payload) {
  if (payload.size() < sizeof(HeadPayload) || payload.size() > base::kChunkBytes) return corrupt("head payload size");
  HeadView view{load<HeadPayload>(payload), payload.subspan(sizeof(HeadPayload))};
  const uint64_t chunks = view.head.chunk_count;
  if (view.sequences.size() != 8 * chunks) return corrupt("head's chunk count does not fit its payload");
  if (view.head.block_bytes == 0 || (view.head.block_bytes - 1) / base::kChunkBytes + 1 != chunks) {
    return corrupt("head's chunk count does not fit its block");
  }
  for (size_t i = 0; i < chunks; ++i) {
    if (view.sequence(i) > kSequenceMax) return corrupt("chunk sequence out of bounds");
  }
  return view;
}

// --- footers ---------------------------------------------------------------------------------------------------------

Result<FooterTrailer> peek_footer(base::Bytes last_bytes) {
  if (last_bytes.size() < sizeof(FooterTrailer)) return corrupt("footer cut short");
  const auto trailer = load<FooterTrailer>(last_bytes.last(sizeof(FooterTrailer)));
  if (trailer.magic != kFooterMagic) return corrupt("no footer");
  if (trailer.footer_bytes == 0 || trailer.footer_bytes % base::kSectorBytes != 0)
    return corrupt("footer size malformed");
  return trailer;
}

Result<FooterTrailer> open_footer(base::Bytes bytes, uint64_t seed) {
  auto trailer = peek_footer(bytes);
  if (!trailer) return trailer;
  if (trailer->footer_bytes > bytes.size()) return corrupt("footer cut short");
  const base::Bytes footer = bytes.last(trailer->footer_bytes);
  const size_t field = footer.size() - sizeof(FooterTrailer) + offsetof(FooterTrailer, checksum);
  if (sum_without(footer, field, seed) != trailer->checksum) return corrupt("footer checksum");
  return trailer;
}

FooterReader::FooterReader(const FooterTrailer& trailer, base::Bytes bytes)
    : trailer_(trailer), left_(trailer.record_count) {
  MEMKV_ASSERT(bytes.size() >= trailer.footer_bytes && trailer.footer_bytes >= sizeof(FooterTrailer));
  rest_ = bytes.last(trailer.footer_bytes).first(trailer.footer_bytes - sizeof(FooterTrailer));
}

Result<bool> FooterReader::next(FooterEntry& out) {
  if (left_ == 0) return false;
  if (rest_.size() < sizeof(RecordHeader)) return corrupt("footer entry cut short");
  out.header = load<RecordHeader>(rest_);
  out.head = {};
  if (const char* flaw = record_flaw(out.header)) return corrupt(flaw);
  const uint32_t size = footer_entry_bytes(out.header);
  if (size > rest_.size()) return corrupt("footer entry cut short");
  if (!payload_inside(out.header, base::kSectorBytes, uint64_t{trailer_.data_end_sector} * base::kSectorBytes)) {
    return corrupt("payload outside its segment");
  }
  if (out.header.kind == RecordKind::kHead) {
    auto head = parse_head(rest_.subspan(sizeof(RecordHeader), out.header.payload_bytes));
    if (!head) return head.error();
    out.head = *head;
  }
  rest_ = rest_.subspan(size);
  --left_;
  return true;
}

bool FooterBuilder::append(const RecordHeader& header, base::Bytes head_payload) {
  MEMKV_ASSERT(header.kind == RecordKind::kHead ? head_payload.size() == header.payload_bytes : head_payload.empty());
  const uint32_t size = footer_entry_bytes(header);
  if (footer_bytes_for(used_ + size) > buffer_.size()) return false;
  std::byte* to = buffer_.data() + used_;
  std::memset(to, 0, size);
  std::memcpy(to, &header, sizeof header);
  if (!head_payload.empty()) std::memcpy(to + sizeof header, head_payload.data(), head_payload.size());
  used_ += size;
  ++records_;
  return true;
}

base::Bytes FooterBuilder::finish(FooterTrailer trailer, uint64_t seed) {
  const base::MutBytes footer = buffer_.first(footer_bytes());
  trailer.magic = kFooterMagic;
  trailer.checksum = 0;
  trailer.record_count = records_;
  trailer.footer_bytes = footer_bytes();
  std::memset(footer.data() + used_, 0, footer.size() - used_);
  std::byte* at = footer.data() + footer.size() - sizeof trailer;
  std::memcpy(at, &trailer, sizeof trailer);
  base::store_u64(at + offsetof(FooterTrailer, checksum), base::xxh3(footer, seed));
  return footer;
}

}  // namespace memkv::format
