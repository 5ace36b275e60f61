#include "io/huge_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vector>

#include "base/unique_fd.h"

namespace memkv::io {
namespace {

TEST(HugeMemory, StartsOnAHugePageAndIsZeroed) {
  for (const bool prefault : {false, true}) {
    auto memory = HugeMemory::make(100'000, prefault);
    ASSERT_TRUE(memory);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % kHugePageBytes, 0u);
    for (const std::byte byte : memory->bytes()) ASSERT_EQ(byte, std::byte{0});
  }
}

TEST(HugeMemory, AMemfdOnHugePagesIsWholeAndStillZero) {
  constexpr size_t kPages = 2, kBytes = kPages * kHugePageBytes;
  base::UniqueFd memfd(memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(memfd.get(), kBytes), 0);
  const bool huge = use_huge_pages(memfd.get(), kBytes);
  struct stat info {};
  ASSERT_EQ(fstat(memfd.get(), &info), 0);
  const auto taken = static_cast<size_t>(info.st_blocks) * 512;
  EXPECT_EQ(static_cast<size_t>(info.st_size), kBytes);
  EXPECT_LE(taken, kBytes);
  EXPECT_GE(taken, huge ? kBytes : kPages * 4096);
  std::vector<char> content(kBytes, 'x');
  ASSERT_EQ(pread(memfd.get(), content.data(), kBytes, 0), static_cast<ssize_t>(kBytes));
  EXPECT_EQ(content, std::vector<char>(kBytes));
}

TEST(HugeMemory, WhatIsNoMemfdIsNotPutOntoHugePages) { EXPECT_FALSE(use_huge_pages(-1, kHugePageBytes)); }

}  // namespace
}  // namespace memkv::io
