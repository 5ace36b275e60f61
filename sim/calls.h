#pragma once
/// The few calls of the C library that the product makes beside its reactor, answered by the simulated world
/// (docs/decisions/0020-the-simulator-answers-system-calls.md).

#include <cstdint>

namespace memkv::sim {

class Network;
class World;

/// From here on clock_gettime, getrandom and the calls on virtual sockets are answered by this world. One at a time.
void enter_world(World& world, uint64_t seed);
void leave_world();
/// Whose sockets are meant. Null: none.
void use_network(Network* network);
/// The process on whose behalf code runs outside of an actor's turn (set-up).
void use_host(uint32_t host);
/// The wall clock of all processes jumps.
void step_wall_clock(int64_t seconds);

}  // namespace memkv::sim
