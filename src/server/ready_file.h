#pragma once
/// The file of --ready-file, by which scripts and tests wait for a server: there while, and only if, one that is ready
/// wrote it. Thread: main.

#include <string>

#include "memkv/error.h"

namespace memkv::server {

/// What an earlier server left would tell a script that this one is ready, and the wrong port.
Result<void, Message> remove_ready_file(const std::string& path);

/// "HOST:PORT\n"; appears whole.
Result<void, Message> write_ready_file(const std::string& path, const std::string& address);

}  // namespace memkv::server
