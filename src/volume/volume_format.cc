/// Volume::format(): makes a store out of drives. Set-up code. Thread: main.

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/hex.h"
#include "base/random.h"
#include "base/units.h"
#include "format/format_check.h"
#include "format/layout.h"
#include "volume/superblock_io.h"
#include "volume/volume.h"

namespace memkv::volume {

namespace {

using Drives = std::vector<io::DriveFile*>;

std::string hex(const uint8_t (&id)[16]) { return base::hex_encode(base::bytes_of(id, sizeof id)); }

const std::string& path_of(const io::DriveFile* drive) { return drive->info().path; }

Message message(Status status, std::string text) { return {status, std::move(text)}; }

/// True if both are one file, under two names or twice in the list.
bool same_file(const io::DriveFile& a, const io::DriveFile& b) {
  if (a.info().path == b.info().path) return true;
  struct stat at_a {};
  struct stat at_b {};
  if (fstat(a.fd(), &at_a) < 0 || fstat(b.fd(), &at_b) < 0) return false;
  if (S_ISBLK(at_a.st_mode) && S_ISBLK(at_b.st_mode)) return at_a.st_rdev == at_b.st_rdev;
  return at_a.st_dev == at_b.st_dev && at_a.st_ino == at_b.st_ino;
}

Result<void, Message> check_list(const Drives& drives) {
  if (drives.empty()) return message(Status::kInvalid, "no drives given: name at least one file or block device");
  if (drives.size() > format::kDrivesMax) {
    return message(Status::kTooLarge,
                   fmt::format("{} drives given; a store has at most {}", drives.size(), format::kDrivesMax));
  }
  for (size_t i = 0; i < drives.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (!same_file(*drives[j], *drives[i])) continue;
      return message(Status::kInvalid,
                     fmt::format("{} and {} are the same drive: name it once", path_of(drives[j]), path_of(drives[i])));
    }
  }
  return {};
}

Result<void, Message> check_unused(io::DriveFile& drive) {
  MemberDrive found;
  const auto read = read_superblock(drive, found);
  const Status status = read.ok() ? Status::kOk : read.error().status;
  switch (status) {
    case Status::kMiss:
      return {};
    case Status::kIo:
      return message(Status::kIo, path_of(&drive) + ": cannot be read: check the drive, or leave it out");
    case Status::kOk:
      return message(
          Status::kExists,
          fmt::format("{}: already formatted, by store {}: to overwrite all that it holds, format with --force",
                      path_of(&drive), hex(found.superblock.store_id)));
    default:
      return message(Status::kExists,
                     path_of(&drive) +
                         ": holds damaged or newer superblocks of a MemKV store: to overwrite all that "
                         "it holds, format with --force");
  }
}

Result<uint32_t, Message> choose_shards(const Drives& drives, uint32_t asked) {
  uint64_t together = 0;
  const io::DriveFile* smallest = drives.front();
  for (const io::DriveFile* drive : drives) {
    together += drive->info().size_bytes;
    if (drive->info().size_bytes < smallest->info().size_bytes) smallest = drive;
  }
  const uint64_t smallest_bytes = smallest->info().size_bytes;
  if (asked != 0 && (!std::has_single_bit(asked) || asked > format::kShardsMax)) {
    return message(Status::kInvalid,
                   fmt::format("{} shards: give a power of two from 1 to {}", asked, format::kShardsMax));
  }
  const uint32_t shards = asked != 0 ? asked : format::default_shards(together, smallest_bytes);
  if (smallest_bytes >= format::drive_bytes_min(shards)) return shards;
  return message(
      Status::kNoSpace,
      fmt::format(
          "{}: too small: {} ({} bytes); with {} shard{} a drive needs at least {} bytes ({}): use a larger drive{}",
          path_of(smallest), base::format_bytes(smallest_bytes), smallest_bytes, shards, shards == 1 ? "" : "s",
          format::drive_bytes_min(shards), base::format_bytes(format::drive_bytes_min(shards)),
          shards > 1 ? " or fewer shards" : ""));
}

/// The fields that all drives of a new store share.
format::Superblock new_store(const Drives& drives, uint32_t shards, uint32_t stripe_width) {
  MEMKV_ASSERT(!drives.empty() && drives.size() <= format::kDrivesMax && stripe_width > 0);
  format::Superblock superblock{};
  superblock.format_version = format::kFormatVersion;
  superblock.shard_count = shards;
  base::os_random(base::mut_bytes_of(superblock.store_id, sizeof superblock.store_id));
  base::os_random(base::mut_bytes_of(&superblock.shard_seed, sizeof superblock.shard_seed));
  base::os_random(base::mut_bytes_of(superblock.digest_key, sizeof superblock.digest_key));
  // Clients know the store id, but not the life. So they cannot put bytes into a block that pass for a structure of the
  // log.
  base::os_random(base::mut_bytes_of(&superblock.life, sizeof superblock.life));
  superblock.membership_epoch = 1;
  superblock.member_count = static_cast<uint32_t>(drives.size());
  superblock.members_in = ~uint64_t{0} >> (64 - drives.size());
  superblock.created_wall_s = base::SystemClock().wall_s();
  superblock.stripe_width = stripe_width;
  for (size_t i = 0; i < drives.size(); ++i) {
    base::os_random(base::mut_bytes_of(superblock.members[i].drive_id, sizeof superblock.members[i].drive_id));
    superblock.members[i].size_bytes = drives[i]->info().size_bytes;
  }
  return superblock;
}

format::Superblock superblock_for(const format::Superblock& store, uint32_t index) {
  MEMKV_ASSERT(index < store.member_count);
  format::Superblock superblock = store;
  superblock.drive_index = index;
  std::copy_n(store.members[index].drive_id, sizeof superblock.drive_id, superblock.drive_id);
  const format::Layout layout = format::choose_layout(store.members[index].size_bytes, store.shard_count).value();
  superblock.slice_bytes = layout.slice_bytes;
  superblock.segment_bytes = layout.segment_bytes;
  return superblock;
}

/// Erases the superblocks of a former store first: if the format is interrupted, no store must be left that opens.
Result<void> wipe(io::DriveFile& drive) {
  static constexpr format::Superblock kNothing{};
  for (const uint64_t offset : format::kSuperblockOffsets) {
    auto written = drive.write_now(offset, base::bytes_of(&kNothing, sizeof kNothing));
    if (!written) return written;
  }
  return {};
}

Result<void> write_anchors(io::DriveFile& drive, const format::Superblock& superblock) {
  for (uint32_t shard = 0; shard < superblock.shard_count; ++shard) {
    format::Anchor anchor{};
    std::copy_n(superblock.store_id, sizeof anchor.store_id, anchor.store_id);
    anchor.drive_index = superblock.drive_index;
    anchor.shard = shard;
    anchor.sequence_end = 1;  // 0 is no sequence
    anchor.life = superblock.life;
    for (uint64_t copy = 0; copy < 2; ++copy) {
      anchor.write_counter = copy + 1;
      seal(anchor);
      auto written = drive.write_now(format::kSlicesOffset + shard * superblock.slice_bytes + copy * base::kSectorBytes,
                                     base::bytes_of(&anchor, sizeof anchor));
      if (!written) return written;
    }
  }
  return {};
}

Message write_failed(const io::DriveFile& drive, const Error& error) {
  return message(error.status,
                 fmt::format("{}: writing failed ({}, errno {}): the drive is not formatted; check it, or leave it out",
                             drive.info().path, error.what, error.sys_errno));
}

Result<void, Message> write_all(const Drives& drives, const format::Superblock& store) {
  for (io::DriveFile* drive : drives) {
    if (auto wiped = wipe(*drive); !wiped) return write_failed(*drive, wiped.error());
  }
  for (uint32_t i = 0; i < drives.size(); ++i) {
    auto written = write_anchors(*drives[i], superblock_for(store, i));
    if (!written) return write_failed(*drives[i], written.error());
  }
  for (uint32_t i = 0; i < drives.size(); ++i) {
    MemberDrive drive;
    drive.file = drives[i];
    for (int copy = 0; copy < 2; ++copy) {
      auto written = write_superblock(drive, superblock_for(store, i));
      if (!written) return write_failed(*drives[i], written.error());
    }
  }
  return {};
}

}  // namespace

Result<uint32_t, Message> Volume::check_format(const std::vector<io::DriveFile*>& drives,
                                               const FormatOptions& options) {
  if (auto checked = check_list(drives); !checked) return checked.error();
  if (options.stripe_width == 0 || options.stripe_width > format::kDrivesMax) {
    return message(Status::kInvalid,
                   fmt::format("stripe width {}: give 1 to {}", options.stripe_width, format::kDrivesMax));
  }
  auto shards = choose_shards(drives, options.shards);
  if (!shards) return shards;
  for (io::DriveFile* drive : drives) {
    if (options.force) break;
    if (auto unused = check_unused(*drive); !unused) return unused.error();
  }
  return shards;
}

Result<void, Message> Volume::format(const std::vector<io::DriveFile*>& drives, const FormatOptions& options) {
  auto shards = check_format(drives, options);
  if (!shards) return shards.error();
  return write_all(drives, new_store(drives, *shards, options.stripe_width));
}

}  // namespace memkv::volume
