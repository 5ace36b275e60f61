#pragma once
/// Block devices: where bytes stay. They can be stacked. Each is bound to one reactor, and only its thread uses it.

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

/// What is known of a device once it is open.
struct DeviceInfo {
  std::string path;              ///< for messages
  uint64_t size_bytes = 0;       ///< rounded down to base::kSectorBytes
  uint32_t sector_bytes = 4096;  ///< the drive's own logical sector (512 or 4096)
  bool volatile_cache = false;   ///< it has a write-back cache, so a write is durable only with dsync
  bool durable = true;           ///< false for RAM, which keeps nothing over a restart
  bool raw = false;              ///< a block device, not a file
  bool direct = true;            ///< O_DIRECT is used (or it is memory); false where the file system refuses
};

/// An asynchronous device. Offsets, lengths and addresses are multiples of base::kSectorBytes.
/// An op completes whole (bytes == asked) or with -errno. The device continues a short transfer by itself; if it then
/// comes to the file's end, the op fails with -EIO.
class BlockDevice {
 public:
  virtual ~BlockDevice() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual Result<void> read(IoOp& op, uint64_t offset, std::span<const iovec> pieces) = 0;
  virtual Result<void> write(IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool dsync) = 0;
  virtual Result<void> sync(IoOp& op) = 0;
  /// The ops that are in flight here. null: nothing ever waits (RAM).
  virtual const DriveLoad* load() const { return nullptr; }
  /// The device's own memory at this place, which may be read and written directly as long as the device lives. null
  /// for everything but RAM.
  virtual std::byte* view(uint64_t offset, uint64_t length) {
    (void)offset;
    (void)length;
    return nullptr;
  }
};

/// Opens a file or a raw device with O_DIRECT. Where the file system refuses that (tmpfs does) it opens without, and
/// `info` and the log say so. It takes flock(LOCK_EX) on the descriptor that is used for writes, and tries for
/// `lock_wait_ms` to get it. There is one DriveFile for each drive and process.
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
  /// Makes a device for one reactor on this file. The DriveFile must outlive it.
  virtual std::unique_ptr<BlockDevice> bind(Reactor& reactor) = 0;
  // Blocking access, for set-up and for superblocks. Thread: main, before the workers start.
  virtual Result<void> read_now(uint64_t offset, std::span<std::byte> out) = 0;
  virtual Result<void> write_now(uint64_t offset, std::span<const std::byte> bytes) = 0;  ///< durable on return
};

/// Called while a drive file is filled, with how far that has come. False: stop, and remove the file.
using FillProgress = bool (*)(uint64_t done, uint64_t total, void* context);

/// Creates a file of `size` bytes and writes zeros over all of it, since extents that were only allocated (fallocate)
/// are not durable. If there is no room for it, nothing is written (check_room()). If it fails or is stopped, no file
/// is left; kCanceled: it was stopped.
Result<void, Message> create_drive_file(const std::string& path, uint64_t size_bytes, FillProgress progress,
                                        void* context);

struct NewFile {
  std::string path;
  uint64_t size_bytes = 0;
};
/// Checks that all of these files fit into their file systems, beside what must stay free there: 5 % or 1 GiB,
/// whichever is less. The bytes of a file that already exists count as free, since it is replaced. kNoSpace: they do
/// not fit; the message shows the sum. If nothing can be found out, the answer is yes: the kernel then decides.
Result<void, Message> check_room(const std::vector<NewFile>& files);

/// Memory on huge pages as a device, with views. Several MemoryDevices may share one `storage`, one for each worker.
class MemoryStorage;
std::shared_ptr<MemoryStorage> make_memory_storage(uint64_t size_bytes);
std::unique_ptr<BlockDevice> make_memory_device(Reactor& reactor, std::shared_ptr<MemoryStorage> storage,
                                                bool with_views);

}  // namespace memkv::io
