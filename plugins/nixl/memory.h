#pragma once
/// Where a piece of the caller's memory lies.

#include <cstdint>

namespace memkv::nixl {

enum class MemoryKind : uint8_t { kHost = 0, kCuda = 1 };
inline constexpr unsigned kMemoryKinds = 2;

/// The first byte of a piece of memory. All places of a process share one address space (CUDA's unified addressing):
/// two of them are the same byte exactly if their addresses are equal.
struct Place {
  uintptr_t address = 0;
  uint32_t device = 0;  ///< CUDA device; unused for the host
  MemoryKind kind = MemoryKind::kHost;

  constexpr Place operator+(uint64_t bytes) const { return {address + bytes, device, kind}; }
  friend bool operator==(const Place&, const Place&) = default;
};

}  // namespace memkv::nixl
