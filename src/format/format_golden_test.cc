/// Compares the data-file format with tests/golden/data-file, byte for byte. After a wanted change of the format run:
///   format_test --gtest_also_run_disabled_tests --gtest_filter='*DISABLED_Regenerate'

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "format/format_check.h"

namespace memkv::format {
namespace {

constexpr uint8_t kStoreId[16] = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                                  0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};
constexpr uint64_t kLife = 0xcccccccccccccccc;
const uint64_t kSeed = log_seed(kStoreId, kLife);

std::string superblock() {
  Superblock block{};
  block.format_version = kFormatVersion;
  block.shard_count = 4;
  block.write_counter = 5;
  std::copy_n(kStoreId, 16, block.store_id);
  std::fill_n(block.drive_id, 16, uint8_t{0xd1});
  block.membership_epoch = 2;
  block.members_in = 3;
  block.shard_seed = 0x1111111111111111;
  block.digest_key[0] = 0x2222222222222222;
  block.digest_key[1] = 0x3333333333333333;
  block.segment_bytes = segment_bytes_for(3);
  block.slice_bytes = 0x10000000;
  block.created_wall_s = 1'700'000'000;
  block.drive_index = 1;
  block.member_count = 2;
  block.namespace_count = 1;
  block.stripe_width = 4;
  block.life = kLife;
  std::fill_n(block.members[0].drive_id, 16, uint8_t{0xd0});
  block.members[0].size_bytes = uint64_t{8} << 30;
  std::fill_n(block.members[1].drive_id, 16, uint8_t{0xd1});
  block.members[1].size_bytes = uint64_t{4} << 30;
  block.namespaces[0] = {"default", 0x4444444444444444};
  seal(block);
  return {reinterpret_cast<const char*>(&block), sizeof block};
}

std::string anchor() {
  Anchor block{};
  block.write_counter = 6;
  std::copy_n(kStoreId, 16, block.store_id);
  block.drive_index = 1;
  block.shard = 3;
  block.sequence_end = 2 * kSequenceReservation;
  block.life = kLife;
  block.complete_epoch = 71;
  block.complete_sector = 12;
  block.oldest_epoch = 9;
  block.cut_epoch = 10;
  block.cut_sector = 5;
  seal(block);
  return {reinterpret_cast<const char*>(&block), sizeof block};
}

std::string segment() {
  SegmentHeader block{};
  std::copy_n(kStoreId, 16, block.store_id);
  block.drive_index = 1;
  block.shard = 3;
  block.segment_index = 7;
  block.format_version = kFormatVersion;
  block.epoch = 71;
  block.oldest_epoch = 9;
  block.previous_checksum = 0x5555555555555555;
  seal(block, kSeed);
  return {reinterpret_cast<const char*>(&block), sizeof block};
}

/// One record of each kind. Places count from the extent's start.
std::vector<RecordHeader> records() {
  std::vector<RecordHeader> all;
  for (uint8_t kind = 1; kind <= 5; ++kind) {
    RecordHeader header{};
    header.digest[0] = 0x6666666666666600u + kind;
    header.digest[1] = 0x7777777777777700u + kind;
    header.namespace_id = 0x4444444444444444;
    header.sequence = 0x100u + kind;
    header.kind = RecordKind{kind};
    if (kind <= 3) {
      header.payload_bytes = kind == 3 ? 32 : 100u * kind;
      header.payload_place = 64u + 4 * kind;
      header.checksum = 0x8888888888888800u + kind;
      header.expiry_s = 1'800'000'000;
      header.flags = kRecordPinned;
      header.priority = kind;
    }
    if (kind == 2) header.chunk_number = 1;
    all.push_back(header);
  }
  return all;
}

std::string extent() {
  alignas(base::kSectorBytes) std::byte buffer[base::kSectorBytes];
  ExtentBuilder builder(buffer);
  for (const RecordHeader& header : records()) {
    const auto kind = static_cast<uint8_t>(header.kind);
    const std::string key = kind == 5 ? "" : "key-" + std::to_string(kind);
    const uint64_t sums[] = {0x9999999999999900u + kind};
    const PresentRange ranges[] = {{0, 64}, {128, 200}};
    EXPECT_TRUE(builder.append(header, key, {sums, header.payload_bytes > 0 ? 1u : 0u}, {ranges, kind == 2 ? 2u : 0u}));
  }
  ExtentHeader fields{};
  fields.epoch = 71;
  fields.previous_checksum = 0xaaaaaaaaaaaaaaaa;
  fields.sector_in_segment = 9;
  fields.extent_bytes = 2 * base::kSectorBytes;
  fields.complete_epoch = 70;
  fields.complete_sector = 12;
  fields.live_epochs = 63;
  const NoteEntry entries[] = {{{0xdd, 0xde}, 0xf0}, {{0xee, 0xef}, 0xf1}};
  EXPECT_TRUE(builder.note(7, entries));
  builder.finish(fields, kSeed);
  return {reinterpret_cast<const char*>(buffer), sizeof buffer};
}

std::string footer() {
  alignas(base::kSectorBytes) std::byte buffer[base::kSectorBytes];
  FooterBuilder builder(buffer);
  const uint64_t head[] = {(uint64_t{2} << 20) + 200, 2, 0, 0x102};
  for (RecordHeader header : records()) {
    header.payload_place += header.payload_bytes > 0 ? 64 : 0;
    header.key_bytes = header.kind == RecordKind::kFlush ? 0 : 5;
    header.grain_count = header.payload_bytes > 0 ? 1 : 0;
    header.range_count = header.kind == RecordKind::kChunk ? 2 : 0;
    const bool is_head = header.kind == RecordKind::kHead;
    EXPECT_TRUE(builder.append(header, is_head ? base::bytes_of(head, sizeof head) : base::Bytes{}));
  }
  FooterTrailer fields{};
  fields.epoch = 71;
  fields.last_checksum = 0xbbbbbbbbbbbbbbbb;
  fields.data_end_sector = 3;
  fields.sequence_max = 0x105;
  const base::Bytes bytes = builder.finish(fields, kSeed);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

struct Golden {
  const char* name;
  std::string (*make)();
};
constexpr Golden kGoldens[] = {
    {"superblock", superblock}, {"anchor", anchor}, {"segment", segment}, {"extent", extent}, {"footer", footer}};

/// The bytes as lines of 32, "offset: hex". Lines of zeros are left out.
std::string dump(const std::string& bytes) {
  std::string text;
  char digits[32];
  for (size_t at = 0; at < bytes.size(); at += 32) {
    const std::string line = bytes.substr(at, 32);
    if (line.find_first_not_of('\0') == std::string::npos) continue;
    std::snprintf(digits, sizeof digits, "%04zx:", at);
    text += digits;
    for (size_t i = 0; i < line.size(); ++i) {
      std::snprintf(digits, sizeof digits, "%s%02x", i % 8 == 0 ? " " : "", static_cast<unsigned char>(line[i]));
      text += digits;
    }
    text += '\n';
  }
  return text;
}

std::string path_of(const Golden& golden) { return std::string("tests/golden/data-file/") + golden.name + ".hex"; }

TEST(FormatGolden, BytesAreAsEver) {
  for (const Golden& golden : kGoldens) {
    std::ifstream file(path_of(golden));
    ASSERT_TRUE(file.is_open()) << path_of(golden) << ": run from the repository's root";
    std::stringstream text;
    text << file.rdbuf();
    EXPECT_EQ(dump(golden.make()), text.str()) << path_of(golden);
  }
}

TEST(FormatGolden, GoldenExtentAndFooterParse) {
  const std::string extent_text = extent();
  const base::Bytes extent_bytes = base::as_bytes(extent_text);
  RecordReader records_in(open_extent(extent_bytes, kSeed).value(), extent_bytes);
  const std::string footer_text = footer();
  const base::Bytes footer_bytes = base::as_bytes(footer_text);
  FooterReader entries_in(open_footer(footer_bytes, kSeed).value(), footer_bytes);
  RecordView record;
  FooterEntry entry;
  for (uint8_t kind = 1; kind <= 5; ++kind) {
    ASSERT_TRUE(records_in.next(record).value());
    ASSERT_TRUE(entries_in.next(entry).value());
    EXPECT_EQ(record.header.kind, RecordKind{kind});
    EXPECT_EQ(entry.header.kind, RecordKind{kind});
  }
  EXPECT_FALSE(records_in.next(record).value());
  const NoteView note = read_note(open_extent(extent_bytes, kSeed).value(), extent_bytes).value();
  ASSERT_EQ(note.size(), 2u);
  EXPECT_EQ(note.sector, 7u);
  EXPECT_EQ(note.entry(1).digest[1], 0xefu);
  EXPECT_EQ(note.entry(1).sequence, 0xf1u);
  EXPECT_FALSE(entries_in.next(entry).value());
}

TEST(FormatGolden, DISABLED_Regenerate) {
  for (const Golden& golden : kGoldens) {
    std::ofstream file(path_of(golden));
    ASSERT_TRUE(file.is_open()) << path_of(golden);
    file << dump(golden.make());
  }
}

}  // namespace
}  // namespace memkv::format
