#pragma once
/// Lines to stderr for people: NIXL shows a caller no more than a status.

#include "base/log.h"
#include "base/log_line.h"

namespace memkv::nixl {

inline constexpr std::string_view kLinePrefix = "memkv nixl: ";

/// `memkv nixl: TEXT`, whatever log_level says of the library's lines. Never waits for a reader; needs no memory.
/// Thread: any.
template <typename... Args>
void log_line(fmt::format_string<Args...> format, Args&&... args) {
  base::log_line(kLinePrefix, 0, format, fmt::make_format_args(args...));
}

/// Likewise, as often as `limit` lets one through; each line says how many were held back before it.
template <typename... Args>
void log_line_sometimes(base::LogLimiter& limit, fmt::format_string<Args...> format, Args&&... args) {
  uint64_t held_back = 0;
  if (limit.pass(&held_back)) base::log_line(kLinePrefix, held_back, format, fmt::make_format_args(args...));
}

}  // namespace memkv::nixl
