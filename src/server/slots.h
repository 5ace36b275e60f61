#pragma once
/// How a worker's buffer memory is cut into slots.

#include <cstdint>
#include <string>
#include <vector>

#include "io/arena.h"

namespace memkv::server {

/// One pool's bytes over the slot classes, largest first: half for whole chunks. Small pools get the least that serves,
/// which may be more than `bytes`.
std::vector<io::SlotClass> slot_classes(uint64_t bytes);

/// Each namespace has one slot of a class for itself, whatever others do, and one to share. Empty: there are enough, or
/// were made so within a quarter more memory; else why there are not.
std::string give_each_two_slots(std::vector<io::SlotClass>& classes, size_t namespaces, uint64_t bytes);

}  // namespace memkv::server
