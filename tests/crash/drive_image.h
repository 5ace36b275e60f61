#pragma once
/// Reads a drive of a store at rest, following docs/data-file.md. It shares no code with the recovery that it judges.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "engine/store.h"
#include "format/format_check.h"

namespace memkv::test {

/// The newest segment of a log, as far as it was written.
struct NewestSegment {
  struct Extent {
    uint32_t block = 0;  ///< place in the segment, in sectors
    format::ExtentHeader header{};
    std::vector<engine::Digest> digests;  ///< of its records that commit, replace or kill a block

    uint32_t end() const { return block + header.extent_bytes / base::kSectorBytes; }
  };
  uint64_t start = 0;  ///< place on the drive, in bytes
  uint64_t epoch = 0;
  std::vector<Extent> extents;
  uint32_t vouched_block = 0;  ///< something says that all extents before it are complete
};

class DriveImage {
 public:
  /// Nothing: it has no superblock that can be read.
  static std::optional<DriveImage> open(const std::string& path);

  uint32_t shards() const { return superblock_.shard_count; }
  uint64_t slice_bytes() const { return superblock_.slice_bytes; }
  uint64_t slice_of(uint32_t shard) const { return format::kSlicesOffset + shard * superblock_.slice_bytes; }
  /// Nothing: no segment was begun.
  std::optional<NewestSegment> newest_segment(uint32_t shard) const;
  /// The digest of a key on the drives of this store. Nothing: there is no such namespace.
  std::optional<engine::Digest> digest_of(std::string_view name_space, std::string_view key) const;

 private:
  DriveImage() = default;
  bool read(uint64_t offset, std::vector<std::byte>& bytes) const;
  uint64_t epoch_at(uint64_t start) const;
  uint64_t anchored_block(uint32_t shard, uint64_t epoch) const;
  bool is_sealed(const std::vector<std::byte>& segment, uint64_t epoch) const;

  base::UniqueFd fd_;
  format::Superblock superblock_{};
  uint64_t seed_ = 0;  ///< for all that lies in the drive's logs
};

/// The digests of blocks whose older version may appear when the sector at `place` is lost. This is the one exception
/// of docs/data-file.md, "What is lost".
std::vector<engine::Digest> may_be_older(const NewestSegment& segment, uint64_t place);

}  // namespace memkv::test
