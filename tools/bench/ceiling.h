#pragma once
/// Measures what this machine can do at most now.

#include <optional>
#include <string>
#include <vector>

#include "tools/bench/peer.h"

namespace memkv::bench {

/// One measurement and the setting that gave it.
struct Best {
  double gib_per_s = 0, ops_per_s = 0;
  uint32_t connections = 0, depth = 0;
  double p50_us = 0;         ///< at depth 1 only
  double cpu_s_per_gib = 0;  ///< client and server together
};

struct PeerTest {
  const Peer* peer = nullptr;
  bool put = false, hash = false, lend = false;
  uint64_t block_bytes = 0;
  uint64_t keys = 4096;
  uint64_t window_bytes = 0;
  double seconds = 0.4;  ///< for each setting
  std::vector<uint32_t> depths = {8, 32};
  std::vector<uint32_t> connections = {1, 2};
  std::string congestion;
};

/// The best over all depths and numbers of connections.
Result<Best, Message> best_of_peer(const PeerTest& test);

/// Bare TCP servers on this machine: one that only moves bytes, one that hashes puts, one that lends what it sends.
struct BareServers {
  Peer plain, hashing, lending;
};
Result<BareServers, Message> start_bare_servers(const std::string& congestion);

double memcpy_gib_per_s(uint64_t block_bytes);
/// How many others one block is copied to: as for a read of 16 descriptors, which fetches the block once. Returns bytes
/// written in a second.
inline constexpr uint64_t kFanOut = 15;
double fan_out_gib_per_s(uint64_t block_bytes);
/// XXH3 over grains of 64 KiB, as MemKV checks blocks.
double hash_gib_per_s(uint64_t block_bytes);
/// Direct I/O at a given depth, on a file that exists.
Result<double, Message> drive_gib_per_s(const std::string& path, uint64_t file_bytes, uint64_t block_bytes, bool write,
                                        uint32_t depth, double seconds);
/// Makes a file full of data, for tests of a drive.
Result<void, Message> make_drive_file(const std::string& path, uint64_t bytes);

}  // namespace memkv::bench
