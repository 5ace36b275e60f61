#pragma once
/// A store's drives as a set: format, open, membership, namespaces. Blocking; main thread, before workers start and on
/// membership changes.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "format/format.h"
#include "io/device.h"
#include "memkv/error.h"

namespace memkv::volume {

struct FormatOptions {
  uint32_t shards = 0;  ///< 0 = one per 4 GiB of all drives together, power of two, 1..32
  uint32_t stripe_width = 4;
  bool force = false;  ///< overwrite drives that hold a MemKV superblock
};

/// The set of opened member drives and their agreed membership.
class Volume {
 public:
  /// Writes superblocks and anchors on all drives (sizes may differ). Errors name the drive, what is wrong and what to
  /// do: too small, already formatted (by which store), duplicate path.
  /// It touches no drive before check_format() is content.
  static Result<void, Message> format(const std::vector<io::DriveFile*>& drives, const FormatOptions& options);

  /// Writes nothing. The number of shards that format() would make, or why it would refuse.
  static Result<uint32_t, Message> check_format(const std::vector<io::DriveFile*>& drives,
                                                const FormatOptions& options);

  struct OpenOptions {
    std::vector<std::string> accept_loss;
  };
  /// Reads and reconciles superblocks. Errors: not formatted, newer format, both superblocks damaged, drive of another
  /// store, duplicate drive, half or fewer of the newest members (unless accept_loss names the missing). Stale members
  /// (lower epoch) come back empty. More than half: opens degraded, `missing()` names them.
  static Result<std::unique_ptr<Volume>, Message> open(const std::vector<io::DriveFile*>& drives,
                                                       const OpenOptions& options);
  virtual ~Volume() = default;

  virtual const format::Superblock& superblock() const = 0;  ///< store-wide fields
  virtual uint32_t drive_count() const = 0;                  ///< members, with those missing
  virtual io::DriveFile* drive(uint32_t index) const = 0;    ///< null: missing or out
  virtual const format::Superblock& superblock_of(
      uint32_t index) const = 0;  ///< per-drive fields (segment_bytes, slice_bytes)
  virtual std::vector<std::string> missing() const = 0;
  /// Writes the next membership epoch without this drive on all others, durably. Thread: main.
  virtual Result<void> take_out(uint32_t index) = 0;
  /// The id of a namespace, made (random) and stored durably on first sight. kTooLarge when the table is full.
  virtual Result<uint64_t> namespace_id(std::string_view name) = 0;

  uint64_t slice_offset(uint32_t drive_index, uint32_t shard) const {
    return format::kSlicesOffset + uint64_t{shard} * superblock_of(drive_index).slice_bytes;
  }
};

}  // namespace memkv::volume
