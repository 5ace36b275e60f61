#pragma once
/// What may be under way on a connection, and what is.

#include <algorithm>

#include "client/remote/unit.h"

namespace memkv::client {

/// EXISTS frames without a reply; a server takes them in steps.
inline constexpr uint32_t kExistsFramesMax = 4;

/// Credit as the server grants it. Thread: the context's.
struct Credits {
  wire::Credit limit;
  uint32_t payload_grains = 0;  ///< by payloads of puts
  uint32_t ops = 0;             ///< in frames, not answered
  uint64_t get_bytes = 0;       ///< that large gets in frames ask for
  uint32_t exists_frames = 0;
  uint32_t eager_bytes = 0;    ///< payloads without credit
  uint64_t on_link_bytes = 0;  ///< payload in the link's hands

  uint32_t ops_left() const { return limit.ops > ops ? limit.ops - ops : 0; }
  bool has_for_get(uint64_t bytes) const {
    return get_bytes == 0 || get_bytes + bytes <= uint64_t{limit.gets} * base::kGrainBytes;
  }
  bool has_for_payload(uint32_t grains) const { return payload_grains == 0 || payload_grains + grains <= limit.puts; }
  bool has_for_exists() const { return exists_frames < kExistsFramesMax; }
  bool unused() const { return payload_grains == 0 && eager_bytes == 0 && ops == 0 && get_bytes == 0; }
};

}  // namespace memkv::client
