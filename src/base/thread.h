#pragma once
/// Starts threads where there may be none to be had (ulimit -u, pids.max): a failure is a value, never an exception.

#include <signal.h>

#include <cerrno>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "memkv/error.h"

namespace memkv::base {

/// Blocks, while it lives, the signals that are meant for the program: a thread started meanwhile never takes them.
/// Those by which a thread reports its own fault (SIGSEGV and its like) are left alone. Thread: the one that made it.
class SignalsForOthers {
 public:
  SignalsForOthers();
  ~SignalsForOthers();
  SignalsForOthers(const SignalsForOthers&) = delete;
  SignalsForOthers& operator=(const SignalsForOthers&) = delete;

 private:
  sigset_t before_{};
};

/// The failure of start_thread(): kBusy, since the next try may work.
Error no_thread(int sys_errno);
/// As the kernel shows it; at most 15 characters.
void name_thread(std::thread& thread, const char* name);

/// Runs `body` in a thread of its own that takes no signals of the program.
template <typename Body>
Result<std::thread> start_thread(const char* name, Body&& body) {
  const SignalsForOthers blocked;
  try {
    std::thread thread(std::forward<Body>(body));
    name_thread(thread, name);
    return thread;
  } catch (const std::system_error& error) {
    return no_thread(error.code().value());
  } catch (const std::bad_alloc&) {
    return no_thread(ENOMEM);
  }
}

}  // namespace memkv::base
