#include "client/placement.h"

#include "base/assert.h"
#include "base/hash.h"

namespace memkv::client {

Placement::Placement(std::span<const std::string> names) {
  MEMKV_ASSERT(!names.empty());
  for (const std::string& name : names) servers_.push_back({name, base::xxh3(base::as_bytes(name), 0)});
}

size_t Placement::server_of(std::string_view key) const {
  if (servers_.size() == 1) return 0;
  size_t best = 0;
  uint64_t best_weight = base::xxh3(base::as_bytes(key), servers_[0].seed);
  for (size_t i = 1; i < servers_.size(); i++) {
    const uint64_t weight = base::xxh3(base::as_bytes(key), servers_[i].seed);
    if (weight < best_weight || (weight == best_weight && servers_[i].name >= servers_[best].name)) continue;
    best = i;
    best_weight = weight;
  }
  return best;
}

}  // namespace memkv::client
