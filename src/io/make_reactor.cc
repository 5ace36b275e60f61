/// Chooses a reactor. It stands in a file of its own, so that a program that asks for epoll alone does not link
/// liburing.

#include "io/loop.h"

namespace memkv::io {

Result<std::unique_ptr<Reactor>> make_reactor(const ReactorOptions& options, std::string* why_not_uring) {
  if (options.kind != ReactorKind::kEpoll) {
    auto uring = make_uring_reactor(options, why_not_uring);
    if (uring || options.kind == ReactorKind::kUring) return uring;
  }
  return make_epoll_reactor(options);
}

}  // namespace memkv::io
