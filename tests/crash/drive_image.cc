#include "tests/crash/drive_image.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "format/layout.h"

namespace memkv::test {
namespace {

using base::kSectorBytes;
using Extent = NewestSegment::Extent;

/// The extent at `block` of a segment, if a whole one of this epoch lies there.
std::optional<Extent> extent_at(const std::vector<std::byte>& segment, uint32_t block, uint64_t epoch, uint64_t seed) {
  const base::Bytes bytes = base::Bytes(segment).subspan(uint64_t{block} * base::kSectorBytes);
  const auto peeked = format::peek_extent(bytes);
  if (!peeked || peeked->header_bytes > bytes.size() || peeked->extent_bytes > bytes.size()) return {};
  const auto header = format::open_extent(bytes, seed);
  if (!header || header->epoch != epoch || header->sector_in_segment != block) return {};
  Extent extent{block, *header, {}};
  format::RecordReader reader(*header, bytes);
  format::RecordView record;
  for (auto next = reader.next(record); next && *next; next = reader.next(record)) {
    if (record.header.kind == format::RecordKind::kChunk) continue;  // a block with a lost chunk is a miss
    extent.digests.push_back({record.header.digest[0], record.header.digest[1]});
  }
  return extent;
}

/// All extents of this epoch, including those of an abandoned tail.
std::vector<Extent> all_extents(const std::vector<std::byte>& segment, uint64_t epoch, uint64_t seed) {
  std::vector<Extent> extents;
  for (uint32_t block = 1; block < segment.size() / base::kSectorBytes; ++block) {
    if (auto extent = extent_at(segment, block, epoch, seed)) extents.push_back(std::move(*extent));
  }
  return extents;
}

}  // namespace

std::optional<DriveImage> DriveImage::open(const std::string& path) {
  DriveImage image;
  image.fd_.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!image.fd_) return {};
  for (const uint64_t offset : format::kSuperblockOffsets) {
    std::vector<std::byte> bytes(base::kSectorBytes);
    format::Superblock copy;
    if (!image.read(offset, bytes)) continue;
    std::memcpy(&copy, bytes.data(), sizeof copy);
    const bool newer = image.superblock_.write_counter <= copy.write_counter;
    if (format::valid(copy) && newer) image.superblock_ = copy;
  }
  const format::Superblock& s = image.superblock_;
  if (s.shard_count == 0) return {};
  image.seed_ = format::log_seed(s.store_id, s.life);
  return image;
}

bool DriveImage::read(uint64_t offset, std::vector<std::byte>& bytes) const {
  return pread(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) == static_cast<ssize_t>(bytes.size());
}

/// The epoch by the segment's header, or by its first extent if the header is lost. 0: neither is there.
uint64_t DriveImage::epoch_at(uint64_t start) const {
  std::vector<std::byte> bytes(2 * base::kSectorBytes);
  format::SegmentHeader header;
  if (!read(start, bytes)) return 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  uint64_t epoch = format::valid(header, seed_) ? header.epoch : 0;
  const auto extent = format::peek_extent(base::Bytes(bytes).subspan(base::kSectorBytes));
  if (!extent || extent->epoch <= epoch) return epoch;
  std::vector<std::byte> whole(extent->header_bytes);
  const bool good = read(start + base::kSectorBytes, whole) && format::open_extent(whole, seed_);
  return good ? extent->epoch : epoch;
}

/// How far the anchors say that a segment was complete.
uint64_t DriveImage::anchored_block(uint32_t shard, uint64_t epoch) const {
  uint64_t block = 0;
  for (uint64_t copy = 0; copy < 2; ++copy) {
    std::vector<std::byte> bytes(base::kSectorBytes);
    format::Anchor anchor;
    if (!read(slice_of(shard) + copy * base::kSectorBytes, bytes)) continue;
    std::memcpy(&anchor, bytes.data(), sizeof anchor);
    const bool valid = format::valid(anchor, format::store_seed(superblock_.store_id));
    if (!valid || anchor.shard != shard || anchor.life != superblock_.life) continue;
    if (anchor.complete_epoch > epoch) return UINT32_MAX;
    if (anchor.complete_epoch == epoch) block = std::max<uint64_t>(block, anchor.complete_sector);
  }
  return block;
}

bool DriveImage::is_sealed(const std::vector<std::byte>& segment, uint64_t epoch) const {
  const base::Bytes bytes(segment);
  const auto trailer = format::peek_footer(bytes.last(base::kSectorBytes));
  if (!trailer || trailer->footer_bytes > bytes.size() || trailer->epoch != epoch) return false;
  return format::open_footer(bytes.last(trailer->footer_bytes), seed_).ok();
}

std::optional<NewestSegment> DriveImage::newest_segment(uint32_t shard) const {
  NewestSegment newest;
  const uint64_t segment_bytes = superblock_.segment_bytes;
  for (uint64_t i = 0; i < format::segment_count(slice_bytes(), segment_bytes); ++i) {
    const uint64_t start = slice_of(shard) + format::segment_offset(segment_bytes, i);
    const uint64_t epoch = epoch_at(start);
    if (epoch > newest.epoch) newest = {start, epoch, {}, 0};
  }
  std::vector<std::byte> segment(segment_bytes);
  if (newest.epoch == 0 || !read(newest.start, segment)) return {};
  const std::vector<Extent> all = all_extents(segment, newest.epoch, seed_);
  uint64_t vouched = is_sealed(segment, newest.epoch) ? UINT32_MAX : anchored_block(shard, newest.epoch);
  for (const Extent& e : all) {
    if (e.header.complete_epoch == newest.epoch) vouched = std::max<uint64_t>(vouched, e.header.complete_sector);
  }
  newest.vouched_block = static_cast<uint32_t>(vouched);
  uint32_t end = 1;
  uint64_t chain = 0;  // 0: not known
  for (const Extent& e : all) {
    const bool follows = e.block == end && (chain == 0 || e.header.previous_checksum == chain);
    if (!follows && (e.block < end || end >= vouched)) continue;  // it belongs to an abandoned tail
    chain = e.header.checksum;
    end = e.end();
    newest.extents.push_back(e);
  }
  return newest;
}

std::optional<engine::Digest> DriveImage::digest_of(std::string_view name_space, std::string_view key) const {
  for (uint32_t i = 0; i < superblock_.namespace_count; ++i) {
    const format::SuperblockNamespace& n = superblock_.namespaces[i];
    if (name_space != std::string_view(n.name, strnlen(n.name, sizeof n.name))) continue;
    return engine::digest_of({superblock_.digest_key[0], superblock_.digest_key[1]}, n.id, key);
  }
  return {};
}

std::vector<engine::Digest> may_be_older(const NewestSegment& segment, uint64_t place) {
  const auto hit = std::find_if(segment.extents.begin(), segment.extents.end(), [&](const Extent& e) {
    return place >= segment.start + uint64_t{e.block} * base::kSectorBytes &&
           place < segment.start + uint64_t{e.end()} * base::kSectorBytes;
  });
  std::vector<engine::Digest> digests;
  if (hit == segment.extents.end() || hit->block < segment.vouched_block) return digests;
  // The extents behind it were in flight together with it.
  for (auto e = hit; e != segment.extents.end(); ++e)
    digests.insert(digests.end(), e->digests.begin(), e->digests.end());
  return digests;
}

}  // namespace memkv::test
