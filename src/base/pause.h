#pragma once
/// What a thread does between two looks at something that another thread changes.

#include <time.h>

#include <cstdint>

namespace memkv::base {

/// Of a thread that polls: the CPU's other hardware thread runs faster meanwhile. Some tens of nanoseconds.
inline void relax_cpu() { __builtin_ia32_pause(); }

/// Where something full gets room soon and nobody wakes whoever waits for it. It sleeps: to yield would leave the CPU
/// for a whole time slice on a busy machine, and for nothing on a quiet one.
inline void nap() {
  constexpr long kNapNs = 50'000;
  const timespec time{0, kNapNs};
  nanosleep(&time, nullptr);
}

}  // namespace memkv::base
