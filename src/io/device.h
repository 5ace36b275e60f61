#pragma once
/// Block devices: where bytes stay. Stackable; every one of them is bound to one reactor and used by its thread only.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/sizes.h"
#include "io/drive_load.h"
#include "io/reactor.h"
#include "memkv/error.h"

namespace memkv::io {

/// What is known of a device when it is opened.
struct DeviceInfo {
  std::string path;              ///< for messages
  uint64_t size_bytes = 0;       ///< rounded down to base::kSectorBytes
  uint32_t sector_bytes = 4096;  ///< the drive's own logical sector (512 or 4096)
  bool volatile_cache = false;   ///< reports a write-back cache: acknowledged writes need dsync
  bool durable = true;           ///< false: RAM; promises nothing over a restart
  bool raw = false;              ///< a block device, not a file
  bool direct = true;            ///< O_DIRECT (or memory); false where the file system refuses it
};

/// Asynchronous device. Offsets, lengths and addresses are multiples of base::kSectorBytes.
/// A read or write completes whole (bytes == asked) or with -errno; short transfers are continued inside (a short end
/// becomes -EIO).
class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual Result<void> read(IoOp& op, uint64_t offset, std::span<const iovec> pieces) = 0;
  virtual Result<void> write(IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool dsync) = 0;
  virtual Result<void> sync(IoOp& op) = 0;
  /// What is in flight here; null: nothing ever waits (RAM).
  virtual const DriveLoad* load() const { return nullptr; }
  /// The device's own memory at this place (RAM only; else null): read and written in place, valid while the device
  /// lives.
  virtual std::byte* view(uint64_t offset, uint64_t length) {
    (void)offset;
    (void)length;
    return nullptr;
  }
};

/// Opens a file or a raw device with O_DIRECT (without it where the file system refuses, as tmpfs does; `info` and the
/// log say so). Takes flock(LOCK_EX) on the very descriptor used for writes, retried for `lock_wait_ms`. One DriveFile
/// per drive and process.
class DriveFile {
 public:
  struct Options {
    uint32_t lock_wait_ms = 5000;
    bool power_loss_protected = false;
    bool lock = true;
  };
  static Result<std::unique_ptr<DriveFile>, Message> open(const std::string& path, const Options& options);
  virtual ~DriveFile() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual int fd() const = 0;
  /// A device over this file for one reactor. The DriveFile outlives it.
  virtual std::unique_ptr<BlockDevice> bind(Reactor& reactor) = 0;
  // Blocking access for set-up and recovery of superblocks. Thread: main, before workers start.
  virtual Result<void> read_now(uint64_t offset, std::span<std::byte> out) = 0;
  virtual Result<void> write_now(uint64_t offset, std::span<const std::byte> bytes) = 0;  ///< durable on return
};

/// Told how far the filling of a drive file has come. False: stop, and take the file back.
using FillProgress = bool (*)(uint64_t done, uint64_t total, void* context);

/// Creates a file of `size` and writes zeros over all of it (fallocated extents are not durable). Where there is no
/// room for it nothing is written (check_room()). One that fails or is stopped leaves no file; kCanceled: stopped.
Result<void, Message> create_drive_file(const std::string& path, uint64_t size_bytes, FillProgress progress,
                                        void* context);

struct NewFile {
  std::string path;
  uint64_t size_bytes = 0;
};
/// Whether all of these fit into their file systems beside what must stay free there: 5 % or 1 GiB, whichever is less.
/// A file that is there already counts as replaced. kNoSpace: no, with the arithmetic. Where nothing can be found out
/// the answer is yes: the kernel has the last word.
Result<void, Message> check_room(const std::vector<NewFile>& files);

/// RAM on hugepage-backed memory, with views. `storage` may be shared by several MemoryDevices (one a worker).
class MemoryStorage;
std::shared_ptr<MemoryStorage> make_memory_storage(uint64_t size_bytes);
std::unique_ptr<BlockDevice> make_memory_device(Reactor& reactor, std::shared_ptr<MemoryStorage> storage,
                                                bool with_views);

}  // namespace memkv::io
