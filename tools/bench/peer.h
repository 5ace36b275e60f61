#pragma once
/// What MemKV is measured against: a bare request and response over TCP, memcached, and redis. One client drives all of
/// them.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/metrics.h"
#include "memkv/error.h"
#include "tools/bench/child.h"

namespace memkv::bench {

enum class PeerKind : uint8_t { kBare, kMemcached, kRedis };

/// Where the bare server has its blocks. With an empty path they lie in cold memory.
struct BareOptions {
  std::string drive;  ///< a file of at least `drive_bytes` for direct I/O
  uint64_t drive_bytes = 0;
  uint64_t block_bytes = 0;  ///< of the run; decides the size of slots
  bool hash = false;
  bool lend = false;  ///< gets from memory go with one copy
  std::string congestion;
};

struct Peer {
  PeerKind kind = PeerKind::kBare;
  std::unique_ptr<Child> child;
  uint16_t port = 0;
};
Result<Peer, Message> start_bare(const BareOptions& options);
Result<Peer, Message> start_memcached(const std::string& dir);
Result<Peer, Message> start_redis(const std::string& dir);

struct PeerPlan {
  const Peer* peer = nullptr;
  bool put = false;
  uint64_t block_bytes = 0;
  uint32_t connections = 1, depth = 8;
  uint64_t keys = 0;
  uint64_t bytes = 0;
  uint64_t window_bytes = 0;
  double seconds_max = 1e9;
  bool hash = false;  ///< the client makes checksums of what it sends or gets
  bool lend = false;  ///< the client's puts go with one copy; of the bare protocol only
  std::string congestion;
};
struct PeerResult {
  uint64_t ops = 0, bytes = 0;
  double seconds = 0;
  double cpu_seconds = 0;   ///< client and server together
  base::Histogram latency;  ///< at depth 1 only
  double gib_per_s() const { return seconds > 0 ? static_cast<double>(bytes) / seconds / (1 << 30) : 0; }
  double ops_per_s() const { return seconds > 0 ? static_cast<double>(ops) / seconds : 0; }
  double cpu_s_per_gib() const { return bytes > 0 ? cpu_seconds / static_cast<double>(bytes) * (1 << 30) : 0; }
};
Result<void, Message> run_peer(const PeerPlan& plan, PeerResult& result);

}  // namespace memkv::bench
