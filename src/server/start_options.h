#pragma once
/// The options of `memkv start`: those of the file, overridden by those of the command line. Without either, the
/// embedded default: a file of 1 GiB in the current folder, for this machine only. Thread: main.

#include "io/device.h"
#include "memkv/error.h"
#include "server/options.h"
#include "server/server.h"

namespace memkv::server {

/// True if there is neither a configuration file nor a storage option.
bool is_embedded(const StartOptions& start);
Result<Options, Message> merge_options(const StartOptions& start);
/// Makes and formats the file of the embedded default if it does not exist. Returns true if this call made it.
/// `progress` may stop it, and then nothing is left.
Result<bool, Message> make_default_drive(io::FillProgress progress, void* context);
/// Removes the file again, when the start that made it fails.
void remove_default_drive();

}  // namespace memkv::server
