#pragma once
/// Sizes and durations as people write them: "8GiB", "250ms".

#include <cstdint>
#include <string>
#include <string_view>

#include "memkv/error.h"

namespace memkv::base {

/// What "4096" without a unit means: that many bytes, or an error that asks for a unit.
enum class BareNumber { kRefuse, kAllow };

/// Reads a size. Units: B, KiB, MiB, GiB, TiB, PiB (powers of 1024) and KB, MB, GB, TB, PB (powers of 1000), in any
/// case, with or without a space before. A fraction ("1.5 GiB") is fine if it makes whole bytes. "K" or "M" alone is
/// refused, since it means both.
Result<uint64_t, Message> parse_size(std::string_view text, BareNumber bare = BareNumber::kRefuse);

/// Reads a duration and returns nanoseconds. Units: ns, us, ms, s, m (or min), h, d.
Result<uint64_t, Message> parse_duration_ns(std::string_view text);

/// "0 B", "64 KiB", "1.50 GiB": three significant digits in the largest unit that fits.
std::string format_bytes(uint64_t bytes);

/// "850 ns", "12.5 us", "2.0 s": for people.
std::string format_duration_ns(uint64_t ns);

}  // namespace memkv::base
