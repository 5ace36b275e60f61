#pragma once
/// Reads and writes the two superblock copies of one drive, which are written in turn. Blocking. Thread: main.

#include "format/format.h"
#include "io/device.h"
#include "memkv/error.h"

namespace memkv::volume {

/// A drive, its newest superblock, and in which copy that one lies.
struct MemberDrive {
  io::DriveFile* file = nullptr;
  format::Superblock superblock{};
  int copy = 0;           ///< 0 or 1: the copy that `superblock` came from
  bool one_copy = false;  ///< the other copy is damaged, was never written, or holds another membership
};

/// Reads the newer of the valid copies. kMiss: neither copy has a superblock's magic. kCorrupt: both are damaged, or
/// their fields make no sense. kVersion: a newer format wrote it (the superblock is filled in). kIo: neither could be
/// read.
Result<void> read_superblock(io::DriveFile& file, MemberDrive& out);

/// Writes `next` over the older copy, with the next write counter, durably. Afterwards it is the drive's newest.
Result<void> write_superblock(MemberDrive& drive, format::Superblock next);

}  // namespace memkv::volume
