#pragma once
/// Notices that this process is the child of a fork: sockets and threads of the parent are not its own.

#include <cstdint>

namespace memkv::client {

/// Thread: any.
class ForkGuard {
 public:
  ForkGuard();
  bool forked() const;

 private:
  uint64_t generation_;
};

}  // namespace memkv::client
