#include "server/slots.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/units.h"

namespace memkv::server {

std::vector<io::SlotClass> slot_classes(uint64_t bytes) {
  struct Share {
    uint32_t payload;
    uint64_t percent;
    uint32_t least;
  };
  // A slot holds its payload, and before or behind it up to two sectors that a read of whole sectors brings along.
  static constexpr uint32_t kExtra = 8192;
  static constexpr Share kShares[] = {
      {2u << 20, 50, 3}, {1u << 20, 20, 2}, {256u << 10, 15, 4}, {64u << 10, 10, 8}, {8u << 10, 5, 32}};
  std::vector<io::SlotClass> classes;
  for (const Share& share : kShares) {
    const uint64_t each = share.payload + kExtra + io::kSlotHeadroom;
    const uint64_t count = std::max<uint64_t>(share.least, bytes * share.percent / 100 / each);
    classes.push_back({share.payload + kExtra, static_cast<uint32_t>(count)});
  }
  return classes;
}

std::string give_each_two_slots(std::vector<io::SlotClass>& classes, size_t namespaces, uint64_t bytes) {
  if (namespaces < 2) return {};
  uint64_t taken = 0;
  for (io::SlotClass& shape : classes) {
    shape.count = std::max(shape.count, static_cast<uint32_t>(2 * namespaces));
    taken += uint64_t{shape.payload_bytes} * shape.count;
  }
  if (taken <= bytes / 4 * 5) return {};
  return fmt::format("two slots of each size for each of {} namespaces take {}, and a worker has {}", namespaces,
                     base::format_bytes(taken), base::format_bytes(bytes));
}

}  // namespace memkv::server
