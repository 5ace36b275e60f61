#pragma once
/// The credential of the local server: the one that was started without a credential, on the default port of the
/// loopback address. The server keeps it in its runtime folder, in a file that only its own user may read. So commands
/// and engines of that user (and of root) reach the server without configuration, and other users of the host do not.
/// It is drawn once and kept, so that a long-lived client finds its server again after a restart.

#include <optional>
#include <string>
#include <vector>

#include "wire/handshake.h"

namespace memkv::wire {

/// Looks for the credential in `dirs`, in order. Nothing: there is none. A file is trusted only if it belongs to root
/// or to this user and nobody else may read or write it; otherwise its maker could learn what is put. Error: there is a
/// file that only another user may read, or one that makes no sense.
Result<std::optional<Secret>, Message> read_local_credential(const std::vector<std::string>& dirs);

/// For the server: returns the credential in `dir`, and draws one if there is none. Only this user may have access to
/// `dir`.
Result<Secret, Message> keep_local_credential(const std::string& dir);

}  // namespace memkv::wire
