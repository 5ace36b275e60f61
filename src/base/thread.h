#pragma once
/// Starts threads on machines where the limit may be reached (ulimit -u, pids.max): a failure is a value, never an
/// exception.

#include <signal.h>

#include <cerrno>
#include <new>
#include <system_error>
#include <thread>
#include <utility>

#include "memkv/error.h"

namespace memkv::base {

/// While it lives, signals that are meant for the program are blocked in this thread. A thread that is started
/// meanwhile inherits that and never takes them. Signals by which a thread reports its own fault (SIGSEGV and the like)
/// stay unblocked. Thread: the one that made it.
class SignalsForOthers {
 public:
  SignalsForOthers();
  ~SignalsForOthers();
  SignalsForOthers(const SignalsForOthers&) = delete;
  SignalsForOthers& operator=(const SignalsForOthers&) = delete;

 private:
  sigset_t before_{};
};

/// The failure of start_thread(). Its status is kBusy, since the next try may work.
Error no_thread(int sys_errno);
/// Sets the name that the kernel shows; at most 15 characters.
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
