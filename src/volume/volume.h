#pragma once
/// A store's drives as a set: format, open, membership, namespaces. Blocking. Thread: main, before the workers start
/// and when the membership changes.

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
  /// Writes superblocks and anchors on all drives, which may differ in size. First it runs check_format(); if that
  /// refuses, no drive is touched. An error names the drive, what is wrong (too small, already formatted and by which
  /// store, named twice) and what to do.
  static Result<void, Message> format(const std::vector<io::DriveFile*>& drives, const FormatOptions& options);

  /// Says how many shards format() would make, or why it would refuse. Writes nothing.
  static Result<uint32_t, Message> check_format(const std::vector<io::DriveFile*>& drives,
                                                const FormatOptions& options);

  struct OpenOptions {
    std::vector<std::string> accept_loss;
  };
  /// Reads the superblocks of all drives and decides on the membership. Errors: not formatted, newer format, both
  /// superblocks damaged, a drive of another store, a drive named twice, or only half or fewer of the newest members
  /// present (unless `accept_loss` names each missing one). A drive with an older epoch comes back empty. With more
  /// than half of the members the store opens degraded, and missing() names the rest.
  static Result<std::unique_ptr<Volume>, Message> open(const std::vector<io::DriveFile*>& drives,
                                                       const OpenOptions& options);
  virtual ~Volume() = default;

  virtual const format::Superblock& superblock() const = 0;  ///< the fields that all drives share
  virtual uint32_t drive_count() const = 0;                  ///< number of members, missing ones included
  virtual io::DriveFile* drive(uint32_t index) const = 0;    ///< null: the drive is missing or out
  virtual const format::Superblock& superblock_of(
      uint32_t index) const = 0;  ///< fields of one drive (segment_bytes, slice_bytes)
  virtual std::vector<std::string> missing() const = 0;
  /// Takes a drive out: writes the next membership epoch, without it, durably on all other drives. Thread: main.
  virtual Result<void> take_out(uint32_t index) = 0;
  /// The id of a namespace. A name that is new gets a random id, which is stored durably first. kTooLarge: the table is
  /// full.
  virtual Result<uint64_t> namespace_id(std::string_view name) = 0;

  uint64_t slice_offset(uint32_t drive_index, uint32_t shard) const {
    return format::kSlicesOffset + uint64_t{shard} * superblock_of(drive_index).slice_bytes;
  }
};

}  // namespace memkv::volume
