#pragma once
/// The credential of a server that was told none and listens on this host only.

#include <cstdint>

#include "server/options.h"
#include "wire/handshake.h"

namespace memkv::server {

/// The credential of the local server. All zero (none) if the server does not listen at the usual address, or there is
/// no folder to keep a credential in. Thread: main.
wire::Secret local_credential(const Options& options, uint16_t port);

}  // namespace memkv::server
