#pragma once
/// The data-file format, byte for byte. Documented in docs/data-file.md; golden files in tests/golden. All integers
/// little-endian.
///
/// A drive:   [superblock A 4 KiB @0] [superblock B 4 KiB @512 KiB] [slices from 1 MiB: one per shard, equal size]
/// A slice:   [anchor A 4 KiB] [anchor B 4 KiB] [segment 0] [segment 1] ...          (a slice holds one *log*: a ring
/// of segments) A segment: [segment header 4 KiB] [extent] [extent] ... (unused) [footer, ends at the segment's end] An
/// extent: [header: 1 or more sectors: ExtentHeader, then records' headers] [payloads]
///
/// Epochs of a log are consecutive; epoch e lives in ring position e mod segment count. Live epochs are [oldest,
/// newest]. Records of at most one grain (64 KiB) share extents: payloads packed at 64 bytes, those that are multiples
/// of 4 KiB on 4 KiB. A record of more than one grain is alone in its extent, whose header is exactly one sector
/// directly before the payload: so its grain sums are found from the payload's place.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/sizes.h"

namespace memkv::format {

inline constexpr uint32_t kPackBytes = 64;  ///< granularity of places
inline constexpr uint64_t kSuperblockOffsets[2] = {0, 512 * 1024};
inline constexpr uint64_t kSlicesOffset = 1024 * 1024;
/// Version 2 uses fields that version 1 kept zero; a store of version 1 is opened, and is of version 2 from then on.
inline constexpr uint32_t kFormatVersion = 2;
inline constexpr uint32_t kDrivesMax = 48;
inline constexpr uint32_t kShardsMax = 32;
inline constexpr uint32_t kNamespacesMax = 64;
inline constexpr uint32_t kSegmentChunksMax = 32;
inline constexpr uint32_t kRangesMax = 64;  ///< present ranges of one chunk with holes
inline constexpr uint64_t kSequenceReservation = uint64_t{1} << 24;
inline constexpr uint64_t kSequenceMax = (uint64_t{1} << 48) - 1;

/// segment bytes for k chunks: header + footer sector + k lone-chunk extents.
constexpr uint64_t segment_bytes_for(uint64_t k) {
  return 2 * base::kSectorBytes + k * (base::kChunkBytes + base::kSectorBytes);
}

inline constexpr uint64_t kSuperblockMagic = 0x3142535f564b4d00;  // "\0MKV_SB1"
inline constexpr uint64_t kAnchorMagic = 0x31434e415f564b4d;      // "MKV_ANC1"
inline constexpr uint64_t kSegmentMagic = 0x314745535f564b4d;     // "MKV_SEG1"
inline constexpr uint64_t kExtentMagic = 0x315458455f564b4d;      // "MKV_EXT1"
inline constexpr uint64_t kFooterMagic = 0x31544f465f564b4d;      // "MKV_FOT1"

/// Checksums of all format structures: XXH3-64 over the structure with its checksum field zero. Seeds: superblock 0,
/// anchor the StoreId's first 8 bytes, structures of a log those xor the drive's life.
struct SuperblockMember {  // 24 bytes
  uint8_t drive_id[16];
  uint64_t size_bytes;
};
struct SuperblockNamespace {  // 40 bytes
  char name[32];              // zero padded
  uint64_t id;                // random, never 0
};

/// 4096 bytes. Two alternating copies; the valid one with the higher write counter wins.
struct Superblock {
  uint64_t magic;
  uint32_t format_version;
  uint32_t shard_count;  // power of two
  uint64_t write_counter;
  uint64_t checksum;
  uint8_t store_id[16];
  uint8_t drive_id[16];       // of the drive this copy lies on
  uint64_t membership_epoch;  // grows when a drive goes out
  uint64_t members_in;        // bitmap over members[]: still in at membership_epoch
  uint64_t shard_seed;        // public; in HELLO
  uint64_t digest_key[2];     // secret; SipHash-128 key of digests
  uint64_t segment_bytes;     // of this drive
  uint64_t slice_bytes;       // of this drive
  uint64_t created_wall_s;
  uint32_t drive_index;  // of this drive in members[]
  uint32_t member_count;
  uint32_t namespace_count;
  uint32_t stripe_width;
  uint64_t life;  // of this drive: random, drawn at format and when it comes back empty
  uint8_t reserved0[160];
  SuperblockMember members[kDrivesMax];
  SuperblockNamespace namespaces[kNamespacesMax];  // 64
  uint8_t reserved1[72];
};

/// 4096 bytes, two alternating copies per (shard, drive): the shard's durable sequence reservation (rule 6), and what
/// is known of the slice's log beside what stands in it. All facts only ever grow; of two copies the larger one counts.
struct Anchor {
  uint64_t magic;
  uint64_t write_counter;
  uint64_t checksum;
  uint8_t store_id[16];
  uint32_t drive_index;
  uint32_t shard;
  uint64_t sequence_end;  // no sequence at or above this was ever given out
  // Since version 2. Facts about the log of this life of the drive; those of another life are void.
  uint64_t life;
  uint64_t complete_epoch;  // all before (complete_epoch, complete_sector) was complete: recovery has to find as much
  uint64_t oldest_epoch;    // of the log
  uint64_t cut_epoch;       // all before (cut_epoch, cut_sector) was dropped for good
  uint32_t complete_sector;
  uint32_t cut_sector;
  uint8_t reserved[4096 - 96];
};

/// 4096 bytes, first sector of a segment.
struct SegmentHeader {
  uint64_t magic;
  uint64_t checksum;
  uint8_t store_id[16];
  uint32_t drive_index;
  uint32_t shard;
  uint32_t segment_index;  // ring position
  uint32_t format_version;
  uint64_t epoch;              // from 1, consecutive per log
  uint64_t oldest_epoch;       // oldest live epoch of the log when this segment was opened
  uint64_t previous_checksum;  // last header's checksum of the chain before this segment (0 for epoch 1)
  uint8_t reserved[4096 - 72];
};

enum class RecordKind : uint8_t {
  kWhole = 1,      ///< a block of at most one chunk
  kChunk = 2,      ///< one chunk of a larger block; live only if a live head names its sequence
  kHead = 3,       ///< commits a block of several chunks; payload: HeadPayload + chunk sequences
  kTombstone = 4,  ///< kills whole and head records of this digest in this log with a lower sequence
  kFlush = 5,      ///< namespace tombstone: kills everything of the namespace in this log with a lower sequence
};

/// 64 bytes, then key (padded with zeros to 8), then grain_count * 8 bytes of grain sums, then range_count * 8 bytes of
/// PresentRange.
struct RecordHeader {
  uint64_t digest[2];
  uint64_t namespace_id;
  uint64_t sequence;  // 48 bits
  uint32_t payload_bytes;
  uint32_t payload_place;  // in packs: from the extent's start in an extent, from the segment's start in a footer
  uint64_t checksum;       // base/checksum.h chunk_checksum; 0 for tombstones
  uint32_t chunk_number;
  uint32_t expiry_s;  // unix seconds, 0 = never (behaviour comes later)
  RecordKind kind;
  uint8_t flags;        // RecordFlags
  uint8_t priority;     // hint, reserved
  uint8_t range_count;  // 0 = no holes
  uint16_t key_bytes;
  uint16_t grain_count;
};
enum RecordFlags : uint8_t { kRecordPinned = 1, kRecordMoved = 2 };

/// A byte range [begin, end) of the chunk that is present; sorted, disjoint, not touching.
struct PresentRange {
  uint32_t begin;
  uint32_t end;
};

/// Payload of a head record, followed by chunk_count uint64 sequences (0 = that chunk is absent).
struct HeadPayload {
  uint64_t block_bytes;
  uint32_t chunk_count;
  uint32_t reserved;
};

/// 64 bytes at the start of every extent (4 KiB aligned). Records follow, then zeros, then the note.
struct ExtentHeader {
  uint64_t magic;
  uint64_t checksum;  // over all header_bytes
  uint64_t epoch;
  uint64_t previous_checksum;  // of the previous extent header of this log, or of the segment header
  uint32_t sector_in_segment;  // own location, sectors from the segment's start
  uint32_t header_bytes;       // multiple of 4096
  uint32_t extent_bytes;       // header + payloads, multiple of 4096
  uint16_t record_count;       // 0: a closing mark; all it says is that what lies before it was complete
  uint16_t note_words;         // since version 2: of 8 bytes, at the header's end; see ExtentNote
  uint64_t complete_epoch;  // everything before (complete_epoch, complete_sector) had completed when this was submitted
  uint32_t complete_sector;
  uint32_t live_epochs;  // since version 2: epoch - oldest live epoch + 1; 0 = not told
};

/// The last note_words * 8 bytes of an extent's header tell of the extent before it in the segment: its first sector,
/// then a NoteEntry for each of its records that replaces or kills others. So if that extent is lost, one knows what
/// has to be dead. There is no note where the list has no room, or a flush is among the records.
struct ExtentNote {
  uint64_t sector;  // in the segment
};
struct NoteEntry {
  uint64_t digest[2];
  uint64_t sequence;
};

/// Last 64 bytes of a sealed segment. The footer is [segment end - footer_bytes, segment end): entries first, zero
/// padding, this trailer. Entries: RecordHeader with key_bytes = grain_count = range_count as in the record, but only
/// for heads followed by bytes: the HeadPayload and sequences.
struct FooterTrailer {
  uint64_t magic;
  uint64_t checksum;  // over all footer_bytes
  uint64_t epoch;
  uint64_t last_checksum;  // of the last extent header (the chain's end)
  uint32_t record_count;
  uint32_t footer_bytes;     // multiple of 4096
  uint32_t data_end_sector;  // first sector behind the last extent
  uint32_t reserved0;
  uint64_t sequence_max;
  uint64_t reserved1;
};

static_assert(sizeof(Superblock) == 4096);
static_assert(sizeof(Anchor) == 4096);
static_assert(sizeof(SegmentHeader) == 4096);
static_assert(sizeof(RecordHeader) == 64);
static_assert(sizeof(ExtentHeader) == 64);
static_assert(sizeof(FooterTrailer) == 64);
static_assert(sizeof(ExtentNote) == 8 && sizeof(NoteEntry) == 24);
static_assert(sizeof(HeadPayload) == 16 && sizeof(PresentRange) == 8);
static_assert(std::is_trivially_copyable_v<Superblock> && std::is_trivially_copyable_v<RecordHeader>);

}  // namespace memkv::format
