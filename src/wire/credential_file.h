#pragma once
/// The one way in which a credential gets into a file.

#include <string>

#include "wire/handshake.h"

namespace memkv::wire {

/// Makes a new file that its user alone may read. It appears whole and durable, and never in place of what is there
/// under that name. 0; EEXIST: the name is taken; else the errno of what failed, and nothing is left.
int write_credential_file(const std::string& path, const Secret& secret);

}  // namespace memkv::wire
