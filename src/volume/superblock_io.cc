#include "volume/superblock_io.h"

#include <span>

#include "base/assert.h"
#include "base/bytes.h"
#include "format/format_check.h"

namespace memkv::volume {

namespace {

/// The state of one copy, from worst to best.
Status judge(const format::Superblock& superblock) {
  if (superblock.magic != format::kSuperblockMagic) return Status::kMiss;
  if (!valid(superblock)) return Status::kCorrupt;
  const auto fields = format::check_fields(superblock);
  return fields.ok() ? Status::kOk : fields.error().status;
}

bool usable(Status status) { return status == Status::kOk || status == Status::kVersion; }

/// True if both copies hold the same values in all fields that may change. Then the loss of either one brings nothing
/// old back.
bool say_the_same(const format::Superblock& a, const format::Superblock& b) {
  return a.membership_epoch == b.membership_epoch && a.members_in == b.members_in && a.life == b.life &&
         a.namespace_count == b.namespace_count && a.format_version == b.format_version;
}

Error neither(Status a, Status b) {
  const auto any = [a, b](Status status) { return a == status || b == status; };
  if (any(Status::kCorrupt)) return {Status::kCorrupt, 0, "both superblocks damaged"};
  if (any(Status::kIo)) return {Status::kIo, 0, "superblocks unreadable"};
  return {Status::kMiss, 0, "no superblock"};
}

}  // namespace

Result<void> read_superblock(io::DriveFile& file, MemberDrive& out) {
  format::Superblock copies[2];
  Status found[2];
  for (int i = 0; i < 2; ++i) {
    const auto read = file.read_now(format::kSuperblockOffsets[i], base::mut_bytes_of(&copies[i], sizeof copies[i]));
    found[i] = read.ok() ? judge(copies[i]) : Status::kIo;
  }
  if (!usable(found[0]) && !usable(found[1])) return neither(found[0], found[1]);
  out.file = &file;
  out.one_copy = !usable(found[0]) || !usable(found[1]) || !say_the_same(copies[0], copies[1]);
  out.copy = !usable(found[0]) || (usable(found[1]) && copies[1].write_counter > copies[0].write_counter) ? 1 : 0;
  out.superblock = copies[out.copy];
  if (found[out.copy] == Status::kVersion) return Error{Status::kVersion, 0, "superblock of a newer format"};
  return {};
}

Result<void> write_superblock(MemberDrive& drive, format::Superblock next) {
  MEMKV_ASSERT(drive.file != nullptr && (drive.copy == 0 || drive.copy == 1));
  // A drive that is being formatted has no superblock yet: its counter is 0.
  MEMKV_ASSERT(drive.superblock.write_counter == 0 || next.drive_index == drive.superblock.drive_index,
               "the superblock of another drive");
  next.write_counter = drive.superblock.write_counter + 1;
  seal(next);
  const int copy = 1 - drive.copy;
  auto written = drive.file->write_now(format::kSuperblockOffsets[copy], base::bytes_of(&next, sizeof next));
  if (!written) return written;
  drive.superblock = next;
  drive.copy = copy;
  drive.one_copy = false;
  return {};
}

}  // namespace memkv::volume
