#pragma once
/// What the programs write: to stderr without waiting for ever, and to stdout with a check at the end.

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

/// First thing in `main`. A reader that is gone, and the size limit of files, become errors of a write, told like a
/// full disk.
inline void begin_output() {
  base::hold_standard_streams();
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

/// One message to a human. It is lost when nobody takes it for a while: the exit code remains.
template <typename... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  constexpr uint32_t kPatienceMs = 10'000;
  (void)base::write_stderr(fmt::format(format, std::forward<Args>(args)...), kPatienceMs);
}

/// Says that stdout did not take what was written, and forgets the rest of it. Returns the exit code.
inline int stdout_failed(std::string_view program, int sys_errno) {
  __fpurge(stdout);
  std::clearerr(stdout);
  say("{}: stdout: the output could not be written{}{}\n", program, sys_errno != 0 ? ": " : "",
      sys_errno != 0 ? std::strerror(sys_errno) : "");
  constexpr int kExitFailed = 5;
  return kExitFailed;
}

/// Last thing in `main`: sends out what is buffered and closes stdout, since some file systems tell of a full disk only
/// then. Returns `code`, or that of a failure.
inline int end_output(std::string_view program, int code) {
  const bool failed = std::ferror(stdout) != 0;
  if (std::fflush(stdout) != 0) return stdout_failed(program, errno);
  if (failed) return stdout_failed(program, 0);
  return ::close(STDOUT_FILENO) == 0 || errno == EBADF || errno == EINTR ? code : stdout_failed(program, errno);
}

}  // namespace memkv::tools
