#pragma once
/// Output of the programs: stderr without waiting for ever, and stdout with a check at the end.

#include <fmt/core.h>
#include <signal.h>
#include <stdio_ext.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "base/standard_streams.h"

namespace memkv::tools {

/// Call it first in `main`. Afterwards a reader that is gone and a file's size limit are errors of a write, like a full
/// disk.
inline void begin_output() {
  base::hold_standard_streams();
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

/// Prints one message for a person. If nobody takes it for a while it is lost; the exit code remains.
template <typename... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  constexpr uint32_t kPatienceMs = 10'000;
  (void)base::write_stderr(fmt::format(format, std::forward<Args>(args)...), kPatienceMs);
}

/// Reports that stdout did not take what was written, and drops the rest of it. Returns the exit code.
inline int stdout_failed(std::string_view program, int sys_errno) {
  __fpurge(stdout);
  std::clearerr(stdout);
  say("{}: stdout: the output could not be written{}{}\n", program, sys_errno != 0 ? ": " : "",
      sys_errno != 0 ? std::strerror(sys_errno) : "");
  constexpr int kExitFailed = 5;
  return kExitFailed;
}

/// Call it last in `main`. It writes what is buffered and closes stdout, since some file systems report a full disk
/// only then. Returns `code`, or the code of a failure.
inline int end_output(std::string_view program, int code) {
  const bool failed = std::ferror(stdout) != 0;
  if (std::fflush(stdout) != 0) return stdout_failed(program, errno);
  if (failed) return stdout_failed(program, 0);
  return ::close(STDOUT_FILENO) == 0 || errno == EBADF || errno == EINTR ? code : stdout_failed(program, errno);
}

}  // namespace memkv::tools
