#pragma once
/// What waits at a connection, by how it is sent.

#include "client/remote/unit.h"

namespace memkv::client {

/// Units that were given to a connection and have not left. Thread: the context's.
struct SendQueues {
  UnitQueue ops;    ///< without payload, and gets up to kEagerPayloadMax
  UnitQueue gets;   ///< larger ones
  UnitQueue small;  ///< payload up to kEagerPayloadMax
  UnitQueue large;
  UnitQueue gpu;    ///< whatever their size: their memory is exposed, for a get and for a payload
  UnitQueue hints;  ///< prefetches
  UnitQueue exists;
  UnitQueue admin;           ///< status, list: a frame of its own kind each
  uint64_t load_bytes = 0;   ///< of units here and in frames
  uint64_t given_bytes = 0;  ///< ever

  void add(Unit& unit);
  /// Hands over all of them, in no particular order between kinds.
  void take_all(UnitQueue& into);
  /// Ops: neither questions nor admin.
  size_t size() const { return ops.size() + gets.size() + small.size() + large.size() + gpu.size() + hints.size(); }
  bool empty() const { return size() == 0 && exists.empty() && admin.empty(); }
  bool less_loaded_than(const SendQueues& other) const {
    return load_bytes != other.load_bytes ? load_bytes < other.load_bytes : given_bytes < other.given_bytes;
  }
};

}  // namespace memkv::client
