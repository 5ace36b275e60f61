#pragma once
/// For tests, in a process of their own (EXPECT_EXIT): no thread is to be had while a NoThreads lives.

#include <sys/resource.h>
#include <unistd.h>

namespace memkv::base {

/// The limit counts for ordinary users only, so root becomes one, for good.
class NoThreads {
 public:
  NoThreads() {
    constexpr uid_t kNobody = 65534;
    if (geteuid() == 0 && setresuid(kNobody, kNobody, kNobody) != 0) _exit(99);
    getrlimit(RLIMIT_NPROC, &before_);
    const rlimit none{0, before_.rlim_max};
    setrlimit(RLIMIT_NPROC, &none);
  }
  ~NoThreads() { setrlimit(RLIMIT_NPROC, &before_); }
  NoThreads(const NoThreads&) = delete;
  NoThreads& operator=(const NoThreads&) = delete;

 private:
  rlimit before_{};
};

}  // namespace memkv::base
