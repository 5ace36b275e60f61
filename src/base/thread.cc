#include "base/thread.h"

#include <pthread.h>

namespace memkv::base {

SignalsForOthers::SignalsForOthers() {
  sigset_t blocked;
  sigfillset(&blocked);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&blocked, own);
  pthread_sigmask(SIG_BLOCK, &blocked, &before_);
}

SignalsForOthers::~SignalsForOthers() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

Error no_thread(int sys_errno) {
  return {Status::kBusy, sys_errno, "no thread can be made: see ulimit -u, and pids.max of the container"};
}

void name_thread(std::thread& thread, const char* name) { pthread_setname_np(thread.native_handle(), name); }

}  // namespace memkv::base
