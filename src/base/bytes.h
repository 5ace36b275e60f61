#pragma once
/// Spans of bytes, little-endian loads and stores, alignment, and sizes by name.

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace memkv::base {

using Bytes = std::span<const std::byte>;  ///< borrowed, read only
using MutBytes = std::span<std::byte>;     ///< borrowed, writable

inline constexpr uint64_t kKiB = uint64_t{1} << 10;
inline constexpr uint64_t kMiB = uint64_t{1} << 20;
inline constexpr uint64_t kGiB = uint64_t{1} << 30;
inline constexpr uint64_t kTiB = uint64_t{1} << 40;

static_assert(std::endian::native == std::endian::little, "loads and stores below copy native integers");

inline uint16_t load_u16(const void* from) {
  uint16_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
inline uint32_t load_u32(const void* from) {
  uint32_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
/// Six bytes, the width of sequences and offsets on disk and wire.
inline uint64_t load_u48(const void* from) {
  uint64_t value = 0;
  std::memcpy(&value, from, 6);
  return value;
}
inline uint64_t load_u64(const void* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline void store_u16(void* to, uint16_t value) { std::memcpy(to, &value, sizeof value); }
inline void store_u32(void* to, uint32_t value) { std::memcpy(to, &value, sizeof value); }
/// Stores the low six bytes; the caller knows that the rest is zero.
inline void store_u48(void* to, uint64_t value) { std::memcpy(to, &value, 6); }
inline void store_u64(void* to, uint64_t value) { std::memcpy(to, &value, sizeof value); }

/// `alignment` is a power of two, here and below.
constexpr uint64_t align_up(uint64_t value, uint64_t alignment) { return (value + alignment - 1) & ~(alignment - 1); }
constexpr uint64_t align_down(uint64_t value, uint64_t alignment) { return value & ~(alignment - 1); }
constexpr bool is_aligned(uint64_t value, uint64_t alignment) { return (value & (alignment - 1)) == 0; }
inline bool is_aligned(const void* pointer, uint64_t alignment) {
  return is_aligned(reinterpret_cast<uintptr_t>(pointer), alignment);
}

/// Any object or range of trivially copyable values, seen as bytes.
inline Bytes bytes_of(const void* data, size_t size) { return {static_cast<const std::byte*>(data), size}; }
inline MutBytes mut_bytes_of(void* data, size_t size) { return {static_cast<std::byte*>(data), size}; }

/// Characters seen as bytes and back; borrows.
template <typename Text>
requires requires(const Text& text) {
  { text.data() } -> std::convertible_to<const char*>;
  text.size();
}
Bytes as_bytes(const Text& text) { return bytes_of(text.data(), text.size()); }

}  // namespace memkv::base
