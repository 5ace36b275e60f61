#pragma once
/// Seals, checks, parses and builds the structures of format.h: pure functions over bytes. Bytes that come from a drive
/// are never asserted on: whatever is wrong with them is kCorrupt (or "not valid"), and nothing outside the span is
/// touched.

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/bytes.h"
#include "format/format.h"
#include "memkv/error.h"

namespace memkv::format {

/// Seed of the checksums of a store's anchors: the first 8 bytes of the store id.
uint64_t store_seed(const uint8_t (&store_id)[16]);
/// Seed of the checksums of all structures in a drive's logs: what a former life of the drive left is not valid in this
/// one.
uint64_t log_seed(const uint8_t (&store_id)[16], uint64_t life);

// --- fixed blocks ----------------------------------------------------------------------------------------------------

/// Writes the checksum (and magic). The anchor is seeded with its own store id.
void seal(Superblock& sector);
void seal(Anchor& sector);
void seal(SegmentHeader& sector, uint64_t seed);

/// Magic and checksum are right. Of a superblock nothing else is looked at: its format version may be newer.
bool valid(const Superblock& sector);
/// As well: it is of the store, or of the log, with this seed. Drive, shard and place are for the caller to compare.
bool valid(const Anchor& sector, uint64_t seed);
bool valid(const SegmentHeader& sector, uint64_t seed);

/// The fields of a valid superblock are ones that this program can work with: kVersion for a newer format, kCorrupt for
/// counts, sizes and names out of bounds. `what` says which.
Result<void> check_fields(const Superblock& sector);

// --- extents ---------------------------------------------------------------------------------------------------------

/// Bytes that a record takes in an extent header.
constexpr uint32_t record_header_bytes(size_t key_bytes, size_t grain_count, size_t range_count) {
  return static_cast<uint32_t>(sizeof(RecordHeader) + base::align_up(key_bytes, 8) + 8 * grain_count + 8 * range_count);
}

/// Magic and sizes of an extent header, from its first block (or at least 64 bytes of it); the checksum is not looked
/// at. So a reader knows how many bytes to bring for open_extent.
Result<ExtentHeader> peek_extent(base::Bytes first_bytes);

/// The checked header of an extent: `bytes` holds at least header_bytes. Records are not looked at: RecordReader does
/// that.
Result<ExtentHeader> open_extent(base::Bytes bytes, uint64_t seed);

/// One record of an extent header. Borrows the bytes it was read from.
struct RecordView {
  RecordHeader header;
  std::string_view key;
  base::Bytes grain_sums;  ///< header.grain_count * 8 bytes
  base::Bytes ranges;      ///< header.range_count * 8 bytes

  uint64_t grain_sum(size_t i) const { return base::load_u64(grain_sums.data() + 8 * i); }
  PresentRange range(size_t i) const {
    return {base::load_u32(ranges.data() + 8 * i), base::load_u32(ranges.data() + 8 * i + 4)};
  }
};

/// Reads the records of an extent one after another, checking every field: kind, sizes, counts, that the payload lies
/// in the extent behind its header, that ranges are sorted, disjoint and not touching, and that a record of more than
/// one grain is alone.
class RecordReader {
 public:
  /// `extent` and `bytes` as of open_extent.
  RecordReader(const ExtentHeader& extent, base::Bytes bytes);
  /// True and the next record; false behind the last; kCorrupt (again and again) when the bytes are malformed.
  Result<bool> next(RecordView& out);

 private:
  ExtentHeader extent_;
  base::Bytes rest_;
  uint32_t left_;
};

/// Builds an extent header in a buffer: reset, append once for each record, finish.
class ExtentBuilder {
 public:
  /// `buffer` is the header's whole room: a multiple of 4 KiB.
  explicit ExtentBuilder(base::MutBytes buffer);
  /// Appends a record. key_bytes, grain_count and range_count are set from the spans. False: it does not fit, nothing
  /// was written.
  bool append(const RecordHeader& header, std::string_view key, std::span<const uint64_t> grain_sums,
              std::span<const PresentRange> ranges = {});
  uint16_t record_count() const { return records_; }
  /// The note of the extent before (format.h ExtentNote), at the header's end. False: no room, nothing was written.
  bool note(uint32_t sector, std::span<const NoteEntry> entries);
  /// Sets magic, checksum, header_bytes (the buffer's size), record_count and note_words; everything else is the
  /// caller's. Returns the checksum: the next extent's previous_checksum.
  uint64_t finish(ExtentHeader header, uint64_t seed);

 private:
  base::MutBytes buffer_;
  size_t used_ = sizeof(ExtentHeader);
  uint16_t records_ = 0;
  uint16_t note_words_ = 0;
};

/// What an extent says of the one before it. Empty and `block` 0 where it says nothing. Borrows.
struct NoteView {
  uint32_t sector = 0;
  base::Bytes entries;
  size_t size() const { return entries.size() / sizeof(NoteEntry); }
  NoteEntry entry(size_t i) const {
    NoteEntry out;
    std::memcpy(&out, entries.data() + i * sizeof out, sizeof out);
    return out;
  }
};
/// `extent` and `bytes` as of open_extent. kCorrupt: it does not fit the header, or speaks of a later extent.
Result<NoteView> read_note(const ExtentHeader& extent, base::Bytes bytes);

// --- heads -----------------------------------------------------------------------------------------------------------

/// A checked head payload. Borrows.
struct HeadView {
  HeadPayload head{};
  base::Bytes sequences;  ///< head.chunk_count * 8 bytes
  uint64_t sequence(size_t i) const { return base::load_u64(sequences.data() + 8 * i); }
};
constexpr uint32_t head_payload_bytes(uint64_t chunk_count) {
  return static_cast<uint32_t>(sizeof(HeadPayload) + 8 * chunk_count);
}
/// chunk_count fits block_bytes and the payload's size; sequences have 48 bits. Larger than one chunk's payload is
/// kCorrupt.
Result<HeadView> parse_head(base::Bytes payload);

// --- footers ---------------------------------------------------------------------------------------------------------

/// Bytes of a whole footer with entries of this size together.
constexpr uint32_t footer_bytes_for(uint64_t entries_bytes) {
  return static_cast<uint32_t>(base::align_up(entries_bytes + sizeof(FooterTrailer), base::kSectorBytes));
}
/// Bytes of a record's entry in a footer.
constexpr uint32_t footer_entry_bytes(const RecordHeader& header) {
  return static_cast<uint32_t>(sizeof(RecordHeader) +
                               (header.kind == RecordKind::kHead ? base::align_up(header.payload_bytes, 8) : 0));
}

/// The trailer from a segment's last bytes (at least 64): magic and size; the checksum is not looked at.
Result<FooterTrailer> peek_footer(base::Bytes last_bytes);
/// The checked trailer of a footer: `bytes` ends at the segment's end and holds at least footer_bytes.
Result<FooterTrailer> open_footer(base::Bytes bytes, uint64_t seed);

/// One entry of a footer. payload_place counts from the segment's start. Borrows.
struct FooterEntry {
  RecordHeader header;
  HeadView head;  ///< of heads only
};

/// Reads the entries of a footer, checking as RecordReader does; payloads lie between the segment's header and
/// data_end_sector.
class FooterReader {
 public:
  /// `trailer` and `bytes` as of open_footer.
  FooterReader(const FooterTrailer& trailer, base::Bytes bytes);
  Result<bool> next(FooterEntry& out);  ///< as RecordReader::next

 private:
  FooterTrailer trailer_;
  base::Bytes rest_;
  uint32_t left_;
};

/// Builds a footer from the buffer's start: append once for each record, finish, write what finish returns to the
/// segment's end.
class FooterBuilder {
 public:
  explicit FooterBuilder(base::MutBytes buffer) : buffer_(buffer) {}
  /// `header` with payload_place from the segment's start, the counts as in the record; `head_payload` of heads only.
  /// False: it does not fit with the trailer behind it, nothing was written.
  bool append(const RecordHeader& header, base::Bytes head_payload = {});
  uint32_t record_count() const { return records_; }
  uint32_t footer_bytes() const { return footer_bytes_for(used_); }
  /// Sets magic, checksum, record_count and footer_bytes; everything else is the caller's.
  base::Bytes finish(FooterTrailer trailer, uint64_t seed);

 private:
  base::MutBytes buffer_;
  size_t used_ = 0;
  uint32_t records_ = 0;
};

}  // namespace memkv::format
