#include "io/huge_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "base/assert.h"
#include "base/bytes.h"

namespace memkv::io {
namespace {

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // newer than the headers of Debian 12
#endif

constexpr size_t kSmallPageBytes = 4096;

void prefault_all(std::byte* data, size_t bytes) {
  // MADV_POPULATE_WRITE (Linux 5.14) does it in one call. Without it each page is touched.
  if (madvise(data, bytes, MADV_POPULATE_WRITE) == 0) return;
  for (size_t at = 0; at < bytes; at += kSmallPageBytes) *static_cast<volatile std::byte*>(data + at) = std::byte{0};
}

}  // namespace

bool HugeMemory::map_reserved(size_t bytes, bool prefault) {
  // Pages are not touched here, so one that turns out to be missing later would be a SIGBUS. So without a prefault
  // reserved huge pages are not used.
  if (!prefault) return false;
  const size_t rounded = base::align_up(bytes, kHugePageBytes);
  void* at = mmap(nullptr, rounded, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | (21 << MAP_HUGE_SHIFT), -1, 0);
  if (at == MAP_FAILED) return false;
  if (madvise(at, rounded, MADV_POPULATE_WRITE) != 0) {
    munmap(at, rounded);
    return false;
  }
  mapping_ = at;
  mapping_bytes_ = rounded;
  data_ = static_cast<std::byte*>(at);
  reserved_ = true;
  return true;
}

int HugeMemory::map_aligned(size_t bytes) {
  const size_t with_slack = base::align_up(bytes, kHugePageBytes) + kHugePageBytes;
  void* at = mmap(nullptr, with_slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return errno;
  mapping_ = at;
  mapping_bytes_ = with_slack;
  data_ = reinterpret_cast<std::byte*>(base::align_up(reinterpret_cast<uintptr_t>(at), kHugePageBytes));
  madvise(data_, base::align_up(bytes, kHugePageBytes), MADV_HUGEPAGE);  // a hint
  return 0;
}

Result<HugeMemory> HugeMemory::make(size_t bytes, bool prefault) {
  MEMKV_ASSERT(bytes > 0);
  HugeMemory memory;
  memory.size_ = bytes;
  if (memory.map_reserved(bytes, prefault)) return memory;
  if (const int failed = memory.map_aligned(bytes); failed != 0) return Error{Status::kNoSpace, failed, "mmap"};
  if (prefault) prefault_all(memory.data_, bytes);
  return memory;
}

HugeMemory::HugeMemory(HugeMemory&& other) noexcept { *this = std::move(other); }

HugeMemory& HugeMemory::operator=(HugeMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapping_, other.mapping_);
  std::swap(mapping_bytes_, other.mapping_bytes_);
  std::swap(reserved_, other.reserved_);
  return *this;
}

HugeMemory::~HugeMemory() {
  if (mapping_) munmap(mapping_, mapping_bytes_);
}

void renew_pages(std::span<std::byte> memory, bool prefault) {
  const auto at = reinterpret_cast<uintptr_t>(memory.data());
  const uintptr_t begin = base::align_up(at, kSmallPageBytes);
  const uintptr_t end = base::align_down(at + memory.size(), kSmallPageBytes);
  if (begin >= end) return;
  auto* pages = reinterpret_cast<std::byte*>(begin);
  const bool dropped = madvise(pages, end - begin, MADV_DONTNEED) == 0;
  MEMKV_ASSERT(dropped, "pages that a stopped peer may still be sent cannot be replaced");
  if (prefault) prefault_all(pages, end - begin);
}

bool use_huge_pages(int memfd, size_t bytes) {
  MEMKV_ASSERT(bytes > 0 && bytes % kHugePageBytes == 0);
  const size_t with_slack = bytes + kHugePageBytes;
  void* addresses = mmap(nullptr, with_slack, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (addresses == MAP_FAILED) return false;
  void* aligned = reinterpret_cast<void*>(base::align_up(reinterpret_cast<uintptr_t>(addresses), kHugePageBytes));
  bool huge = false;
  if (mmap(aligned, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, 0) == aligned) {
    // MADV_COLLAPSE skips a range in which no page exists, so one byte of each is touched first.
    for (size_t at = 0; at < bytes; at += kHugePageBytes)
      *(static_cast<volatile std::byte*>(aligned) + at) = std::byte{0};
    huge = madvise(aligned, bytes, MADV_COLLAPSE) == 0;
  }
  munmap(addresses, with_slack);
  return huge;
}

}  // namespace memkv::io
