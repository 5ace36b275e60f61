#pragma once
/// For tests of recovery: a store of known content, its image, and what each sector of the image holds.

#include <map>
#include <string>
#include <vector>

#include "base/log.h"
#include "engine/rig_testing.h"
#include "format/format_check.h"

namespace memkv::engine {

enum class BlockOf { kAnchor, kSegmentHeader, kExtentHeader, kTombstone, kMark, kPayload, kFooter };

/// A rig, and what it should hold: the version of each key, 0 for one that was removed.
class DamageRig {
 public:
  explicit DamageRig(int drives, uint64_t drive_bytes = 24 * kMi)
      : rig(drives, drive_bytes), drive_bytes_(drive_bytes) {
    base::set_log_level(base::LogLevel::kOff);
  }
  ~DamageRig() { base::set_log_level(base::LogLevel::kInfo); }

  void put(const std::string& key, size_t size) {
    const uint64_t version = ++versions_;
    const std::string bytes = bytes_of(key, version, size);
    ASSERT_EQ(size > base::kChunkBytes ? rig.put_large(key, bytes) : rig.put(key, bytes), Status::kOk) << key;
    content[key] = version;
    bytes_[{key, version}] = bytes;
  }
  void remove(const std::string& key) {
    const Status status = rig.remove(key);
    ASSERT_TRUE(status == Status::kOk || status == Status::kMiss) << key;
    content[key] = 0;
  }
  /// Three rounds of puts, overwrites and removes over several segments. Each key has older versions, many of them in
  /// sealed segments, and some keys are removed at the end.
  void fill(uint64_t seed) {
    base::Random random(seed);
    const auto size = [&] {
      const uint64_t kind = random.below(20);
      return kind == 0 ? 3 * kMi : kind < 4 ? 200'000 + random.below(100'000) : 100 + random.below(9'000);
    };
    for (int round = 0; round < 3; ++round) {
      for (int i = 0; i < 40; ++i) {
        const std::string key = "key" + std::to_string(random.below(30));
        random.below(4) == 0 ? remove(key) : put(key, size());
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
  /// Lets the store be idle until the log has written all that an idle log writes.
  void rest() { rig.reactor().advance(3'000'000'000); }

  /// Reads like a client, which verifies the bytes and reports wrong ones.
  Status get(const std::string& key, std::string& out) {
    BlockStat stat;
    for (uint64_t at = 0; rig.store().stat(rig.key(key), stat) && at < stat.block_bytes; at += base::kChunkBytes) {
      RemoveOp op;
      op.key = rig.key(key);
      (void)rig.run(op, [&] { rig.store().suspect(op, at); });
    }
    return rig.get(key, out);
  }
  /// Checks that each key has its newest version or is a miss. Returns how many misses there should not be.
  size_t check() {
    size_t lost = 0;
    for (const auto& [key, version] : content) {
      std::string out;
      const Status status = get(key, out);
      if (status == Status::kMiss) {
        lost += version != 0 ? 1 : 0;
        continue;
      }
      EXPECT_EQ(status, Status::kOk) << key;
      EXPECT_NE(version, 0u) << key << " was removed";
      EXPECT_TRUE(version == 0 || out == bytes_.at({key, version})) << key << " is not the newest";
    }
    return lost;
  }
  /// Goes on for more lives with what is left: a key that is a miss now must stay one, whatever is put and removed
  /// meanwhile.
  void go_on_and_check() {
    std::string out;
    for (auto& [key, version] : content) {
      if (version != 0 && get(key, out) == Status::kMiss) version = 0;
    }
    int i = 0;
    std::vector<std::string> keys;
    for (const auto& [key, version] : content) keys.push_back(key);
    for (const std::string& key : keys) {
      if (++i % 3 != 0) continue;
      put(key, 700);
      if (i % 2 == 0) remove(key);
    }
    rig.before_open_ = {};
    rig.reopen();
    EXPECT_EQ(check(), 0u) << "after another start";
  }

  void save() {
    for (size_t d = 0; d < drives(); ++d)
      saved_.emplace_back(rig.image(d)->data(), rig.image(d)->data() + drive_bytes_);
    saved_content_ = content;
  }
  /// Restores the saved image. The store is closed.
  void restore() {
    rig.before_open_ = {};
    rig.close();
    for (size_t d = 0; d < drives(); ++d) std::copy(saved_[d].begin(), saved_[d].end(), rig.image(d)->data());
    content = saved_content_;
  }
  std::byte* block(size_t drive, uint64_t offset) { return rig.image(drive)->data() + offset; }
  size_t drives() const { return static_cast<size_t>(rig.capacity() / drive_bytes_); }
  uint64_t drive_bytes() const { return drive_bytes_; }

  /// The sectors in use of a drive, by what they hold. Only live structures count: those of the newest epoch at their
  /// place.
  std::map<BlockOf, std::vector<uint64_t>> find_blocks(size_t drive) {
    std::map<BlockOf, std::vector<uint64_t>> out;
    const auto layout = format::choose_layout(drive_bytes_, 1);
    for (uint64_t i = 0; i < 2; ++i) out[BlockOf::kAnchor].push_back(format::kSlicesOffset + i * base::kSectorBytes);
    for (uint64_t p = 0; p < format::segment_count(layout->slice_bytes, layout->segment_bytes); ++p) {
      const uint64_t start = format::kSlicesOffset + format::segment_offset(layout->segment_bytes, p);
      format::SegmentHeader header;
      std::memcpy(&header, block(drive, start), sizeof header);
      if (!valid(header, seed())) continue;
      out[BlockOf::kSegmentHeader].push_back(start);
      find_extents(drive, start, layout->segment_bytes, header.epoch, out);
    }
    return out;
  }

  Rig rig;
  std::map<std::string, uint64_t> content;

 private:
  static uint64_t seed() {
    uint8_t store_id[16];
    std::memset(store_id, 7, sizeof store_id);
    return format::log_seed(store_id, 0);
  }
  void find_extents(size_t drive, uint64_t start, uint64_t segment_bytes, uint64_t epoch,
                    std::map<BlockOf, std::vector<uint64_t>>& out) {
    for (uint64_t at = start + base::kSectorBytes; at < start + segment_bytes;) {
      const base::Bytes bytes(block(drive, at), start + segment_bytes - at);
      const auto extent = format::open_extent(bytes, seed());
      if (!extent || extent->epoch != epoch) break;
      format::RecordReader reader(*extent, bytes);
      format::RecordView record;
      BlockOf kind = extent->record_count == 0 ? BlockOf::kMark : BlockOf::kExtentHeader;
      for (auto next = reader.next(record); next && *next; next = reader.next(record)) {
        if (record.header.kind == format::RecordKind::kTombstone) kind = BlockOf::kTombstone;
      }
      for (uint64_t b = 0; b < extent->header_bytes; b += base::kSectorBytes) out[kind].push_back(at + b);
      for (uint64_t b = extent->header_bytes; b < extent->extent_bytes; b += 16 * base::kSectorBytes)
        out[BlockOf::kPayload].push_back(at + b);
      at += extent->extent_bytes;
    }
    const auto footer =
        format::peek_footer({block(drive, start + segment_bytes - base::kSectorBytes), base::kSectorBytes});
    if (!footer || footer->epoch != epoch) return;
    for (uint64_t b = base::kSectorBytes; b <= footer->footer_bytes; b += base::kSectorBytes)
      out[BlockOf::kFooter].push_back(start + segment_bytes - b);
  }

  uint64_t drive_bytes_;
  uint64_t versions_ = 0;
  std::map<std::pair<std::string, uint64_t>, std::string> bytes_;
  std::vector<std::vector<std::byte>> saved_;
  std::map<std::string, uint64_t> saved_content_;
};

}  // namespace memkv::engine
