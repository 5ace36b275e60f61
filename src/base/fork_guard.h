#pragma once
/// Notices that this process is the child of a fork: sockets and threads of the parent are not its own.

#include <cstdint>

#include "memkv/error.h"

namespace memkv::base {

inline constexpr Error kForkedError{Status::kForked, 0,
                                    "this process is the child of a fork: connect a client of its own"};

/// How many forks lie between the program's start and this process. Thread: any.
uint64_t fork_count();

/// Thread: any.
class ForkGuard {
 public:
  ForkGuard();
  bool forked() const;

 private:
  uint64_t generation_;
};

}  // namespace memkv::base
