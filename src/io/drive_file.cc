/// Files and raw block devices as drives.

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/test_rules.h"
#include "base/unique_fd.h"
#include "io/device.h"
#include "io/huge_memory.h"
#include "io/loop.h"

namespace memkv::io {
namespace {

constexpr uint32_t kOpsMax = 1024;        ///< limit of ops in flight, for each device and reactor
constexpr uint32_t kKeptForWrites = 128;  ///< of these, for writes only: a waiting put holds more than a get
constexpr size_t kFillBytes = size_t{8} << 20;
constexpr size_t kBounceBytes = size_t{1} << 20;
constexpr uint64_t kLockRetryMs = 50;

bool aligned(uint64_t offset, std::span<const iovec> pieces) {
  bool all = base::is_aligned(offset, base::kSectorBytes);
  for (const iovec& piece : pieces) {
    all = all && base::is_aligned(piece.iov_len, base::kSectorBytes) &&
          base::is_aligned(piece.iov_base, base::kSectorBytes);
  }
  return all;
}

/// One op on its way through the device. It stands between the caller's op and the reactor's, and continues after a
/// short transfer.
struct Passage {
  IoOp inner;
  IoOp* outer = nullptr;
  const iovec* pieces = nullptr;
  size_t count = 0;
  uint64_t offset = 0;
  size_t done = 0;   // bytes that were moved so far
  size_t total = 0;  // bytes asked
  iovec rest{};      // the rest of one piece, when a transfer is continued
  bool dsync = false;
  DriveLoad::Flight flight;
  class FileDevice* device = nullptr;
  Passage* next_free = nullptr;
};

/// Thread: the reactor's.
class FileDevice final : public BlockDevice {
 public:
  FileDevice(DriveFile& file, Reactor& reactor) : file_(file), reactor_(reactor), passages_(kOpsMax) {
    for (Passage& passage : passages_) release(passage);
  }
  ~FileDevice() override { MEMKV_ASSERT(in_flight_ == 0); }

  const DeviceInfo& info() const override { return file_.info(); }
  Result<void> read(IoOp& op, uint64_t offset, std::span<const iovec> pieces) override {
    return start(op, IoOp::Kind::kRead, offset, pieces, false);
  }
  Result<void> write(IoOp& op, uint64_t offset, std::span<const iovec> pieces, bool dsync) override {
    return start(op, IoOp::Kind::kWrite, offset, pieces, dsync);
  }
  Result<void> sync(IoOp& op) override { return start(op, IoOp::Kind::kSync, 0, {}, false); }
  const DriveLoad* load() const override { return &load_; }

 private:
  Result<void> start(IoOp& op, IoOp::Kind kind, uint64_t offset, std::span<const iovec> pieces, bool dsync);
  Result<void> submit(Passage& passage, std::span<const iovec> pieces);
  void on_result(Passage& passage, int32_t result);
  void finish(Passage& passage, int32_t result);
  static std::span<const iovec> remainder(Passage& passage);
  void release(Passage& passage) { passage.next_free = std::exchange(free_, &passage); }

  DriveFile& file_;
  Reactor& reactor_;
  DriveLoad load_;
  std::vector<Passage> passages_;
  Passage* free_ = nullptr;
  size_t in_flight_ = 0;
};

/// Takes an op in, or refuses it. The range must lie on the device. Reads leave some of the ops to writes, so that many
/// readers cannot keep a write from starting.
Result<void> FileDevice::start(IoOp& op, IoOp::Kind kind, uint64_t offset, std::span<const iovec> pieces, bool dsync) {
  MEMKV_ASSERT(!op.pending() && op.on_done != nullptr && aligned(offset, pieces));
  const size_t total = pieces_bytes(pieces);
  if (kind != IoOp::Kind::kSync && (total == 0 || offset > info().size_bytes || total > info().size_bytes - offset)) {
    return Error{Status::kInvalid, 0, "drive: range outside of the device"};
  }
  const uint32_t ops_max = kind == IoOp::Kind::kRead ? kOpsMax - kKeptForWrites : kOpsMax;
  if (in_flight_ >= ops_max) return Error{Status::kBusy, 0, "drive: too many ops in flight"};
  MEMKV_ASSERT(free_ != nullptr, "there are as many as ops may be in flight");
  Passage& passage = *std::exchange(free_, free_->next_free);
  passage = Passage{};
  passage.outer = &op;
  passage.pieces = pieces.data();
  passage.count = pieces.size();
  passage.offset = offset;
  passage.total = total;
  passage.dsync = dsync;
  passage.device = this;
  op.kind = kind;
  if (auto submitted = submit(passage, pieces); !submitted) {
    op.kind = IoOp::Kind::kIdle;
    release(passage);
    return submitted;
  }
  load_.begin(passage.flight, kind, total, reactor_.now_ns());
  in_flight_++;
  return {};
}

Result<void> FileDevice::submit(Passage& passage, std::span<const iovec> pieces) {
  passage.inner.context = &passage;
  passage.inner.on_done = [](IoOp& op, int32_t result) {
    auto& self = *static_cast<Passage*>(op.context);
    self.device->on_result(self, result);
  };
  const uint64_t at = passage.offset + passage.done;
  switch (passage.outer->kind) {
    case IoOp::Kind::kRead:
      return reactor_.read(passage.inner, file_.fd(), at, pieces);
    case IoOp::Kind::kWrite:
      return reactor_.write(passage.inner, file_.fd(), at, pieces, passage.dsync);
    default:
      return reactor_.sync(passage.inner, file_.fd());
  }
}

/// The rest of the piece in which the transfer stopped.
std::span<const iovec> FileDevice::remainder(Passage& passage) {
  MEMKV_ASSERT(passage.done < passage.total, "a transfer that is whole has no rest");
  size_t skip = passage.done;
  size_t index = 0;
  while (skip >= passage.pieces[index].iov_len) skip -= passage.pieces[index++].iov_len;
  MEMKV_ASSERT(index < passage.count);
  passage.rest = {static_cast<std::byte*>(passage.pieces[index].iov_base) + skip, passage.pieces[index].iov_len - skip};
  return {&passage.rest, 1};
}

void FileDevice::on_result(Passage& passage, int32_t result) {
  if (result > 0) passage.done += static_cast<size_t>(result);
  MEMKV_ASSERT(passage.done <= passage.total, "the reactor reports more bytes than it was asked to move");
  const bool again = result == -EINTR || result == -EAGAIN;
  if (passage.outer->kind == IoOp::Kind::kSync && !again) return finish(passage, result);
  if (result < 0 && !again) return finish(passage, result);
  if (passage.done == passage.total && passage.total > 0) return finish(passage, static_cast<int32_t>(passage.total));
  if (result == 0) return finish(passage, -EIO);  // the file has become shorter since it was opened
  const auto pieces = passage.done == 0 ? std::span(passage.pieces, passage.count) : remainder(passage);
  if (!submit(passage, pieces)) finish(passage, -EIO);
}

void FileDevice::finish(Passage& passage, int32_t result) {
  MEMKV_ASSERT(in_flight_ > 0 && passage.outer->pending(), "finished twice");
  IoOp& op = *passage.outer;
  load_.end(passage.flight, result >= 0);
  release(passage);
  in_flight_--;
  op.kind = IoOp::Kind::kIdle;
  op.on_done(op, result);
}

/// Turns an errno of open(), flock() or format into a sentence that tells whoever typed the path what to do.
Message message_of(const std::string& path, int error) {
  const auto text = [&](const char* rest) { return Message{Status::kInvalid, path + ": " + rest}; };
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return text("no such file or device");
    case EACCES:
    case EPERM:
      return text("permission denied: the server's user needs to read and write it");
    case EISDIR:
      return text("is a directory; give a file or a block device");
    case EBUSY:
      return text("the block device is in use (mounted, part of an array, or opened by another process)");
    case EROFS:
      return text("is read-only");
    case EWOULDBLOCK:
      return text("in use by another process");
    case ENOSPC:
      return {Status::kNoSpace, path + ": no space left on the file system"};
    case EDQUOT:
      return {Status::kNoSpace, path + ": the disk quota does not allow that much"};
    case ECANCELED:
      return {Status::kCanceled, path + ": interrupted: the file is removed again"};
    case EEXIST:
      return {Status::kExists, path + ": already exists"};
    default:
      return {Status::kIo, path + ": " + strerror(error)};
  }
}

Message with_status(Message message, Status status) { return message.status = status, std::move(message); }

struct Opened {
  base::UniqueFd fd;
  bool direct = true;
  int error = 0;
};

Opened open_direct(const std::string& path, int flags, mode_t mode = 0) {
  Opened opened;
  opened.fd = base::UniqueFd(::open(path.c_str(), flags | O_DIRECT | O_CLOEXEC, mode));
  if (!opened.fd && errno == EINVAL) {  // tmpfs before Linux 6.6 and some others
    opened.direct = false;
    opened.fd = base::UniqueFd(::open(path.c_str(), (flags & ~O_EXCL) | O_CLOEXEC, mode));
  }
  if (!opened.fd) opened.error = errno;
  return opened;
}

void sleep_ms(uint64_t ms) {
  const timespec pause{static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000 * 1'000'000)};
  nanosleep(&pause, nullptr);
}

/// Repeats `call` while it fails with `busy`, until the time is over. A process that was killed keeps its lock until
/// the kernel has finished its last writes.
template <typename Try>
int retry_while_busy(uint32_t wait_ms, int busy, Try&& attempt) {
  for (uint64_t waited = 0;; waited += kLockRetryMs) {
    const int error = attempt();
    if (error != busy || waited >= wait_ms) return error;
    sleep_ms(kLockRetryMs);
  }
}

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// True if a loss of power can take writes that the drive has acknowledged. True also where that cannot be found out.
bool has_volatile_cache(dev_t device) {
  const std::string base = "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  std::string cache = read_line(base + "/queue/write_cache");
  if (cache.empty()) cache = read_line(base + "/../queue/write_cache");  // a partition: its drive has the queue
  return cache != "write through";
}

/// Fills in what a block device says about itself. Returns an errno.
int describe_raw(int fd, const struct stat& status, DeviceInfo& info) {
  uint64_t size = 0;
  int sector = 0;
  if (ioctl(fd, BLKGETSIZE64, &size) < 0 || ioctl(fd, BLKSSZGET, &sector) < 0) return errno;
  info.raw = true;
  info.size_bytes = size;
  info.sector_bytes = static_cast<uint32_t>(sector);
  info.volatile_cache = has_volatile_cache(status.st_rdev);
  return 0;
}

class OpenDrive final : public DriveFile {
 public:
  OpenDrive(base::UniqueFd fd, DeviceInfo info) : fd_(std::move(fd)), info_(std::move(info)) {}

  const DeviceInfo& info() const override { return info_; }
  int fd() const override { return fd_.get(); }
  std::unique_ptr<BlockDevice> bind(Reactor& reactor) override { return std::make_unique<FileDevice>(*this, reactor); }
  Result<void> read_now(uint64_t offset, std::span<std::byte> out) override;
  Result<void> write_now(uint64_t offset, std::span<const std::byte> bytes) override;

 private:
  Result<void> check(uint64_t offset, size_t bytes) const;

  base::UniqueFd fd_;
  DeviceInfo info_;
};

Result<void> OpenDrive::check(uint64_t offset, size_t bytes) const {
  MEMKV_ASSERT(base::is_aligned(offset, base::kSectorBytes) && base::is_aligned(bytes, base::kSectorBytes));
  if (offset > info_.size_bytes || bytes > info_.size_bytes - offset) {
    return Error{Status::kInvalid, 0, "drive: range outside of the device"};
  }
  return {};
}

/// Moves all bytes with `call(at, length)`, which returns what preadv or pwritev would.
template <typename Call>
Result<void> move_all(size_t bytes, const char* what, Call&& call) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t moved = call(done, bytes - done);
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return Error{Status::kIo, moved < 0 ? errno : EIO, what};
    done += static_cast<size_t>(moved);
  }
  return {};
}

Result<void> OpenDrive::read_now(uint64_t offset, std::span<std::byte> out) {
  if (auto checked = check(offset, out.size()); !checked) return checked;
  auto bounce = HugeMemory::make(kBounceBytes, false);
  if (!bounce) return bounce.error();
  return move_all(out.size(), "drive: read", [&](size_t at, size_t length) {
    length = std::min(length, kBounceBytes);
    const ssize_t moved = pread(fd_.get(), bounce->data(), length, static_cast<off_t>(offset + at));
    if (moved > 0) std::memcpy(out.data() + at, bounce->data(), static_cast<size_t>(moved));
    return moved;
  });
}

Result<void> OpenDrive::write_now(uint64_t offset, std::span<const std::byte> bytes) {
  if (auto checked = check(offset, bytes.size()); !checked) return checked;
  auto bounce = HugeMemory::make(kBounceBytes, false);
  if (!bounce) return bounce.error();
  auto written = move_all(bytes.size(), "drive: write", [&](size_t at, size_t length) {
    length = std::min(length, kBounceBytes);
    std::memcpy(bounce->data(), bytes.data() + at, length);
    return pwrite(fd_.get(), bounce->data(), length, static_cast<off_t>(offset + at));
  });
  if (!written) return written;
  if (fdatasync(fd_.get()) < 0) return Error{Status::kIo, errno, "drive: fdatasync"};
  return {};
}

Result<DeviceInfo, Message> describe(int fd, const std::string& path, const struct stat& status, bool direct,
                                     const DriveFile::Options& options) {
  DeviceInfo info;
  info.path = path;
  info.direct = direct;
  if (S_ISBLK(status.st_mode)) {
    if (const int error = describe_raw(fd, status, info); error != 0) return message_of(path, error);
  } else {
    info.size_bytes = static_cast<uint64_t>(status.st_size);
    info.volatile_cache = true;  // nothing tells what drive lies below the file system
  }
  info.size_bytes = base::align_down(info.size_bytes, base::kSectorBytes);
  if (options.power_loss_protected) info.volatile_cache = false;
  if (info.size_bytes == 0) return Message{Status::kInvalid, path + ": has no room (size 0)"};
  if (info.sector_bytes > base::kSectorBytes) {
    return Message{Status::kInvalid,
                   path + ": sectors of " + std::to_string(info.sector_bytes) + " bytes; at most 4096 are supported"};
  }
  return info;
}

}  // namespace

/// Opens a file or block device for one server alone. A server that is just ending may still hold it, so a busy one is
/// tried again until `lock_wait_ms` is over.
Result<std::unique_ptr<DriveFile>, Message> DriveFile::open(const std::string& path, const Options& options) {
  struct stat status {};
  if (stat(path.c_str(), &status) < 0) return message_of(path, errno);
  if (S_ISDIR(status.st_mode)) return message_of(path, EISDIR);
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    return Message{Status::kInvalid, path + ": is neither a file nor a block device"};
  }
  // With O_EXCL and without O_CREAT the kernel refuses a block device that is mounted or part of an array.
  const int flags = O_RDWR | (S_ISBLK(status.st_mode) && options.lock ? O_EXCL : 0);
  Opened opened;
  const int failed = retry_while_busy(options.lock_wait_ms, EBUSY, [&] {
    opened = open_direct(path, flags);
    return opened.error;
  });
  if (failed != 0) return message_of(path, failed);
  const int fd = opened.fd.get();
  const bool lock = options.lock && base::rules().file_lock;
  const int locked = !lock ? 0 : retry_while_busy(options.lock_wait_ms, EWOULDBLOCK, [&] {
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? errno : 0;
  });
  if (locked != 0) return with_status(message_of(path, locked), Status::kBusy);
  // The status is read again, now of the file that is really open: while we waited for the lock somebody may have
  // removed it.
  if (fstat(fd, &status) < 0) return message_of(path, errno);
  if (S_ISREG(status.st_mode) && status.st_nlink == 0) return message_of(path, ENOENT);
  auto info = describe(fd, path, status, opened.direct, options);
  if (!info) return info.error();
  return std::unique_ptr<DriveFile>(std::make_unique<OpenDrive>(std::move(opened.fd), std::move(info).value()));
}

namespace {

/// Returns an errno; ECANCELED if `progress` stopped it.
int fill_with_zeros(int fd, uint64_t size, FillProgress progress, void* context) {
  auto zeros = HugeMemory::make(kFillBytes, true);
  if (!zeros) return ENOMEM;
  // fallocate() fails early where a quota or the file system has no room. Some file systems do not have it; there the
  // writes below fail.
  if (fallocate(fd, 0, 0, static_cast<off_t>(size)) < 0 && (errno == ENOSPC || errno == EDQUOT)) return errno;
  for (uint64_t done = 0; done < size;) {
    const size_t length = std::min<uint64_t>(kFillBytes, size - done);
    const ssize_t written = pwrite(fd, zeros->data(), length, static_cast<off_t>(done));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : EIO;
    done += static_cast<uint64_t>(written);
    if (progress && !progress(done, size, context)) return ECANCELED;
  }
  return fdatasync(fd) < 0 ? errno : 0;
}

/// Asks a file system that writes each block to a new place (btrfs) to write this file in place. Otherwise an overwrite
/// would need free room, which a full file system does not have; and after a crash the new bytes would be found only
/// from the next commit on, up to 30 s later. This works on an empty file only. Other file systems have no such flag
/// and need none.
void ask_for_writes_in_place(int fd) {
  int flags = 0;
  if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0) return;
  flags |= FS_NOCOW_FL;
  (void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/// Syncs the directory: a new name is durable only with it.
int sync_directory_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  base::UniqueFd directory(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return directory && fsync(directory.get()) == 0 ? 0 : errno;
}

}  // namespace

Result<void, Message> create_drive_file(const std::string& path, uint64_t size_bytes, FillProgress progress,
                                        void* context) {
  if (size_bytes == 0 || !base::is_aligned(size_bytes, base::kSectorBytes)) {
    return Message{Status::kInvalid, path + ": the size must be a positive multiple of 4096 bytes"};
  }
  if (auto room = check_room({{path, size_bytes}}); !room && ::access(path.c_str(), F_OK) != 0) return room;
  // First it is made with O_EXCL, and opened with O_DIRECT afterwards: a second try without O_DIRECT must not take our
  // own half-made file for somebody else's.
  base::UniqueFd created(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!created) return message_of(path, errno);
  ask_for_writes_in_place(created.get());
  Opened opened = open_direct(path, O_RDWR);
  int failed = opened.fd ? fill_with_zeros(opened.fd.get(), size_bytes, progress, context) : opened.error;
  if (failed == 0) failed = sync_directory_of(path);
  if (failed == 0) return {};
  unlink(path.c_str());
  return message_of(path, failed);
}

}  // namespace memkv::io
