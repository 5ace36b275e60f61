#pragma once
/// Where a key lives: rendezvous hashing over server names. The same in every language (tests/golden/placement).

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace memkv::client {

/// weight(server) = XXH3-64(key, seed = XXH3-64(name, 0)); the highest wins, between equals the lesser name. The order
/// of the list does not matter; a new server takes only its share of the keys. Thread: any.
class Placement {
 public:
  explicit Placement(std::span<const std::string> names);  ///< not empty
  /// Index in the list given.
  size_t server_of(std::string_view key) const;
  size_t size() const { return servers_.size(); }

 private:
  struct Entry {
    std::string name;
    uint64_t seed;
  };
  std::vector<Entry> servers_;
};

}  // namespace memkv::client
