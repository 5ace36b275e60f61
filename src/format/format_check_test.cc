#include "format/format_check.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <vector>

#include "base/checksum.h"
#include "memkv/types.h"

namespace memkv::format {
namespace {

constexpr uint64_t kSeed = 0x1234;
constexpr uint8_t kStoreId[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

struct alignas(base::kSectorBytes) Block {
  std::byte bytes[base::kSectorBytes];
};

/// Room for headers, aligned as device buffers are.
class Buffer {
 public:
  explicit Buffer(size_t blocks) : blocks_(blocks) {}
  base::MutBytes bytes() { return {blocks_.front().bytes, blocks_.size() * base::kSectorBytes}; }

 private:
  std::vector<Block> blocks_;
};

Superblock some_superblock() {
  Superblock block{};
  block.format_version = kFormatVersion;
  block.shard_count = 2;
  block.member_count = 2;
  block.members_in = 3;
  block.drive_index = 1;
  block.drive_id[0] = 9;
  block.members[1].drive_id[0] = 9;
  block.members[0].size_bytes = block.members[1].size_bytes = uint64_t{1} << 30;
  block.segment_bytes = segment_bytes_for(2);
  block.slice_bytes = uint64_t{256} << 20;
  block.stripe_width = 4;
  block.namespace_count = 1;
  block.namespaces[0] = {"default", 77};
  return block;
}

RecordHeader whole(uint32_t payload_bytes, uint32_t place) {
  RecordHeader header{};
  header.digest[0] = 5;
  header.namespace_id = 77;
  header.sequence = 3;
  header.payload_bytes = payload_bytes;
  header.payload_place = place;
  header.kind = RecordKind::kWhole;
  return header;
}

std::vector<uint64_t> sums(size_t n) {
  std::vector<uint64_t> out(n);
  for (size_t i = 0; i < n; ++i) out[i] = 100 + i;
  return out;
}

TEST(FormatCheck, SealedBlocksAreValidAndAnyChangedByteIsSeen) {
  Superblock superblock = some_superblock();
  Anchor anchor{};
  SegmentHeader segment{};
  std::copy_n(kStoreId, 16, anchor.store_id);
  std::copy_n(kStoreId, 16, segment.store_id);
  seal(superblock);
  seal(anchor);
  const uint64_t seed = store_seed(kStoreId);
  seal(segment, seed);
  EXPECT_TRUE(valid(superblock));
  EXPECT_TRUE(valid(anchor, seed));
  EXPECT_TRUE(valid(segment, seed));
  EXPECT_FALSE(valid(anchor, seed + 1));
  EXPECT_FALSE(valid(segment, seed + 1));
  EXPECT_FALSE(valid(segment, log_seed(kStoreId, 1))) << "a former life of the drive";
  for (size_t at = 0; at < base::kSectorBytes; at += 7) {
    reinterpret_cast<uint8_t*>(&superblock)[at] ^= 1;
    reinterpret_cast<uint8_t*>(&anchor)[at] ^= 1;
    reinterpret_cast<uint8_t*>(&segment)[at] ^= 1;
    EXPECT_FALSE(valid(superblock)) << at;
    EXPECT_FALSE(valid(anchor, seed)) << at;
    EXPECT_FALSE(valid(segment, seed)) << at;
    reinterpret_cast<uint8_t*>(&superblock)[at] ^= 1;
    reinterpret_cast<uint8_t*>(&anchor)[at] ^= 1;
    reinterpret_cast<uint8_t*>(&segment)[at] ^= 1;
  }
}

TEST(FormatCheck, SuperblockFieldsOutOfBoundsAreNamed) {
  EXPECT_TRUE(check_fields(some_superblock()).ok());
  const auto flaw = [](const std::function<void(Superblock&)>& change) {
    Superblock block = some_superblock();
    change(block);
    const auto result = check_fields(block);
    return result.ok() ? std::string("none") : std::string(result.error().what);
  };
  EXPECT_EQ(flaw([](auto& b) { b.format_version = kFormatVersion + 1; }), "superblock of a newer format");
  EXPECT_EQ(flaw([](auto& b) { b.shard_count = 3; }), "shard count out of bounds");
  EXPECT_EQ(flaw([](auto& b) { b.shard_count = 64; }), "shard count out of bounds");
  EXPECT_EQ(flaw([](auto& b) { b.member_count = kDrivesMax + 1; }), "member count out of bounds");
  EXPECT_EQ(flaw([](auto& b) { b.drive_index = 2; }), "drive index out of bounds");
  EXPECT_EQ(flaw([](auto& b) { b.members_in = 4; }), "members in that are not there");
  EXPECT_EQ(flaw([](auto& b) { b.drive_id[0] = 8; }), "drive id is not that of its member");
  EXPECT_EQ(flaw([](auto& b) { b.namespace_count = kNamespacesMax + 1; }), "namespace count out of bounds");
  EXPECT_EQ(flaw([](auto& b) { b.namespaces[0].name[31] = 'x'; }), "namespace malformed");
  EXPECT_EQ(flaw([](auto& b) { b.segment_bytes = base::kSectorBytes; }), "segment size out of bounds");
  EXPECT_EQ(flaw([](auto& b) { b.slice_bytes = uint64_t{1} << 62; }), "slice size out of bounds");
  EXPECT_EQ(flaw([](auto& b) { b.members[1].size_bytes = 0; }), "slice size out of bounds");
}

TEST(FormatCheck, ExtentComesBackAsItWasBuilt) {
  Buffer buffer(2);
  ExtentBuilder builder(buffer.bytes());
  const std::string long_key(kKeyBytesMax, 'k');
  RecordHeader holes = whole(10'000, 128);
  RecordHeader tombstone{};
  tombstone.sequence = 9;
  tombstone.kind = RecordKind::kTombstone;
  ASSERT_TRUE(builder.append(holes, "abc", sums(1), std::vector<PresentRange>{{0, 5}, {6, 10'000}}));
  ASSERT_TRUE(builder.append(tombstone, long_key, {}));
  ExtentHeader fields{};
  fields.epoch = 4;
  fields.sector_in_segment = 1;
  fields.extent_bytes = 8 * base::kSectorBytes;
  const uint64_t checksum = builder.finish(fields, kSeed);

  const auto extent = open_extent(buffer.bytes(), kSeed);
  ASSERT_TRUE(extent.ok());
  EXPECT_EQ(extent->checksum, checksum);
  EXPECT_EQ(extent->epoch, 4u);
  EXPECT_EQ(extent->header_bytes, 2 * base::kSectorBytes);
  RecordReader reader(*extent, buffer.bytes());
  RecordView record;
  ASSERT_TRUE(reader.next(record).value());
  EXPECT_EQ(record.key, "abc");
  EXPECT_EQ(record.grain_sum(0), 100u);
  ASSERT_EQ(record.header.range_count, 2);
  EXPECT_EQ(record.range(1).begin, 6u);
  EXPECT_EQ(record.range(1).end, 10'000u);
  ASSERT_TRUE(reader.next(record).value());
  EXPECT_EQ(record.key, long_key);
  EXPECT_EQ(record.header.kind, RecordKind::kTombstone);
  EXPECT_FALSE(reader.next(record).value());
  EXPECT_FALSE(open_extent(buffer.bytes(), kSeed + 1).ok());
}

TEST(FormatCheck, FullExtentHeaderRefusesTheNextRecord) {
  Buffer buffer(1);
  ExtentBuilder builder(buffer.bytes());
  const std::string key(kKeyBytesMax, 'k');
  const RecordHeader header = whole(1, 64);
  int taken = 0;
  while (builder.append(header, key, sums(1))) ++taken;
  EXPECT_EQ(taken, (base::kSectorBytes - 64) / record_header_bytes(kKeyBytesMax, 1, 0));
  EXPECT_EQ(builder.record_count(), taken);
}

TEST(FormatCheck, LargestRecordFitsOneBlock) {
  EXPECT_LE(sizeof(ExtentHeader) + record_header_bytes(kKeyBytesMax, base::kGrainsPerChunk, kRangesMax),
            base::kSectorBytes);
}

/// The `what` of the first failure when a record that `change` has altered is read, or "none".
std::string record_flaw(const std::function<void(RecordHeader&, ExtentHeader&)>& change, size_t grains = 1,
                        std::vector<PresentRange> ranges = {}) {
  Buffer buffer(1);
  ExtentBuilder builder(buffer.bytes());
  RecordHeader header = whole(static_cast<uint32_t>(grains * base::kGrainBytes), 64);
  ExtentHeader fields{};
  fields.extent_bytes = static_cast<uint32_t>(base::kSectorBytes + grains * base::kGrainBytes);
  change(header, fields);
  EXPECT_TRUE(builder.append(header, "key", sums(grains), ranges));
  builder.finish(fields, kSeed);
  const auto extent = open_extent(buffer.bytes(), kSeed);
  if (!extent.ok()) return extent.error().what;
  RecordReader reader(*extent, buffer.bytes());
  RecordView record;
  const auto result = reader.next(record);
  EXPECT_TRUE(result.ok() || result.error().status == Status::kCorrupt);
  return result.ok() ? "none" : result.error().what;
}

TEST(FormatCheck, MalformedRecordsAreNamed) {
  EXPECT_EQ(record_flaw([](auto&, auto&) {}), "none");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.kind = RecordKind{0}; }), "record of unknown kind");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.kind = RecordKind{6}; }), "record of unknown kind");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.sequence = 0; }), "record sequence out of bounds");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.sequence = kSequenceMax + 1; }), "record sequence out of bounds");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.payload_bytes = 0xffffffff; }), "record payload larger than a chunk");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.payload_bytes *= 2; }), "record grain count does not fit its payload");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.kind = RecordKind::kTombstone; }), "record fields do not fit its kind");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.payload_place = 63; }), "payload outside its extent");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.payload_place = 65; }), "payload outside its extent");
  EXPECT_EQ(record_flaw([](auto& r, auto&) { r.payload_place = 0xffffffff; }), "payload outside its extent");
  EXPECT_EQ(record_flaw([](auto&, auto& e) { e.extent_bytes = 0; }), "extent size malformed");
  EXPECT_EQ(record_flaw([](auto&, auto& e) { e.extent_bytes += 1; }), "extent size malformed");
  EXPECT_EQ(record_flaw([](auto&, auto&) {}, 2), "none");
  EXPECT_EQ(record_flaw(
                [](auto& r, auto& e) {
                  r.payload_place += 64;
                  e.extent_bytes += base::kSectorBytes;
                },
                2),
            "record of several grains is not alone");
}

TEST(FormatCheck, RangesAreSortedDisjointAndNotTouching) {
  const auto nothing = [](auto&, auto&) {};
  EXPECT_EQ(record_flaw(nothing, 1, {{0, 1}, {2, 3}}), "none");
  EXPECT_EQ(record_flaw(nothing, 1, {{0, 65536}}), "none");
  EXPECT_EQ(record_flaw(nothing, 1, {{0, 65537}}), "ranges out of order");
  EXPECT_EQ(record_flaw(nothing, 1, {{1, 1}}), "ranges out of order");
  EXPECT_EQ(record_flaw(nothing, 1, {{0, 2}, {2, 3}}), "ranges out of order");
  EXPECT_EQ(record_flaw(nothing, 1, {{4, 5}, {2, 3}}), "ranges out of order");
}

TEST(FormatCheck, RecordCountBeyondTheHeaderIsCorrupt) {
  Buffer buffer(1);
  ExtentBuilder builder(buffer.bytes());
  ExtentHeader fields{};
  fields.extent_bytes = base::kSectorBytes;
  builder.finish(fields, kSeed);
  auto extent = open_extent(buffer.bytes(), kSeed).value();
  extent.record_count = 3;
  RecordReader reader(extent, buffer.bytes());
  RecordView record;
  EXPECT_EQ(reader.next(record).error().status, Status::kCorrupt);
  EXPECT_EQ(reader.next(record).error().status, Status::kCorrupt);
}

TEST(FormatCheck, HeadPayloads) {
  std::vector<uint64_t> words = {3 * base::kChunkBytes - 5, 3, 10, 0, 12};
  const auto bytes = [&words] { return base::bytes_of(words.data(), words.size() * 8); };
  ASSERT_TRUE(parse_head(bytes()).ok());
  EXPECT_EQ(parse_head(bytes())->sequence(2), 12u);
  EXPECT_FALSE(parse_head(bytes().first(32)).ok());
  EXPECT_FALSE(parse_head(bytes().first(12)).ok());
  words[0] = 3 * base::kChunkBytes + 1;
  EXPECT_FALSE(parse_head(bytes()).ok());
  words[0] = ~uint64_t{0};
  EXPECT_FALSE(parse_head(bytes()).ok());
  words[0] = 2 * base::kChunkBytes + 1;
  words[4] = kSequenceMax + 1;
  EXPECT_FALSE(parse_head(bytes()).ok());
}

TEST(FormatCheck, FooterComesBackAsItWasBuilt) {
  Buffer buffer(3);
  FooterBuilder builder(buffer.bytes());
  const uint64_t head_words[] = {base::kChunkBytes + 1, 2, 10, 11};
  RecordHeader head = whole(sizeof head_words, 128);
  head.kind = RecordKind::kHead;
  head.key_bytes = 3;
  head.grain_count = 1;
  ASSERT_TRUE(builder.append(head, base::bytes_of(head_words, sizeof head_words)));
  RecordHeader record = whole(100, 256);
  record.key_bytes = 1000;  // the count of the record; in a footer no key follows
  record.grain_count = 1;
  int taken = 0;
  while (builder.append(record)) ++taken;
  EXPECT_EQ(taken, (3 * base::kSectorBytes - 64 - 96) / 64);
  FooterTrailer fields{};
  fields.data_end_sector = 10;
  const base::Bytes footer = builder.finish(fields, kSeed);
  EXPECT_EQ(footer.size(), 3 * base::kSectorBytes);

  const auto trailer = open_footer(footer, kSeed);
  ASSERT_TRUE(trailer.ok());
  FooterReader reader(*trailer, footer);
  FooterEntry entry;
  ASSERT_TRUE(reader.next(entry).value());
  EXPECT_EQ(entry.head.head.chunk_count, 2u);
  EXPECT_EQ(entry.head.sequence(1), 11u);
  for (int i = 0; i < taken; ++i) ASSERT_TRUE(reader.next(entry).value());
  EXPECT_EQ(entry.header.payload_place, 256u);
  EXPECT_FALSE(reader.next(entry).value());
  EXPECT_FALSE(open_footer(footer, kSeed + 1).ok());
  EXPECT_FALSE(open_footer(footer.last(base::kSectorBytes), kSeed).ok());
}

TEST(FormatCheck, FooterPayloadBehindTheDataIsCorrupt) {
  Buffer buffer(1);
  FooterBuilder builder(buffer.bytes());
  RecordHeader record = whole(100, 64 * 10);
  record.key_bytes = 3;
  record.grain_count = 1;
  ASSERT_TRUE(builder.append(record));
  FooterTrailer fields{};
  fields.data_end_sector = 10;
  const base::Bytes footer = builder.finish(fields, kSeed);
  FooterReader reader(open_footer(footer, kSeed).value(), footer);
  FooterEntry entry;
  EXPECT_EQ(reader.next(entry).error().status, Status::kCorrupt);
}

/// Random damage under a right checksum. Readers must end, with an error or without, and stay inside the bytes (the
/// sanitizer watches that).
TEST(FormatCheck, DamagedExtentsNeverLeadOutside) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 20'000; ++round) {
    Buffer buffer(1);
    ExtentBuilder builder(buffer.bytes());
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(builder.append(whole(64, 64), "key", sums(1)));
    ExtentHeader fields{};
    fields.extent_bytes = 2 * base::kSectorBytes;
    builder.finish(fields, kSeed);
    auto extent = open_extent(buffer.bytes(), kSeed).value();
    extent.record_count = static_cast<uint16_t>(random());
    for (int i = 0; i < 3; ++i) buffer.bytes()[64 + random() % 600] = static_cast<std::byte>(random());
    RecordReader reader(extent, buffer.bytes());
    RecordView record;
    size_t read = 0;
    for (auto more = reader.next(record); more.ok() && *more; more = reader.next(record)) {
      read += record.key.size() + record.grain_sums.size() + record.ranges.size();
    }
    ASSERT_LE(read, base::kSectorBytes);
  }
}

}  // namespace
}  // namespace memkv::format
