#pragma once
/// The file of --ready-file, by which scripts and tests wait for a server. It exists exactly while the server that
/// wrote it is ready. Thread: main.

#include <string>

#include "memkv/error.h"

namespace memkv::server {

/// Removes the file of an earlier server. Otherwise a script would take this server for ready, at the wrong port.
Result<void, Message> remove_ready_file(const std::string& path);

/// Writes "HOST:PORT\n". The file appears whole.
Result<void, Message> write_ready_file(const std::string& path, const std::string& address);

}  // namespace memkv::server
