#include "transport/shm/window.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <cerrno>
#include <new>

#include "base/assert.h"
#include "base/bytes.h"
#include "io/huge_memory.h"
#include "transport/shm/reopen.h"

namespace memkv::transport {
namespace {

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010  // newer than the headers of Debian 12
#endif

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

uint64_t ring_and_page(uint64_t ring_bytes) { return ring_bytes + ShmPage::kBytes; }
/// A whole huge page: out of one pread copies 1.4 times as fast as out of small ones, each of which it looks up.
uint64_t put_file_bytes(uint64_t ring_bytes) { return base::align_up(ring_and_page(ring_bytes), io::kHugePageBytes); }

/// A memfd whose size is settled for good: nobody's mapping of it can ever fault for want of bytes.
Result<base::UniqueFd> make_memfd(const char* name, uint64_t bytes) {
  base::UniqueFd fd(memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return Error{Status::kBusy, errno, "shm: memfd_create"};
  if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) return Error{Status::kBusy, errno, "shm: ftruncate"};
  if (fcntl(fd.get(), F_ADD_SEALS, kSizeSeals) != 0) return Error{Status::kIo, errno, "shm: sealing"};
  return fd;
}

/// Of ordinary memory: huge pages of a pool can be had back from under a mapping, sealed or not.
bool sealed(int fd, uint64_t bytes) {
  struct stat info {};
  struct statfs system {};
  if (fstatfs(fd, &system) != 0 || system.f_type != TMPFS_MAGIC) return false;
  const int seals = fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & kSizeSeals) == kSizeSeals && fstat(fd, &info) == 0 &&
         static_cast<uint64_t>(info.st_size) == bytes;
}

}  // namespace

Result<std::byte*> ShmWindow::map(int fd, size_t bytes, uint64_t offset, bool writable) {
  const int protection = PROT_READ | (writable ? PROT_WRITE : 0);
  void* at = mmap(nullptr, bytes, protection, MAP_SHARED | MAP_POPULATE, fd, static_cast<off_t>(offset));
  if (at == MAP_FAILED) return Error{Status::kBusy, errno, "shm: mmap"};
  Mapping& mapping = mappings_[mappings_[0].data == nullptr ? 0 : 1];
  MEMKV_ASSERT(mapping.data == nullptr, "a window has two mappings");
  mapping = {static_cast<std::byte*>(at), bytes};
  return mapping.data;
}

ShmWindow::~ShmWindow() {
  for (const Mapping& mapping : mappings_) {
    if (mapping.data != nullptr) munmap(mapping.data, mapping.bytes);
  }
  // A client may keep its mapping, which would keep the memory: this much of it can be had back.
  if (in_fd_) {
    const auto bytes = static_cast<off_t>(put_file_bytes(sizes_.put_ring_bytes));
    (void)fallocate(in_fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes);
  }
  if (budget_ == nullptr) return;
  sent();
  budget_->retire(std::make_unique<ShmRemains>(out_fd_.get(), in_fd_.get(), charged_, holder_));
}

uint64_t ShmWindow::bytes(const wire::Windows& sizes) {
  return ring_and_page(sizes.get_ring_bytes) + put_file_bytes(sizes.put_ring_bytes);
}

Result<std::shared_ptr<ShmWindow>> ShmWindow::make(const wire::Windows& sizes, ShmBudget* budget,
                                                   const ShmHolder& holder) {
  MEMKV_ASSERT(std::has_single_bit(sizes.get_ring_bytes) && std::has_single_bit(sizes.put_ring_bytes));
  std::shared_ptr<ShmWindow> window(new ShmWindow);
  const uint64_t bytes = ShmWindow::bytes(sizes);
  if (budget != nullptr) {
    if (!budget->take(holder, bytes)) {
      return Error{Status::kBusy, 0, "shm: the memory for windows of this client is used up"};
    }
    window->budget_ = budget;
    window->holder_ = holder;
    window->charged_ = bytes;
  }
  window->sizes_ = sizes;
  auto get = make_memfd("memkv-get", ring_and_page(sizes.get_ring_bytes));
  if (!get) return get.error();
  auto put = make_memfd("memkv-put", put_file_bytes(sizes.put_ring_bytes));
  if (!put) return put.error();
  auto ring = window->map(get->get(), ring_and_page(sizes.get_ring_bytes), 0, true);
  if (!ring) return ring.error();
  (void)io::use_huge_pages(put->get(), put_file_bytes(sizes.put_ring_bytes));  // else on small ones
  auto page = window->map(put->get(), ShmPage::kBytes, sizes.put_ring_bytes, false);
  if (!page) return page.error();
  // From here on nobody can write to the get ring but through the mapping just made, nor punch holes into it.
  if (fcntl(get->get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0 ||
      fcntl(put->get(), F_ADD_SEALS, F_SEAL_SEAL) != 0) {
    return Error{Status::kIo, errno, "shm: sealing"};
  }
  window->own_ = new (*ring + sizes.get_ring_bytes) ShmPage;
  window->peer_ = reinterpret_cast<const ShmPage*>(*page);
  window->out_ = {*ring, sizes.get_ring_bytes};
  window->in_bytes_ = sizes.put_ring_bytes;
  window->given_get_ = reopen(get->get(), O_RDWR);
  window->given_put_ = reopen(put->get(), O_RDWR);
  if (!window->given_get_ || !window->given_put_) return Error{Status::kIo, errno, "shm: /proc is needed"};
  window->out_fd_ = std::move(*get);
  window->in_fd_ = std::move(*put);
  return window;
}

Result<std::shared_ptr<ShmWindow>> ShmWindow::take(const wire::Windows& sizes, base::UniqueFd get, base::UniqueFd put) {
  if (!sealed(get.get(), ring_and_page(sizes.get_ring_bytes)) ||
      !sealed(put.get(), put_file_bytes(sizes.put_ring_bytes))) {
    return Error{Status::kInvalid, 0, "shm: a window that is not sealed"};
  }
  std::shared_ptr<ShmWindow> window(new ShmWindow);
  window->sizes_ = sizes;
  auto in = window->map(get.get(), ring_and_page(sizes.get_ring_bytes), 0, false);
  if (!in) return in.error();
  auto out = window->map(put.get(), ring_and_page(sizes.put_ring_bytes), 0, true);
  if (!out) return out.error();
  window->own_ = new (*out + sizes.put_ring_bytes) ShmPage;
  window->peer_ = reinterpret_cast<const ShmPage*>(*in + sizes.get_ring_bytes);
  window->in_ = {*in, sizes.get_ring_bytes};
  window->in_bytes_ = sizes.get_ring_bytes;
  window->out_ = {*out, sizes.put_ring_bytes};
  return window;
}

}  // namespace memkv::transport
