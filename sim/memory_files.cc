#include "sim/memory_files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/bytes.h"

namespace memkv::sim {
namespace {

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

constexpr size_t kPageBytes = 4096;

}  // namespace

/// Its memory is taken with its size, and given back when nothing names the file any more.
struct MemoryFiles::File {
  File(std::vector<File*>& made, uint32_t host) : all(made), maker(host) { all.push_back(this); }
  ~File() {
    std::erase(all, this);
    if (data != nullptr) syscall(SYS_munmap, data, base::align_up(bytes, kPageBytes));
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::vector<File*>& all;
  uint32_t maker;
  bool maker_lives = true;
  std::byte* data = nullptr;
  uint64_t bytes = 0;
  int seals = 0;
  uint32_t opens = 0;  ///< descriptions that the kernel counts
};

class MemoryFiles::Description {
 public:
  /// The kernel does not count the description that memfd_create() makes.
  Description(std::shared_ptr<File> named, bool writes, bool counts)
      : file(std::move(named)), writable(writes), counted(counts) {
    file->opens += counted ? 1 : 0;
  }
  ~Description() { file->opens -= counted ? 1 : 0; }
  Description(const Description&) = delete;
  Description& operator=(const Description&) = delete;

  const std::shared_ptr<File> file;
  const bool writable, counted;
};

std::shared_ptr<MemoryFiles::Description> MemoryFiles::description(int fd) const {
  const auto at = descriptors_.find(fd);
  MEMKV_ASSERT(at != descriptors_.end(), "no such descriptor");
  return at->second.description;
}

MemoryFiles::File& MemoryFiles::file(int fd) const { return *description(fd)->file; }

int MemoryFiles::install(uint32_t host, std::shared_ptr<Description> description) {
  descriptors_.emplace(next_fd_, Descriptor{host, std::move(description)});
  return next_fd_++;
}

int MemoryFiles::create(uint32_t host) {
  const auto refused = refused_until_ns_.find(host);
  if (refused != refused_until_ns_.end() && world_.now_ns() < refused->second) return -ENFILE;
  files_made_++;
  return install(host, std::make_shared<Description>(std::make_shared<File>(files_, host), true, false));
}

int MemoryFiles::reopen(uint32_t host, int fd, bool writable) {
  return install(host, std::make_shared<Description>(description(fd)->file, writable, true));
}

void MemoryFiles::close(int fd) { descriptors_.erase(fd); }

int MemoryFiles::truncate(int fd, uint64_t bytes) {
  File& f = file(fd);
  if (bytes < f.bytes && (f.seals & F_SEAL_SHRINK) != 0) return -EPERM;
  if (bytes > f.bytes && (f.seals & F_SEAL_GROW) != 0) return -EPERM;
  MEMKV_ASSERT(f.data == nullptr || bytes == f.bytes, "a simulated file gets its size once");
  if (f.data != nullptr) return 0;
  const long at = syscall(SYS_mmap, nullptr, base::align_up(bytes, kPageBytes), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == -1) return -ENOMEM;
  f.data = reinterpret_cast<std::byte*>(at);
  f.bytes = bytes;
  syscall(SYS_madvise, f.data, base::align_up(bytes, kPageBytes), MADV_NOHUGEPAGE);  // most of it is never touched
  return 0;
}

int MemoryFiles::add_seals(int fd, int seals) {
  File& f = file(fd);
  if ((f.seals & F_SEAL_SEAL) != 0) return -EPERM;
  f.seals |= seals;
  return 0;
}

int MemoryFiles::seals(int fd) const { return file(fd).seals; }

int MemoryFiles::try_lease(int fd) const { return file(fd).opens > (description(fd)->counted ? 1u : 0u) ? -EAGAIN : 0; }

int MemoryFiles::status(int fd, struct stat* out) const {
  std::memset(out, 0, sizeof *out);
  out->st_mode = S_IFREG | 0600;
  out->st_size = static_cast<off_t>(file(fd).bytes);
  return 0;
}

ssize_t MemoryFiles::read(int fd, std::span<const iovec> pieces, uint64_t offset) const {
  const File& f = file(fd);
  const uint64_t begin = offset;
  for (const iovec& piece : pieces) {
    const size_t bytes = std::min<uint64_t>(piece.iov_len, f.bytes - std::min(offset, f.bytes));
    if (bytes > 0) std::memcpy(piece.iov_base, f.data + offset, bytes);
    offset += bytes;
  }
  return static_cast<ssize_t>(offset - begin);
}

int MemoryFiles::punch_hole(int fd, uint64_t offset, uint64_t bytes) {
  File& f = file(fd);
  if ((f.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) return -EPERM;
  MEMKV_ASSERT(base::is_aligned(offset, kPageBytes) && offset + bytes <= f.bytes, "holes are whole pages");
  syscall(SYS_madvise, f.data + offset, base::align_up(bytes, kPageBytes), MADV_DONTNEED);  // reads as zeros
  return 0;
}

void* MemoryFiles::map(uint32_t host, int fd, size_t bytes, bool writable, uint64_t offset) {
  const std::shared_ptr<Description> named = description(fd);
  File& f = *named->file;
  const auto refused = [](int error) { return reinterpret_cast<void*>(static_cast<intptr_t>(-error)); };
  if (writable && !named->writable) return refused(EACCES);
  if (writable && (f.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) return refused(EPERM);
  MEMKV_ASSERT(f.data != nullptr && offset + bytes <= f.bytes, "a mapping beyond the end of the file would fault");
  mappings_.push_back({host, {f.data + offset, bytes}, writable, named});
  return f.data + offset;
}

/// Mappings of both ends are at one address, so a mapping is known by its process as well.
bool MemoryFiles::unmap(uint32_t host, void* at, size_t bytes) {
  const auto same = [&](const Mapping& m) {
    return m.host == host && m.memory.data() == at && m.memory.size() == bytes;
  };
  const auto found = std::find_if(mappings_.begin(), mappings_.end(), same);
  if (found == mappings_.end()) return false;
  mappings_.erase(found);
  return true;
}

void MemoryFiles::kill(uint32_t host) {
  std::erase_if(descriptors_, [&](const auto& one) { return one.second.host == host; });
  std::erase_if(mappings_, [&](const Mapping& one) { return one.host == host; });
  kept_.erase(host);
  for (File* f : files_) f->maker_lives = f->maker_lives && f->maker != host;
}

std::vector<std::span<std::byte>> MemoryFiles::writable(uint32_t host) const {
  std::vector<std::span<std::byte>> out;
  for (const Mapping& one : mappings_) {
    if (one.host == host && one.writable) out.push_back(one.memory);
  }
  return out;
}

void MemoryFiles::keep_all(uint32_t host, bool keeps) {
  if (!keeps) return void(kept_.erase(host));
  for (const Mapping& one : mappings_) {
    if (one.host == host) kept_[host].push_back(one);
  }
}

uint64_t MemoryFiles::bytes_made(uint32_t host) const {
  uint64_t sum = 0;
  for (const File* f : files_) sum += f->maker_lives && f->maker == host ? f->bytes : 0;
  return sum;
}

}  // namespace memkv::sim
