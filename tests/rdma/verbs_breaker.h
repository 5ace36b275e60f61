#pragma once
/// Breaks what a client has on its NICs, beneath the client: its queue pairs, and the keys of its memory.

#include <cstdint>

namespace memkv::test {

/// Puts stand-ins for ibv_modify_qp, ibv_destroy_qp and ibv_reg_mr before the real ones. Before the process uses RDMA;
/// false where it cannot.
bool watch_verbs();

/// Moves one of the queue pairs in use to error. False: there is none.
bool break_queue_pair(uint64_t random);

/// Memory of a MiB or more that is registered from here on has a key that the NIC does not know.
void give_bad_keys(bool bad);
uint64_t bad_keys_given();

}  // namespace memkv::test
