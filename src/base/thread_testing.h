#pragma once
/// For tests that run in a process of their own (EXPECT_EXIT): while a NoThreads lives, no thread can be started.

#include <sys/resource.h>
#include <unistd.h>

namespace memkv::base {

/// The kernel applies the limit to ordinary users only. So a test that runs as root becomes an ordinary user for the
/// rest of its process.
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
