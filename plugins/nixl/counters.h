#pragma once
/// What one backend has done. NIXL's own telemetry has no way in for plugins.

#include <cstdint>
#include <span>
#include <string>

#include "base/metrics.h"
#include "memkv/client.h"

namespace memkv::nixl {

using base::Counter;

struct Counters {
  Counter read_requests, write_requests;  ///< posted
  Counter read_descriptors, write_descriptors;
  Counter read_wire_ops, write_wire_ops;  ///< ranges of keys asked of the client, before it splits them into units
  Counter read_bytes, write_bytes;        ///< of descriptors that were delivered
  Counter read_wire_bytes, write_wire_bytes;
  Counter refetched_bytes;  ///< fetched a second time because no copy serves better
  Counter copies, copied_bytes;
  Counter vram_direct_bytes;  ///< between VRAM and the wire without host memory
  Counter vram_staged_bytes;  ///< by way of host memory
  Counter misses;             ///< wire operations that found no object, a hole or a short one
  Counter unreachable;        ///< whose server is down or said nothing
  Counter timeouts;           ///< whose server lives, but was not done by the deadline
  Counter refusals;           ///< whose server did not take them: busy, not ready, full, credential, version
  Counter errors;             ///< that failed otherwise
  Counter failed_requests, canceled_requests;
  Counter range_writes;  ///< changed a part of an object: the server reads, merges and writes
  Counter range_write_bytes;
  Counter already_present;  ///< writes that write_mode=if_absent left out
  Counter queries, queried_keys, found_keys;
  Counter unasked_keys;               ///< their servers could not be asked: they counted as absent
  Counter plan_ns, wire_ns, copy_ns;  ///< summed over requests
};

/// One line for people.
std::string summary(const Counters& counters);
/// Prometheus text, one sample for each counter.
std::string prometheus(const Counters& counters, const std::string& agent);
/// Likewise, one sample for each counter and rail. Empty without rails.
std::string prometheus(std::span<const RailCounters> rails, const std::string& agent);

}  // namespace memkv::nixl
