#pragma once
/// Sizes and durations as people write them: "8GiB", "250ms".

#include <cstdint>
#include <string>
#include <string_view>

#include "memkv/error.h"

namespace memkv::base {

/// Whether "4096" without a unit is bytes, or an error that says so.
enum class BareNumber { kRefuse, kAllow };

/// B, KiB, MiB, GiB, TiB, PiB (powers of 1024) and KB, MB, GB, TB, PB (of 1000), any case, a space before the unit and
/// a decimal fraction allowed ("1.5 GiB") if it makes whole bytes. "K" or "M" alone is refused: it means both.
Result<uint64_t, Message> parse_size(std::string_view text, BareNumber bare = BareNumber::kRefuse);

/// Nanoseconds from ns, us, ms, s, m (or min), h, d.
Result<uint64_t, Message> parse_duration_ns(std::string_view text);

/// "0 B", "64 KiB", "1.50 GiB": three significant digits in the largest unit that fits.
std::string format_bytes(uint64_t bytes);

/// "850 ns", "12.5 us", "2.0 s": for people.
std::string format_duration_ns(uint64_t ns);

}  // namespace memkv::base
