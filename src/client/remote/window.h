#pragma once
/// What may be under way on a connection, and what is.

#include <algorithm>

#include "client/remote/unit.h"

namespace memkv::client {

/// EXISTS frames without a reply; a server takes them in steps.
inline constexpr uint32_t kExistsFramesMax = 4;

/// Credit as the server grants it. Thread: the context's.
struct Window {
  wire::Credit limit;
  uint32_t payload_grains = 0;  ///< by payloads of puts
  uint32_t ops = 0;             ///< in frames, not answered
  uint64_t get_bytes = 0;       ///< that large gets in frames ask for
  uint32_t exists_frames = 0;
  uint32_t eager_bytes = 0;    ///< payloads without credit
  uint64_t on_link_bytes = 0;  ///< payload in the link's hands

  uint32_t ops_left() const { return limit.ops > ops ? limit.ops - ops : 0; }
  bool has_for_get(uint64_t bytes) const {
    return get_bytes == 0 || get_bytes + bytes <= uint64_t{limit.gets} * wire::kCreditUnit;
  }
  bool has_for_payload(uint32_t grains) const { return payload_grains == 0 || payload_grains + grains <= limit.puts; }
  bool has_for_exists() const { return exists_frames < kExistsFramesMax; }
  bool unused() const { return payload_grains == 0 && eager_bytes == 0 && ops == 0 && get_bytes == 0; }
};

/// Units that were given to a connection and have not left. Thread: the context's.
struct SendQueues {
  UnitQueue ops;    ///< without payload, and gets up to kEagerPayloadMax
  UnitQueue gets;   ///< larger ones
  UnitQueue small;  ///< payload up to kEagerPayloadMax
  UnitQueue large;
  UnitQueue gpu;  ///< whatever their size: their memory is exposed, for a get and for a payload
  UnitQueue exists;
  UnitQueue admin;           ///< status, list: a frame of its own kind each
  uint64_t load_bytes = 0;   ///< of units here and in frames
  uint64_t given_bytes = 0;  ///< ever

  void add(Unit& unit);
  /// Hands over all of them, in no particular order between kinds.
  void take_all(UnitQueue& into);
  /// Ops: neither questions nor admin.
  size_t size() const { return ops.size() + gets.size() + small.size() + large.size() + gpu.size(); }
  bool empty() const { return size() == 0 && exists.empty() && admin.empty(); }
  bool less_loaded_than(const SendQueues& other) const {
    return load_bytes != other.load_bytes ? load_bytes < other.load_bytes : given_bytes < other.given_bytes;
  }
};

}  // namespace memkv::client
