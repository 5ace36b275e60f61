#pragma once
/// Memory on 2 MiB pages where the machine has them.

#include <cstddef>
#include <span>

#include "memkv/error.h"

namespace memkv::io {

inline constexpr size_t kHugePageBytes = size_t{2} << 20;

/// Owns a mapping of zeros that starts at a multiple of 2 MiB. It lies in reserved huge pages (MAP_HUGETLB) if there
/// are enough of them, else it is advised with MADV_HUGEPAGE.
class HugeMemory {
 public:
  /// `prefault`: touch all pages now, so that no request pays for a page fault (2 us for 4 KiB, 270 us for 2 MiB).
  /// Fails with kNoSpace and the errno of mmap.
  static Result<HugeMemory> make(size_t bytes, bool prefault);
  HugeMemory() = default;
  HugeMemory(HugeMemory&& other) noexcept;
  HugeMemory& operator=(HugeMemory&& other) noexcept;
  ~HugeMemory();

  std::byte* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<std::byte> bytes() const { return {data_, size_}; }
  bool reserved() const { return reserved_; }  ///< true if it lies in MAP_HUGETLB pages

 private:
  bool map_reserved(size_t bytes, bool prefault);
  int map_aligned(size_t bytes);

  std::byte* data_ = nullptr;
  size_t size_ = 0;
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  bool reserved_ = false;
};

/// The whole pages of a range of private memory become other, zeroed pages at the same addresses; whoever still refers to
/// the old ones sees no more of what is written here. Not on reserved hugepages. Asserts that it worked: nothing may be
/// written there otherwise. `prefault` as above.
void renew_pages(std::span<std::byte> memory, bool prefault);

/// Puts a memfd of a multiple of 2 MiB onto 2 MiB pages, whatever `shmem_enabled` says (Linux 6.1). False: not all
/// of it is, and what is not takes memory only where it was touched. Nobody may have it mapped yet.
bool use_huge_pages(int memfd, size_t bytes);

}  // namespace memkv::io
