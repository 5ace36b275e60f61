#pragma once
/// What `memkv start` runs with: the file, and the command line over it. Without either: the embedded default, a file
/// of 1 GiB in the current folder, for this machine only. Thread: main.

#include "io/device.h"
#include "memkv/error.h"
#include "server/options.h"
#include "server/server.h"

namespace memkv::server {

/// Neither a file nor a word about storage.
bool is_embedded(const StartOptions& start);
Result<Options, Message> merge_options(const StartOptions& start);
/// The file of the embedded default: made and formatted on the first start. True: just now. `progress` may end it, and
/// then nothing is left.
Result<bool, Message> make_default_drive(io::FillProgress progress, void* context);
/// Of a start that made it and failed.
void remove_default_drive();

}  // namespace memkv::server
