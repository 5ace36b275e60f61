#pragma once

#include "base/unique_fd.h"

namespace memkv::transport {

/// A file description of its own on the file of `fd`; none where /proc is not mounted. The kernel counts who has a file
/// open by these, but not the one that memfd_create() made.
base::UniqueFd reopen(int fd, int flags);

}  // namespace memkv::transport
