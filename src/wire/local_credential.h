#pragma once
/// The credential of the local server: one that was started without any, on the default port of the loopback address.
/// It lies in the server's runtime folder, readable by its own user alone, so that commands and engines of that user
/// (and of root) reach it without a word of configuration, and other users of the host do not. Drawn once and kept: a
/// client of long standing finds its server again after a restart.

#include <optional>
#include <string>
#include <vector>

#include "wire/handshake.h"

namespace memkv::wire {

/// Looks into `dirs` in order. Nothing: there is none. A file is believed only if it belongs to root or to this user
/// and nobody else may read or write it: whoever made another one would learn what is put. Error: there is one that
/// only another user may read, or one that makes no sense.
Result<std::optional<Secret>, Message> read_local_credential(const std::vector<std::string>& dirs);

/// The server's side: that of `dir`, drawn if there is none. `dir`: a folder that belongs to this user alone.
Result<Secret, Message> keep_local_credential(const std::string& dir);

}  // namespace memkv::wire
