#pragma once
/// The file of --ready-file, by which scripts and tests wait for a server: there while, and only if, one that is ready
/// wrote it. Thread: main.

#include <string>

#include "memkv/error.h"

namespace memkv::server {

/// Removes the file of an earlier server: a script would take this server for ready, at the wrong port.
Result<void, Message> remove_ready_file(const std::string& path);

/// "HOST:PORT\n"; appears whole.
Result<void, Message> write_ready_file(const std::string& path, const std::string& address);

}  // namespace memkv::server
