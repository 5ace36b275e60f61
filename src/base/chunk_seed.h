#pragma once
/// The seed of a chunk's checksums. It is made from namespace, key and chunk number, so that bytes that belong to
/// another place never pass the check (docs/wire-protocol.md, "Checksums").

#include <cstdint>
#include <string_view>

#include "base/hash.h"

namespace memkv::base {

/// Grain i of the chunk is hashed with this seed + i.
inline uint64_t chunk_seed(uint64_t namespace_id, std::string_view key, uint32_t chunk_number) {
  const auto* bytes = reinterpret_cast<const std::byte*>(key.data());
  return xxh3({bytes, key.size()}, namespace_id) + uint64_t{chunk_number} * 0x9E3779B97F4A7C15ull;
}

}  // namespace memkv::base
