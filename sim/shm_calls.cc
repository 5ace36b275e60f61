/// More definitions that take the place of the C library's (see sim/calls.cc): what the shm transport asks of the system
/// for its memory, and what shm and RDMA send without a loop, and ask of descriptors and paths.

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "sim/calls.h"
#include "sim/fabric.h"
#include "sim/network.h"

namespace memkv::sim {
namespace {

constexpr std::string_view kOwnDescriptors = "/proc/self/fd/";

/// Null: the descriptor is the kernel's.
MemoryFiles* memory_of(int fd) {
  return fd >= MemoryFiles::kFirstFd && network_now() != nullptr ? &network_now()->memory() : nullptr;
}

bool is_socket(int fd) { return network_now() != nullptr && fd >= Network::kFirstFd && fd < MemoryFiles::kFirstFd; }

template <typename Number>
Number answer(Number result) {
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return -1;
}

int memory_control(MemoryFiles& memory, int fd, int command, long argument) {
  if (command == F_ADD_SEALS) return answer(memory.add_seals(fd, static_cast<int>(argument)));
  if (command == F_GET_SEALS) return answer(memory.seals(fd));
  if (command == F_SETLEASE && argument == F_WRLCK) return answer(memory.try_lease(fd));
  return 0;
}

}  // namespace
}  // namespace memkv::sim

using namespace memkv::sim;

extern "C" {

int memfd_create(const char* name, unsigned int flags) noexcept {
  if (network_now() == nullptr) return static_cast<int>(syscall(SYS_memfd_create, name, flags));
  return answer(network_now()->memory().create(host_now()));
}

int ftruncate(int fd, off_t bytes) noexcept {
  MemoryFiles* memory = memory_of(fd);
  if (memory == nullptr) return static_cast<int>(syscall(SYS_ftruncate, fd, bytes));
  return answer(memory->truncate(fd, static_cast<uint64_t>(bytes)));
}

int fcntl(int fd, int command, ...) {
  va_list list;
  va_start(list, command);
  const long argument = va_arg(list, long);
  va_end(list);
  MemoryFiles* memory = memory_of(fd);
  if (memory != nullptr) return memory_control(*memory, fd, command, argument);
  if (is_socket(fd)) return 0;  // nothing of theirs ever blocks
  return static_cast<int>(syscall(SYS_fcntl, fd, command, argument));
}

int open(const char* path, int flags, ...) {
  va_list list;
  va_start(list, flags);
  const unsigned int mode = va_arg(list, unsigned int);
  va_end(list);
  const std::string_view text(path);
  if (text.starts_with(kOwnDescriptors)) {
    const int fd = std::atoi(path + kOwnDescriptors.size());
    MemoryFiles* memory = memory_of(fd);
    if (memory != nullptr) return memory->reopen(host_now(), fd, (flags & O_ACCMODE) != O_RDONLY);
  }
  return static_cast<int>(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int fstat(int fd, struct stat* out) noexcept {
  MemoryFiles* memory = memory_of(fd);
  if (memory == nullptr) return static_cast<int>(syscall(SYS_fstat, fd, out));
  return answer(memory->status(fd, out));
}

int fstatfs(int fd, struct statfs* out) noexcept {
  if (memory_of(fd) == nullptr) return static_cast<int>(syscall(SYS_fstatfs, fd, out));
  std::memset(out, 0, sizeof *out);
  out->f_type = TMPFS_MAGIC;
  return 0;
}

int fallocate(int fd, int mode, off_t offset, off_t bytes) {
  MemoryFiles* memory = memory_of(fd);
  if (memory == nullptr) return static_cast<int>(syscall(SYS_fallocate, fd, mode, offset, bytes));
  return answer(memory->punch_hole(fd, static_cast<uint64_t>(offset), static_cast<uint64_t>(bytes)));
}

ssize_t preadv(int fd, const iovec* pieces, int count, off_t offset) {
  MemoryFiles* memory = memory_of(fd);
  if (memory == nullptr) return syscall(SYS_preadv, fd, pieces, count, offset, 0L);
  return answer(memory->read(fd, {pieces, static_cast<size_t>(count)}, static_cast<uint64_t>(offset)));
}

void* mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) noexcept {
  MemoryFiles* memory = memory_of(fd);
  if (memory == nullptr) return reinterpret_cast<void*>(syscall(SYS_mmap, at, bytes, protection, flags, fd, offset));
  const bool writable = (protection & PROT_WRITE) != 0;
  if ((flags & MAP_FIXED) != 0) return reinterpret_cast<void*>(answer<intptr_t>(-ENOTSUP));  // a file has one address
  void* mapped = memory->map(host_now(), fd, bytes, writable, static_cast<uint64_t>(offset));
  const auto number = reinterpret_cast<intptr_t>(mapped);
  return number < 0 && number > -4096 ? reinterpret_cast<void*>(answer(number)) : mapped;
}

int munmap(void* at, size_t bytes) noexcept {
  if (network_now() != nullptr && network_now()->memory().unmap(host_now(), at, bytes)) return 0;
  return static_cast<int>(syscall(SYS_munmap, at, bytes));
}

int access(const char* path, int mode) noexcept {
  constexpr std::string_view kNodes = "/sys/class/infiniband_verbs/";  // a device that is gone has none any more
  const std::string_view name(path);
  const bool node = name.starts_with(kNodes);
  if (network_now() == nullptr || (!node && !name.starts_with(kLocalFolder)))
    return static_cast<int>(syscall(SYS_faccessat, AT_FDCWD, path, mode));
  const bool there = node ? fabric().has_node(name.substr(kNodes.size())) : network_now()->finds(host_now(), path);
  return answer(there ? 0 : -ENOENT);
}

ssize_t send(int fd, const void* data, size_t bytes, int flags) {
  if (!is_socket(fd)) return syscall(SYS_sendto, fd, data, bytes, flags, nullptr, 0);
  const iovec piece{const_cast<void*>(data), bytes};
  return answer(network_now()->send_now(fd, piece));
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  if (!is_socket(fd)) return syscall(SYS_sendmsg, fd, message, flags);
  std::vector<int> descriptors;
  if (const cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr && header->cmsg_type == SCM_RIGHTS) {
    descriptors.resize((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(descriptors.data(), CMSG_DATA(header), descriptors.size() * sizeof(int));
  }
  return answer(network_now()->send_local(fd, {message->msg_iov, message->msg_iovlen}, descriptors));
}

/// No world uses the machine's own library: where there is RDMA, it is simulated.
void* dlopen(const char* name, int mode) noexcept {
  if (network_now() != nullptr && name != nullptr && std::string_view(name).starts_with("libibverbs")) return nullptr;
  static const auto next = reinterpret_cast<void* (*)(const char*, int)>(dlsym(RTLD_NEXT, "dlopen"));
  return next(name, mode);
}

}  // extern "C"
