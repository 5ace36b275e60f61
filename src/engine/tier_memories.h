#pragma once
/// Names of records that were read not long ago.

#include <cstdint>
#include <vector>

namespace memkv::engine {

/// Remembers that names were added, each for about so many additions as its window says; then it is forgotten. It may
/// forget one too early, where many fall into one row, and once in some billions it takes one name for another: both
/// cost a hit, never a byte. It takes no memory after its start.
///
/// Thread: worker.
class TierMemories {
 public:
  static constexpr uint64_t kBytesEach = 8;  ///< of memory for each name

  explicit TierMemories(uint32_t names) : rows_(names / kWays + 1) {}

  /// `window`: so many additions ago, at most.
  bool has(uint64_t name, uint32_t window) const { return find(name, window) != nullptr; }
  /// Forgets the name. False: it was not remembered.
  bool take(uint64_t name, uint32_t window) {
    Memory* found = const_cast<Memory*>(find(name, window));
    if (found == nullptr) return false;
    *found = {};
    return true;
  }
  void add(uint64_t name) {
    Row& row = rows_[name % rows_.size()];
    Memory* oldest = &row.ways[0];
    for (Memory& m : row.ways) {
      if (now_ - m.added > now_ - oldest->added) oldest = &m;
    }
    *oldest = {mark_of(name), ++now_};
  }

 private:
  static constexpr uint32_t kWays = 8;  // a row is a line of the CPU's cache
  struct Memory {
    uint32_t mark = 0;  // 0: none
    uint32_t added = 0;
  };
  static_assert(sizeof(Memory) == kBytesEach);
  struct alignas(64) Row {
    Memory ways[kWays];
  };
  static uint32_t mark_of(uint64_t name) { return static_cast<uint32_t>(name >> 32) | 1; }
  const Memory* find(uint64_t name, uint32_t window) const {
    for (const Memory& m : rows_[name % rows_.size()].ways) {
      if (m.mark == mark_of(name) && now_ - m.added < window) return &m;
    }
    return nullptr;
  }

  std::vector<Row> rows_;
  uint32_t now_ = 0;  // additions; ages are differences, so it may wrap
};

}  // namespace memkv::engine
