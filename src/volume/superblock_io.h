#pragma once
/// Reads and writes the two alternating superblock copies of one drive. Blocking. Thread: main.

#include "format/format.h"
#include "io/device.h"
#include "memkv/error.h"

namespace memkv::volume {

/// A drive with its newest superblock, and where that copy lies.
struct MemberDrive {
  io::DriveFile* file = nullptr;
  format::Superblock superblock{};
  int copy = 0;           ///< 0 or 1: the copy that `superblock` came from
  bool one_copy = false;  ///< the other copy is damaged, was never written, or tells of another membership
};

/// The newer valid copy. kMiss: neither copy has a superblock's magic; kCorrupt: both are damaged or senseless;
/// kVersion: written by a newer format (the superblock is filled in); kIo: neither could be read.
Result<void> read_superblock(io::DriveFile& file, MemberDrive& out);

/// Writes `next` over the older copy, with the next write counter, durably; then it is the drive's newest.
Result<void> write_superblock(MemberDrive& drive, format::Superblock next);

}  // namespace memkv::volume
