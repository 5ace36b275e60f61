#pragma once
/// For tests that read the log.

#include <string_view>

#include "base/log.h"

namespace memkv::base {

/// Takes a line of the log. `line` ends with a newline and is valid during the call only.
using LogSink = void (*)(LogLevel level, std::string_view line);

/// Replaces stderr as the place where lines go; nullptr is stderr again. Set it before threads start.
void set_log_sink(LogSink sink);

}  // namespace memkv::base
