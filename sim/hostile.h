#pragma once
/// Hostile clients: they send what no client of ours would send.

#include <cstdint>
#include <memory>
#include <vector>

#include "sim/loop.h"
#include "sim/network.h"
#include "sim/server.h"
#include "sim/world.h"

namespace memkv::sim {

/// Writes nonsense where a client writes what its server reads. `memory`: its mapping of the put ring with its page.
void scribble_in(std::span<std::byte> memory, base::Random& random);

/// Thread: the world's.
class Hostiles {
 public:
  /// Their hosts are numbered from `first_host`.
  Hostiles(World& world, Network& network, uint32_t server_host, uint32_t first_host, Tenant tenant);
  ~Hostiles();
  /// One of them connects, or does something on a connection that it has. `shm`: over shared memory of that server.
  void act(uint64_t seed, const ServerProcess* shm);
  /// All of them close their connections.
  void leave();

 private:
  class Guest;
  World& world_;
  Network& network_;
  const uint32_t server_host_, first_host_;
  const Tenant tenant_;
  std::vector<std::unique_ptr<Guest>> guests_;
  uint32_t count_ = 0;
};

}  // namespace memkv::sim
