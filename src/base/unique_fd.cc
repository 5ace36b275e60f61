#include "base/unique_fd.h"

#include <unistd.h>

namespace memkv::base {

void UniqueFd::reset(int fd) {
  const int old = std::exchange(fd_, above_standard_streams(fd));
  // Not repeated on EINTR: Linux has freed the number already, close(2).
  if (old >= 0) ::close(old);
}

}  // namespace memkv::base
