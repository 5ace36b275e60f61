#pragma once
/// Functions that seal, check, parse and build the structures of format.h. They work on bytes only. Bytes from a drive
/// are never asserted on: what is wrong with them is kCorrupt (or "not valid"), and nothing outside the span is
/// touched.

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/assert.h"
#include "base/bytes.h"
#include "format/format.h"
#include "memkv/error.h"

namespace memkv::format {

/// The seed of the checksums of a store's anchors: the first 8 bytes of the store id.
uint64_t store_seed(const uint8_t (&store_id)[16]);
/// The seed of the checksums of all structures in a drive's logs. It contains the life of the drive, so what a former
/// life left behind is not valid now.
uint64_t log_seed(const uint8_t (&store_id)[16], uint64_t life);

// --- fixed blocks ----------------------------------------------------------------------------------------------------

/// Sets magic and checksum. The seed of an anchor is made from the store id that it holds.
void seal(Superblock& sector);
void seal(Anchor& sector);
void seal(SegmentHeader& sector, uint64_t seed);

/// True if magic and checksum are right. Nothing else of a superblock is looked at, since its format version may be
/// newer.
bool valid(const Superblock& sector);
/// The same, and the structure belongs to the store, or log, with this seed. The caller compares drive, shard and
/// place.
bool valid(const Anchor& sector, uint64_t seed);
bool valid(const SegmentHeader& sector, uint64_t seed);

/// Checks that this program can work with the fields of a valid superblock. kVersion: a newer format. kCorrupt: counts,
/// sizes or names out of bounds; `what` says which.
Result<void> check_fields(const Superblock& sector);

// --- extents ---------------------------------------------------------------------------------------------------------

/// Bytes that a record takes in an extent header.
constexpr uint32_t record_header_bytes(size_t key_bytes, size_t grain_count, size_t range_count) {
  return static_cast<uint32_t>(sizeof(RecordHeader) + base::align_up(key_bytes, 8) + 8 * grain_count + 8 * range_count);
}

/// Reads an extent header from its first sector (at least 64 bytes of it). Magic and sizes are checked, the checksum is
/// not: it tells a reader how many bytes open_extent needs.
Result<ExtentHeader> peek_extent(base::Bytes first_bytes);

/// Checks the header of an extent: magic, sizes and checksum. `bytes` holds at least header_bytes. The records are not
/// looked at; RecordReader checks them.
Result<ExtentHeader> open_extent(base::Bytes bytes, uint64_t seed);

/// One record of an extent header. Borrows the bytes that it was read from.
struct RecordView {
  RecordHeader header;
  std::string_view key;
  base::Bytes grain_sums;  ///< header.grain_count * 8 bytes
  base::Bytes ranges;      ///< header.range_count * 8 bytes

  uint64_t grain_sum(size_t i) const {
    MEMKV_ASSERT(i < header.grain_count);
    return base::load_u64(grain_sums.data() + 8 * i);
  }
  PresentRange range(size_t i) const {
    MEMKV_ASSERT(i < header.range_count);
    return {base::load_u32(ranges.data() + 8 * i), base::load_u32(ranges.data() + 8 * i + 4)};
  }
};

/// Reads the records of an extent one after another, and checks every field: kind, sizes and counts; that the payload
/// lies in the extent behind its header; that ranges are sorted with holes between them; that a record of more than one
/// grain is alone in its extent.
class RecordReader {
 public:
  /// `extent` and `bytes` are those of open_extent.
  RecordReader(const ExtentHeader& extent, base::Bytes bytes);
  /// True: `out` is the next record. False: there are no more. kCorrupt: the bytes are malformed, and every later call
  /// says so too.
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
  /// Goes on with a header that has so many records, in its first `used` bytes.
  ExtentBuilder(base::MutBytes buffer, uint32_t used, uint16_t records);
  /// Appends a record. The counts (key_bytes, grain_count, range_count) are taken from the spans. False: it does not
  /// fit, and nothing was written.
  bool append(const RecordHeader& header, std::string_view key, std::span<const uint64_t> grain_sums,
              std::span<const PresentRange> ranges = {});
  uint16_t record_count() const { return records_; }
  uint32_t used() const { return static_cast<uint32_t>(used_); }
  /// Writes the note about the extent before this one at the header's end (format.h ExtentNote). False: it does not
  /// fit, and nothing was written.
  bool note(uint32_t sector, std::span<const NoteEntry> entries);
  /// Sets magic, checksum, header_bytes (the buffer's size), record_count and note_words; the caller has set all other
  /// fields. Returns the checksum, which is the previous_checksum of the next extent.
  uint64_t finish(ExtentHeader header, uint64_t seed);

 private:
  base::MutBytes buffer_;
  size_t used_ = sizeof(ExtentHeader);
  uint16_t records_ = 0;
  uint16_t note_words_ = 0;
};

/// What an extent's note says of the extent before it. `sector` is 0 and the list empty where there is no note.
/// Borrows.
struct NoteView {
  uint32_t sector = 0;
  base::Bytes entries;
  size_t size() const { return entries.size() / sizeof(NoteEntry); }
  NoteEntry entry(size_t i) const {
    MEMKV_ASSERT(i < size());
    NoteEntry out;
    std::memcpy(&out, entries.data() + i * sizeof out, sizeof out);
    return out;
  }
};
/// `extent` and `bytes` are those of open_extent. kCorrupt: the note does not fit into the header, or names an extent
/// that is not before this one.
Result<NoteView> read_note(const ExtentHeader& extent, base::Bytes bytes);

// --- heads -----------------------------------------------------------------------------------------------------------

/// A checked head payload. Borrows.
struct HeadView {
  HeadPayload head{};
  base::Bytes sequences;  ///< head.chunk_count * 8 bytes
  uint64_t sequence(size_t i) const {
    MEMKV_ASSERT(i < head.chunk_count);
    return base::load_u64(sequences.data() + 8 * i);
  }
};
constexpr uint32_t head_payload_bytes(uint64_t chunk_count) {
  return static_cast<uint32_t>(sizeof(HeadPayload) + 8 * chunk_count);
}
/// Checks that chunk_count fits block_bytes and the payload's size, and that sequences have 48 bits. A payload larger
/// than one chunk is kCorrupt.
Result<HeadView> parse_head(base::Bytes payload);

// --- footers ---------------------------------------------------------------------------------------------------------

/// Size of a whole footer whose entries have `entries_bytes` together.
constexpr uint32_t footer_bytes_for(uint64_t entries_bytes) {
  return static_cast<uint32_t>(base::align_up(entries_bytes + sizeof(FooterTrailer), base::kSectorBytes));
}
/// Bytes of a record's entry in a footer.
constexpr uint32_t footer_entry_bytes(const RecordHeader& header) {
  return static_cast<uint32_t>(sizeof(RecordHeader) +
                               (header.kind == RecordKind::kHead ? base::align_up(header.payload_bytes, 8) : 0));
}

/// Reads the trailer from a segment's last bytes (at least 64). Magic and size are checked, the checksum is not.
Result<FooterTrailer> peek_footer(base::Bytes last_bytes);
/// Checks the trailer of a footer, with its checksum. `bytes` ends at the segment's end and holds at least
/// footer_bytes.
Result<FooterTrailer> open_footer(base::Bytes bytes, uint64_t seed);

/// One entry of a footer. Its payload_place counts from the segment's start. Borrows.
struct FooterEntry {
  RecordHeader header;
  HeadView head;  ///< of heads only
};

/// Reads the entries of a footer one after another, and checks each as RecordReader does. Payloads must lie between the
/// segment's header and data_end_sector.
class FooterReader {
 public:
  /// `trailer` and `bytes` are those of open_footer.
  FooterReader(const FooterTrailer& trailer, base::Bytes bytes);
  Result<bool> next(FooterEntry& out);  ///< as RecordReader::next
  /// The same of a footer whose entries were all read by next() before: nothing is checked again. False: there are no
  /// more.
  bool next_checked(FooterEntry& out) {
    if (left_ == 0) return false;
    std::memcpy(&out.header, rest_.data(), sizeof(RecordHeader));
    const bool head = out.header.kind == RecordKind::kHead;
    if (head) {
      const base::Bytes payload = rest_.subspan(sizeof(RecordHeader), out.header.payload_bytes);
      std::memcpy(&out.head.head, payload.data(), sizeof(HeadPayload));
      out.head.sequences = payload.subspan(sizeof(HeadPayload));
    }
    const uint32_t size = footer_entry_bytes(out.header);
    MEMKV_ASSERT(size <= rest_.size(), "next() was not here before");
    rest_ = rest_.subspan(size);
    --left_;
    return true;
  }

 private:
  FooterTrailer trailer_;
  base::Bytes rest_;
  uint32_t left_;
};

/// Builds a footer at the buffer's start. Append once for each record, then call finish(), and write the bytes that it
/// returns at the segment's end.
class FooterBuilder {
 public:
  explicit FooterBuilder(base::MutBytes buffer) : buffer_(buffer) {}
  /// `header` has its payload_place from the segment's start, and the counts of the record. `head_payload` is given for
  /// heads only. False: the entry and the trailer do not both fit, and nothing was written.
  bool append(const RecordHeader& header, base::Bytes head_payload = {});
  uint32_t record_count() const { return records_; }
  uint32_t footer_bytes() const { return footer_bytes_for(used_); }
  /// Sets magic, checksum, record_count and footer_bytes; the caller has set all other fields.
  base::Bytes finish(FooterTrailer trailer, uint64_t seed);

 private:
  base::MutBytes buffer_;
  size_t used_ = 0;
  uint32_t records_ = 0;
};

}  // namespace memkv::format
