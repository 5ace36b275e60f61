#pragma once
/// What `memkv start` runs with: the file, and the command line over it. Without either: the embedded default, a file
/// of 1 GiB in the current folder, for this machine only. Thread: main.

#include "memkv/error.h"
#include "server/options.h"
#include "server/server.h"

namespace memkv::server {

/// Neither a file nor a word about storage.
bool is_embedded(const StartOptions& start);
Result<Options, Message> merge_options(const StartOptions& start);
/// The file of the embedded default: made and formatted on the first start.
Result<void, Message> make_default_drive();

}  // namespace memkv::server
