#pragma once
/// Notices that this process is the child of a fork: sockets and threads of the parent are not its own.

#include <cstdint>

#include "memkv/error.h"

namespace memkv::client {

inline constexpr Error kForkedError{Status::kForked, 0,
                                    "this process is the child of a fork: connect a client of its own"};

/// Thread: any.
class ForkGuard {
 public:
  ForkGuard();
  bool forked() const;

 private:
  uint64_t generation_;
};

}  // namespace memkv::client
