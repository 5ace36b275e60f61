#pragma once
/// The bytes behind memory devices and faulty devices.

#include "io/huge_memory.h"

namespace memkv::io {

/// Zeroed memory, faulted in as it is touched. May outlive every device on it, as a drive outlives a process.
class MemoryStorage {
 public:
  explicit MemoryStorage(HugeMemory memory) : memory_(std::move(memory)) {}
  std::byte* data() const { return memory_.data(); }
  uint64_t size() const { return memory_.size(); }

 private:
  HugeMemory memory_;
};

}  // namespace memkv::io
