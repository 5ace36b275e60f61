#pragma once
/// Lines of the log under a name of their own: for a part of ours that speaks inside a program of somebody else.

#include <fmt/core.h>

#include <cstdint>
#include <string_view>

namespace memkv::base {

/// One line, as those of base/log.h are written and counted, but with `prefix` in place of time and level: no level
/// drops it. `dropped` lines of a rate-limited place are mentioned. Needs no memory. Thread: any.
void log_line(std::string_view prefix, uint64_t dropped, fmt::string_view format, fmt::format_args args);

}  // namespace memkv::base
