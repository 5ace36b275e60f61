#pragma once
/// The memory behind memory devices and faulty devices.

#include "io/huge_memory.h"

namespace memkv::io {

/// Zeroed memory; a page exists once it is touched. It may outlive the devices on it, as a drive outlives a process.
class MemoryStorage {
 public:
  explicit MemoryStorage(HugeMemory memory) : memory_(std::move(memory)) {}
  std::byte* data() const { return memory_.data(); }
  uint64_t size() const { return memory_.size(); }

 private:
  HugeMemory memory_;
};

}  // namespace memkv::io
