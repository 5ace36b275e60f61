#pragma once
/// Breaks queue pairs and memory keys of a client's NICs, beneath the client.

#include <cstdint>

namespace memkv::test {

/// Replaces ibv_modify_qp, ibv_destroy_qp and ibv_reg_mr by stand-ins. Call it before the process uses RDMA. False:
/// that is not possible here.
bool watch_verbs();

/// Moves one of the queue pairs in use into the error state. False: there is none.
bool break_queue_pair(uint64_t random);

/// From now on memory of a MiB or more is registered with a key that the NIC does not know.
void give_bad_keys(bool bad);
uint64_t bad_keys_given();

}  // namespace memkv::test
