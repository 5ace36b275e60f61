#pragma once
/// Other work on the machine: processes that compute without end.

#include <memory>
#include <vector>

#include "tools/bench/child.h"

namespace memkv::bench {

/// So many, pinned to nothing, at the benchmark's own nice value; each ends with its Child.
inline std::vector<std::unique_ptr<Child>> start_busy(uint32_t count) {
  std::vector<std::unique_ptr<Child>> busy;
  for (uint32_t i = 0; i < count; i++) {
    busy.push_back(Child::fork("", []() -> int {
      while (true) asm volatile("");
    }));
  }
  return busy;
}

}  // namespace memkv::bench
