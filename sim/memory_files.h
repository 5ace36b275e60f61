#pragma once
/// Simulated files in memory (memfd_create): who has them open or mapped, and what their seals forbid. A dead process
/// has nothing open any more, and memory that nobody has is gone.

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "sim/world.h"

struct stat;

namespace memkv::sim {

/// All mappings of a file are the same memory, at the same address. Results are those of the system calls (>= 0, or
/// -errno). A process is known by its host. Thread: the world's.
class MemoryFiles {
 public:
  static constexpr int kFirstFd = 1'000'000'000;
  /// What a file descriptor names, and a message on a socket may carry.
  class Description;

  explicit MemoryFiles(World& world) : world_(world) {}
  MemoryFiles(const MemoryFiles&) = delete;
  MemoryFiles& operator=(const MemoryFiles&) = delete;

  // System calls of the process on `host`.
  int create(uint32_t host);
  int reopen(uint32_t host, int fd, bool writable);
  void close(int fd);
  int truncate(int fd, uint64_t bytes);
  int add_seals(int fd, int seals);
  int seals(int fd) const;
  /// The kernel gives a lease if nobody else has the file open or mapped.
  int try_lease(int fd) const;
  int status(int fd, struct stat* out) const;
  ssize_t read(int fd, std::span<const iovec> pieces, uint64_t offset) const;
  int punch_hole(int fd, uint64_t offset, uint64_t bytes);
  /// Returns -errno as an address, as the system call does.
  void* map(uint32_t host, int fd, size_t bytes, bool writable, uint64_t offset);
  /// False: the process has no such mapping of a file.
  bool unmap(uint32_t host, void* at, size_t bytes);

  // What sockets do with descriptors that a message carries.
  std::shared_ptr<Description> description(int fd) const;
  int install(uint32_t host, std::shared_ptr<Description> description);

  /// The process ended.
  void kill(uint32_t host);

  // Faults.
  /// It gets no file before that time.
  void refuse_until(uint32_t host, uint64_t ns) { refused_until_ns_[host] = ns; }
  /// What the process may write to.
  std::vector<std::span<std::byte>> writable(uint32_t host) const;
  /// From now on the process keeps each mapping, even if it unmaps it.
  void keep_all(uint32_t host, bool keeps);

  // For checks.
  size_t files() const { return files_.size(); }
  uint64_t files_made() const { return files_made_; }
  /// Of files that the living process on `host` has made.
  uint64_t bytes_made(uint32_t host) const;

 private:
  struct File;
  struct Mapping {
    uint32_t host = 0;
    std::span<std::byte> memory;
    bool writable = false;
    std::shared_ptr<Description> description;
  };
  struct Descriptor {
    uint32_t host = 0;
    std::shared_ptr<Description> description;
  };
  File& file(int fd) const;

  World& world_;
  std::map<int, Descriptor> descriptors_;
  std::vector<Mapping> mappings_;
  std::map<uint32_t, std::vector<Mapping>> kept_;  ///< by processes that keep everything
  std::vector<File*> files_;
  std::map<uint32_t, uint64_t> refused_until_ns_;
  int next_fd_ = kFirstFd;
  uint64_t files_made_ = 0;
};

}  // namespace memkv::sim
