#pragma once
/// The data-file format, byte for byte. Documented in docs/data-file.md; golden files in tests/golden. All integers
/// little-endian. The number in front of a field is its offset, which the compiler checks below.
///
///   a drive     [superblock A, 4 KiB, at 0] [superblock B, 4 KiB, at 512 KiB] [slices from 1 MiB, one a shard, equal]
///   a slice     [anchor A, 4 KiB] [anchor B, 4 KiB] [segment 0] [segment 1] ...
///   a segment   [segment header, 4 KiB] [extent] [extent] ... unused ... [footer, up to the segment's end]
///   an extent   [header: ExtentHeader, then the records' headers; one or more sectors] [payloads]
///
/// The segments of a slice are one *log*, used as a ring. Its epochs are consecutive; epoch e lies in ring position
/// e mod segment count. The live epochs are one run, from the oldest to the newest.
///
/// Records of at most one grain (64 KiB) share extents. A payload that is a multiple of 4 KiB starts on 4 KiB; others
/// are packed at 64 bytes. A record of more than one grain is alone in its extent, whose header is then exactly the
/// sector in front of the payload: a reader that knows the payload's place finds the grain sums there.

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "base/sizes.h"

namespace memkv::format {

inline constexpr uint32_t kPackBytes = 64;  ///< the unit in which places are counted (payload_place)
inline constexpr uint64_t kSuperblockOffsets[2] = {0, 512 * 1024};
inline constexpr uint64_t kSlicesOffset = 1024 * 1024;
/// Version 2 uses fields that version 1 kept zero. A store of version 1 can be opened; from then on it has version 2.
inline constexpr uint32_t kFormatVersion = 2;
inline constexpr uint32_t kDrivesMax = 48;
inline constexpr uint32_t kShardsMax = 32;
inline constexpr uint32_t kNamespacesMax = 64;
inline constexpr uint32_t kSegmentChunksMax = 32;
inline constexpr uint32_t kRangesMax = 64;  ///< how many present ranges the record of one chunk with holes can name
inline constexpr uint64_t kSequenceReservation = uint64_t{1} << 24;
inline constexpr uint64_t kSequenceMax = (uint64_t{1} << 48) - 1;

/// Size of a segment that has room for k chunks: the header's sector, the footer's sector, and k extents with one chunk
/// each.
constexpr uint64_t segment_bytes_for(uint64_t k) {
  return 2 * base::kSectorBytes + k * (base::kChunkBytes + base::kSectorBytes);
}

inline constexpr uint64_t kSuperblockMagic = 0x3142535f564b4d00;  // "\0MKV_SB1"
inline constexpr uint64_t kAnchorMagic = 0x31434e415f564b4d;      // "MKV_ANC1"
inline constexpr uint64_t kSegmentMagic = 0x314745535f564b4d;     // "MKV_SEG1"
inline constexpr uint64_t kExtentMagic = 0x315458455f564b4d;      // "MKV_EXT1"
inline constexpr uint64_t kFooterMagic = 0x31544f465f564b4d;      // "MKV_FOT1"

// The checksum of each structure is XXH3-64 over its bytes, with its checksum field taken as zero. The seed of a
// superblock is 0. The seed of an anchor is the first 8 bytes of the store id. The seed of what lies in a log is those
// bytes xor the life of its drive, so that bytes of a former life never pass.

/// 24 bytes: a drive of the store.
struct SuperblockMember {
  /*    0 */ uint8_t drive_id[16];
  /*   16 */ uint64_t size_bytes;
};

/// 40 bytes: a tenant of the store.
struct SuperblockNamespace {
  /*    0 */ char name[32];  // zero padded
  /*   32 */ uint64_t id;    // random, never 0
};

/// 4096 bytes. There are two copies, which are written in turn. The valid copy with the higher write counter counts.
struct Superblock {
  /*    0 */ uint64_t magic;
  /*    8 */ uint32_t format_version;
  /*   12 */ uint32_t shard_count;  // power of two
  /*   16 */ uint64_t write_counter;
  /*   24 */ uint64_t checksum;
  /*   32 */ uint8_t store_id[16];
  /*   48 */ uint8_t drive_id[16];       // of the drive this copy lies on
  /*   64 */ uint64_t membership_epoch;  // grows when a drive goes out
  /*   72 */ uint64_t members_in;        // bitmap over members[]: still in at membership_epoch
  /*   80 */ uint64_t shard_seed;        // public; in WELCOME
  /*   88 */ uint64_t digest_key[2];     // secret; SipHash-128 key of digests
  /*  104 */ uint64_t segment_bytes;     // of this drive
  /*  112 */ uint64_t slice_bytes;       // of this drive
  /*  120 */ uint64_t created_wall_s;
  /*  128 */ uint32_t drive_index;  // of this drive in members[]
  /*  132 */ uint32_t member_count;
  /*  136 */ uint32_t namespace_count;
  /*  140 */ uint32_t stripe_width;
  /*  144 */ uint64_t life;  // of this drive: random, drawn at format and when it comes back empty
  /*  152 */ uint8_t reserved0[160];
  /*  312 */ SuperblockMember members[kDrivesMax];
  /* 1464 */ SuperblockNamespace namespaces[kNamespacesMax];  // 64
  /* 4024 */ uint8_t reserved1[72];
};

/// 4096 bytes, two copies for each shard and drive, written in turn. An anchor holds the shard's durable sequence
/// reservation (rule 6), and facts about the slice's log that the log itself may have lost. Each fact only grows, so
/// where both copies are valid the larger value counts.
struct Anchor {
  /*    0 */ uint64_t magic;
  /*    8 */ uint64_t write_counter;
  /*   16 */ uint64_t checksum;
  /*   24 */ uint8_t store_id[16];
  /*   40 */ uint32_t drive_index;
  /*   44 */ uint32_t shard;
  /*   48 */ uint64_t sequence_end;  // no sequence at or above this was ever given out
  // Since version 2. The facts belong to this life of the drive: where the drive has begun another life they do not
  // count.
  /*   56 */ uint64_t life;
  // Everything before (complete_epoch, complete_sector) was complete, so recovery must find it or has lost something.
  // Everything before (cut_epoch, cut_sector) was dropped for good, so recovery must ignore it.
  /*   64 */ uint64_t complete_epoch;
  /*   72 */ uint64_t oldest_epoch;  // the oldest live epoch of the log
  /*   80 */ uint64_t cut_epoch;
  /*   88 */ uint32_t complete_sector;
  /*   92 */ uint32_t cut_sector;
  /*   96 */ uint8_t reserved[4096 - 96];
};

/// 4096 bytes, first sector of a segment.
struct SegmentHeader {
  /*    0 */ uint64_t magic;
  /*    8 */ uint64_t checksum;
  /*   16 */ uint8_t store_id[16];
  /*   32 */ uint32_t drive_index;
  /*   36 */ uint32_t shard;
  /*   40 */ uint32_t segment_index;  // ring position
  /*   44 */ uint32_t format_version;
  /*   48 */ uint64_t epoch;              // from 1, consecutive per log
  /*   56 */ uint64_t oldest_epoch;       // oldest live epoch of the log when this segment was opened
  /*   64 */ uint64_t previous_checksum;  // chain: checksum of the last header before this segment (0 for epoch 1)
  /*   72 */ uint8_t reserved[4096 - 72];
};

enum class RecordKind : uint8_t {
  kWhole = 1,      ///< a block of at most one chunk
  kChunk = 2,      ///< one chunk of a larger block; live only if a live head names its sequence
  kHead = 3,       ///< commits a block of several chunks; payload: HeadPayload + chunk sequences
  kTombstone = 4,  ///< whole and head records of this digest with a lower sequence in this log are dead
  kFlush = 5,      ///< every record of the namespace with a lower sequence in this log is dead
};

/// 64 bytes. It is followed by the key (padded with zeros to a multiple of 8), grain_count sums of 8 bytes, and
/// range_count PresentRanges of 8 bytes.
struct RecordHeader {
  /*    0 */ uint64_t digest[2];
  /*   16 */ uint64_t namespace_id;
  /*   24 */ uint64_t sequence;  // 48 bits
  /*   32 */ uint32_t payload_bytes;
  /*   36 */ uint32_t
      payload_place;             // in packs: in an extent from the extent's start, in a footer from the segment's start
  /*   40 */ uint64_t checksum;  // base/checksum.h chunk_checksum; 0 for tombstones
  /*   48 */ uint32_t chunk_number;
  /*   52 */ uint32_t expiry_s;  // unix seconds; 0 = never. Stored, but nothing acts on it yet
  /*   56 */ RecordKind kind;
  /*   57 */ uint8_t flags;        // RecordFlags
  /*   58 */ uint8_t priority;     // hint, reserved
  /*   59 */ uint8_t range_count;  // 0 = no holes
  /*   60 */ uint16_t key_bytes;
  /*   62 */ uint16_t grain_count;
};
/// kRecordMoved: reclaim wrote this copy. kRecordPinned is reserved.
enum RecordFlags : uint8_t { kRecordPinned = 1, kRecordMoved = 2 };

/// A byte range [begin, end) of a chunk that is present. Ranges are sorted, and there is a hole between any two of
/// them.
struct PresentRange {
  /*    0 */ uint32_t begin;
  /*    4 */ uint32_t end;
};

/// Payload of a head record, followed by chunk_count uint64 sequences (0 = that chunk is absent).
struct HeadPayload {
  /*    0 */ uint64_t block_bytes;
  /*    8 */ uint32_t chunk_count;
  /*   12 */ uint32_t reserved;
};

/// 64 bytes at the start of every extent (4 KiB aligned). Records follow, then zeros, then the note.
struct ExtentHeader {
  /*    0 */ uint64_t magic;
  /*    8 */ uint64_t checksum;  // over all header_bytes
  /*   16 */ uint64_t epoch;
  /*   24 */ uint64_t previous_checksum;  // of the previous extent header of this log, or of the segment header
  /*   32 */ uint32_t sector_in_segment;  // own location, sectors from the segment's start
  /*   36 */ uint32_t header_bytes;       // multiple of 4096
  /*   40 */ uint32_t extent_bytes;       // header + payloads, multiple of 4096
  /*   44 */ uint16_t record_count;       // 0: a closing mark, which only says that everything before it is complete
  /*   46 */ uint16_t note_words;         // since version 2: of 8 bytes, the note at the header's end
  // When this extent was submitted, everything before (complete_epoch, complete_sector) had completed.
  /*   48 */ uint64_t complete_epoch;
  /*   56 */ uint32_t complete_sector;
  /*   60 */ uint32_t live_epochs;  // since version 2: epoch - oldest live epoch + 1; 0 = the writer did not say
};

/// The note stands in the last note_words * 8 bytes of an extent's header, and describes the extent *before* it in the
/// segment: its first sector, then a NoteEntry for each of its records that replaces or kills other records. If that
/// extent is lost, recovery so knows which older records are dead. There is no note if the list does not fit, or if one
/// of the records is a flush.
struct ExtentNote {
  /*    0 */ uint64_t sector;  // in the segment
};
/// 24 bytes: a record that made older records with its digest dead, by its sequence.
struct NoteEntry {
  /*    0 */ uint64_t digest[2];
  /*   16 */ uint64_t sequence;
};

/// Last 64 bytes of a sealed segment. The footer is [segment end - footer_bytes, segment end): entries first, then
/// zeros, then this trailer. An entry is the RecordHeader with the counts (key_bytes, grain_count, range_count) of the
/// record, but without the bytes that they count. Only the entry of a head is followed by bytes: its HeadPayload and
/// sequences.
struct FooterTrailer {
  /*    0 */ uint64_t magic;
  /*    8 */ uint64_t checksum;  // over all footer_bytes
  /*   16 */ uint64_t epoch;
  /*   24 */ uint64_t last_checksum;  // checksum of the last extent header, where the chain ends
  /*   32 */ uint32_t record_count;
  /*   36 */ uint32_t footer_bytes;     // multiple of 4096
  /*   40 */ uint32_t data_end_sector;  // first sector behind the last extent
  /*   44 */ uint32_t reserved0;
  /*   48 */ uint64_t sequence_max;
  /*   56 */ uint64_t reserved1;
};

// Each field lies where its number says.
static_assert(offsetof(SuperblockMember, drive_id) == 0);
static_assert(offsetof(SuperblockMember, size_bytes) == 16);
static_assert(offsetof(SuperblockNamespace, name) == 0);
static_assert(offsetof(SuperblockNamespace, id) == 32);
static_assert(offsetof(Superblock, magic) == 0);
static_assert(offsetof(Superblock, format_version) == 8);
static_assert(offsetof(Superblock, shard_count) == 12);
static_assert(offsetof(Superblock, write_counter) == 16);
static_assert(offsetof(Superblock, checksum) == 24);
static_assert(offsetof(Superblock, store_id) == 32);
static_assert(offsetof(Superblock, drive_id) == 48);
static_assert(offsetof(Superblock, membership_epoch) == 64);
static_assert(offsetof(Superblock, members_in) == 72);
static_assert(offsetof(Superblock, shard_seed) == 80);
static_assert(offsetof(Superblock, digest_key) == 88);
static_assert(offsetof(Superblock, segment_bytes) == 104);
static_assert(offsetof(Superblock, slice_bytes) == 112);
static_assert(offsetof(Superblock, created_wall_s) == 120);
static_assert(offsetof(Superblock, drive_index) == 128);
static_assert(offsetof(Superblock, member_count) == 132);
static_assert(offsetof(Superblock, namespace_count) == 136);
static_assert(offsetof(Superblock, stripe_width) == 140);
static_assert(offsetof(Superblock, life) == 144);
static_assert(offsetof(Superblock, reserved0) == 152);
static_assert(offsetof(Superblock, members) == 312);
static_assert(offsetof(Superblock, namespaces) == 1464);
static_assert(offsetof(Superblock, reserved1) == 4024);
static_assert(offsetof(Anchor, magic) == 0);
static_assert(offsetof(Anchor, write_counter) == 8);
static_assert(offsetof(Anchor, checksum) == 16);
static_assert(offsetof(Anchor, store_id) == 24);
static_assert(offsetof(Anchor, drive_index) == 40);
static_assert(offsetof(Anchor, shard) == 44);
static_assert(offsetof(Anchor, sequence_end) == 48);
static_assert(offsetof(Anchor, life) == 56);
static_assert(offsetof(Anchor, complete_epoch) == 64);
static_assert(offsetof(Anchor, oldest_epoch) == 72);
static_assert(offsetof(Anchor, cut_epoch) == 80);
static_assert(offsetof(Anchor, complete_sector) == 88);
static_assert(offsetof(Anchor, cut_sector) == 92);
static_assert(offsetof(Anchor, reserved) == 96);
static_assert(offsetof(SegmentHeader, magic) == 0);
static_assert(offsetof(SegmentHeader, checksum) == 8);
static_assert(offsetof(SegmentHeader, store_id) == 16);
static_assert(offsetof(SegmentHeader, drive_index) == 32);
static_assert(offsetof(SegmentHeader, shard) == 36);
static_assert(offsetof(SegmentHeader, segment_index) == 40);
static_assert(offsetof(SegmentHeader, format_version) == 44);
static_assert(offsetof(SegmentHeader, epoch) == 48);
static_assert(offsetof(SegmentHeader, oldest_epoch) == 56);
static_assert(offsetof(SegmentHeader, previous_checksum) == 64);
static_assert(offsetof(SegmentHeader, reserved) == 72);
static_assert(offsetof(RecordHeader, digest) == 0);
static_assert(offsetof(RecordHeader, namespace_id) == 16);
static_assert(offsetof(RecordHeader, sequence) == 24);
static_assert(offsetof(RecordHeader, payload_bytes) == 32);
static_assert(offsetof(RecordHeader, payload_place) == 36);
static_assert(offsetof(RecordHeader, checksum) == 40);
static_assert(offsetof(RecordHeader, chunk_number) == 48);
static_assert(offsetof(RecordHeader, expiry_s) == 52);
static_assert(offsetof(RecordHeader, kind) == 56);
static_assert(offsetof(RecordHeader, flags) == 57);
static_assert(offsetof(RecordHeader, priority) == 58);
static_assert(offsetof(RecordHeader, range_count) == 59);
static_assert(offsetof(RecordHeader, key_bytes) == 60);
static_assert(offsetof(RecordHeader, grain_count) == 62);
static_assert(offsetof(PresentRange, begin) == 0);
static_assert(offsetof(PresentRange, end) == 4);
static_assert(offsetof(HeadPayload, block_bytes) == 0);
static_assert(offsetof(HeadPayload, chunk_count) == 8);
static_assert(offsetof(HeadPayload, reserved) == 12);
static_assert(offsetof(ExtentHeader, magic) == 0);
static_assert(offsetof(ExtentHeader, checksum) == 8);
static_assert(offsetof(ExtentHeader, epoch) == 16);
static_assert(offsetof(ExtentHeader, previous_checksum) == 24);
static_assert(offsetof(ExtentHeader, sector_in_segment) == 32);
static_assert(offsetof(ExtentHeader, header_bytes) == 36);
static_assert(offsetof(ExtentHeader, extent_bytes) == 40);
static_assert(offsetof(ExtentHeader, record_count) == 44);
static_assert(offsetof(ExtentHeader, note_words) == 46);
static_assert(offsetof(ExtentHeader, complete_epoch) == 48);
static_assert(offsetof(ExtentHeader, complete_sector) == 56);
static_assert(offsetof(ExtentHeader, live_epochs) == 60);
static_assert(offsetof(ExtentNote, sector) == 0);
static_assert(offsetof(NoteEntry, digest) == 0);
static_assert(offsetof(NoteEntry, sequence) == 16);
static_assert(offsetof(FooterTrailer, magic) == 0);
static_assert(offsetof(FooterTrailer, checksum) == 8);
static_assert(offsetof(FooterTrailer, epoch) == 16);
static_assert(offsetof(FooterTrailer, last_checksum) == 24);
static_assert(offsetof(FooterTrailer, record_count) == 32);
static_assert(offsetof(FooterTrailer, footer_bytes) == 36);
static_assert(offsetof(FooterTrailer, data_end_sector) == 40);
static_assert(offsetof(FooterTrailer, reserved0) == 44);
static_assert(offsetof(FooterTrailer, sequence_max) == 48);
static_assert(offsetof(FooterTrailer, reserved1) == 56);

static_assert(sizeof(SuperblockMember) == 24 && sizeof(SuperblockNamespace) == 40);
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
