#pragma once
/// Divides a worker's buffer memory into slots.

#include <cstdint>
#include <string>
#include <vector>

#include "io/arena.h"

namespace memkv::server {

/// Divides the memory of one pool among the slot classes, largest first; half of it goes to slots for whole chunks. A
/// small pool gets the least with which it can serve, and that may be more than `bytes`.
std::vector<io::SlotClass> slot_classes(uint64_t bytes);

/// Makes sure that each class has two slots for each namespace: one for itself, whatever others do, and one to share.
/// Empty: there are enough, after adding at most a quarter more memory. Otherwise says why there are not.
std::string give_each_two_slots(std::vector<io::SlotClass>& classes, size_t namespaces, uint64_t bytes);

}  // namespace memkv::server
