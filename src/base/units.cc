#include "base/units.h"

#include <fmt/format.h>

#include <cmath>
#include <span>

#include "base/bytes.h"
#include "base/clock.h"

namespace memkv::base {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

constexpr Unit kSizeUnits[] = {
    {"b", 1},
    {"kib", kKiB},
    {"mib", kMiB},
    {"gib", kGiB},
    {"tib", kTiB},
    {"pib", 1024 * kTiB},
    {"kb", 1000},
    {"mb", 1000 * 1000},
    {"gb", 1000ull * 1000 * 1000},
    {"tb", 1000ull * 1000 * 1000 * 1000},
    {"pb", 1000ull * 1000 * 1000 * 1000 * 1000},
};
constexpr Unit kDurationUnits[] = {
    {"ns", 1},
    {"us", kNsPerUs},
    {"ms", kNsPerMs},
    {"s", kNsPerSecond},
    {"m", 60 * kNsPerSecond},
    {"min", 60 * kNsPerSecond},
    {"h", 3600 * kNsPerSecond},
    {"d", 24 * 3600 * kNsPerSecond},
};

/// A number with its unit: "1.25 GiB" is digits 125, two of them behind the point, and the unit "gib".
struct Quantity {
  uint64_t digits = 0;
  int decimals = 0;
  std::string unit;
};

std::string_view trim(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool split(std::string_view text, Quantity* out) {
  text = trim(text);
  size_t at = 0;
  bool point = false;
  bool any = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '.' && !point && any) {
      point = true;
      continue;
    }
    if (!is_digit(c)) break;
    any = true;
    out->decimals += point;
    if (__builtin_mul_overflow(out->digits, 10u, &out->digits)) return false;
    if (__builtin_add_overflow(out->digits, static_cast<uint64_t>(c - '0'), &out->digits)) return false;
  }
  if (!any || (at > 0 && text[at - 1] == '.')) return false;
  for (char c : trim(text.substr(at))) out->unit += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return true;
}

const Unit* find_unit(std::span<const Unit> units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

/// digits / 10^decimals * factor, if that is a whole number of 64 bits.
bool scale(const Quantity& quantity, uint64_t factor, uint64_t* out) {
  uint64_t divisor = 1;
  for (int i = 0; i < quantity.decimals; ++i) {
    if (__builtin_mul_overflow(divisor, 10u, &divisor)) return false;
  }
  __extension__ using Uint128 = unsigned __int128;
  const Uint128 product = static_cast<Uint128>(quantity.digits) * factor;
  if (product % divisor != 0 || product / divisor > ~uint64_t{0}) return false;
  *out = static_cast<uint64_t>(product / divisor);
  return true;
}

Message invalid(std::string text) { return {Status::kInvalid, std::move(text)}; }

}  // namespace

Result<uint64_t, Message> parse_size(std::string_view text, BareNumber bare) {
  Quantity quantity;
  if (!split(text, &quantity)) return invalid(fmt::format("'{}' is not a size; write one like 64KiB or 8GiB", text));
  uint64_t factor = 1;
  if (quantity.unit.empty()) {
    if (bare == BareNumber::kRefuse && quantity.digits != 0) {
      return invalid(fmt::format("'{}' has no unit; write one like {}B, {}KiB or {}GiB", text, trim(text), trim(text),
                                 trim(text)));
    }
  } else if (const Unit* unit = find_unit(kSizeUnits, quantity.unit)) {
    factor = unit->factor;
  } else {
    return invalid(fmt::format("'{}' has an unknown unit; write B, KiB, MiB, GiB, TiB or KB, MB, GB, TB", text));
  }
  uint64_t bytes = 0;
  if (!scale(quantity, factor, &bytes)) return invalid(fmt::format("'{}' is not a whole number of 64-bit bytes", text));
  return bytes;
}

Result<uint64_t, Message> parse_duration_ns(std::string_view text) {
  Quantity quantity;
  if (!split(text, &quantity)) return invalid(fmt::format("'{}' is not a duration; write one like 250ms or 2s", text));
  uint64_t ns = 0;
  if (quantity.unit.empty() && quantity.digits == 0) return ns;
  const Unit* unit = find_unit(kDurationUnits, quantity.unit);
  if (!unit) return invalid(fmt::format("'{}' needs a unit: ns, us, ms, s, m, h or d", text));
  if (!scale(quantity, unit->factor, &ns)) return invalid(fmt::format("'{}' is out of range", text));
  return ns;
}

std::string format_bytes(uint64_t bytes) {
  static constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  if (value == std::floor(value)) return fmt::format("{:.0f} {}", value, kUnits[unit]);
  return fmt::format("{:.{}f} {}", value, value < 10 ? 2 : value < 100 ? 1 : 0, kUnits[unit]);
}

std::string format_duration_ns(uint64_t ns) {
  if (ns < kNsPerUs) return fmt::format("{} ns", ns);
  const double value = static_cast<double>(ns);
  if (ns < kNsPerMs) return fmt::format("{:.1f} us", value / kNsPerUs);
  if (ns < kNsPerSecond) return fmt::format("{:.1f} ms", value / kNsPerMs);
  if (ns < 120 * kNsPerSecond) return fmt::format("{:.1f} s", value / kNsPerSecond);
  if (ns < 7200 * kNsPerSecond) return fmt::format("{:.1f} min", value / (60 * kNsPerSecond));
  return fmt::format("{:.1f} h", value / (3600.0 * kNsPerSecond));
}

}  // namespace memkv::base
