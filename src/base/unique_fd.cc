#include "base/unique_fd.h"

#include <unistd.h>

namespace memkv::base {

void UniqueFd::reset(int fd) {
  const int old = std::exchange(fd_, above_standard_streams(fd));
  // close(2) is not repeated on EINTR: Linux has freed the number by then, and another thread may already have it.
  if (old >= 0) ::close(old);
}

}  // namespace memkv::base
