#pragma once
/// The few calls of the C library that the product makes outside its reactor. The simulated world answers them
/// (docs/decisions/0020-the-simulator-answers-system-calls.md).

#include <cstdint>

namespace memkv::sim {

class Fabric;
class Network;
class World;

/// From now on this world answers clock_gettime, getrandom and calls on virtual sockets. There is one world at a time.
void enter_world(World& world, uint64_t seed);
void leave_world();
/// The network that virtual sockets belong to. Null: none.
void use_network(Network* network);
/// The process in whose name code runs that no actor runs (set-up).
void use_host(uint32_t host);
/// The network that calls go to, null if there is none; and the process that makes them.
Network* network_now();
uint32_t host_now();
/// The RDMA of the network.
Fabric& fabric();
/// Moves the wall clock of all processes by so many seconds, at once.
void step_wall_clock(int64_t seconds);

}  // namespace memkv::sim
