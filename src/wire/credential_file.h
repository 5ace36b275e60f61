#pragma once
/// Writes a credential into a file. Every program of ours does it by this function.

#include <string>

#include "wire/handshake.h"

namespace memkv::wire {

/// Makes a new file that only its owner may read. The file appears whole and durable, and never replaces one of that
/// name. Returns 0; EEXIST if the name is taken; otherwise the errno of what failed, and nothing is left.
int write_credential_file(const std::string& path, const Secret& secret);

}  // namespace memkv::wire
