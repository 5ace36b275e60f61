#pragma once
/// The standard streams of a process. Whoever started it chose them: they may be closed, full, or read by nobody. No
/// function here waits for their reader, and none ends the process.

#include <cstdint>
#include <string_view>

namespace memkv::base {

/// Opens a placeholder for each of 0, 1 and 2 that is closed, so that no drive or socket that is opened later becomes
/// "stderr". Every read and write of a placeholder fails with EBADF. `main` calls it first.
void hold_standard_streams();

/// Moves a descriptor to a number above 2 if it got 0, 1 or 2 (because the host program had closed that stream), and
/// sets close-on-exec. Other descriptors are returned as they are. -1 with errno set when no number is free; `fd` is
/// closed then.
int above_standard_streams(int fd);

/// Writes `text` to stderr. A pipe takes it whole or not at all if it has up to PIPE_BUF bytes. False: it was not taken
/// within `patience_ms` (0: at once), since the reader is behind, the disk is full or the stream is closed.
/// Raises no signal (SIGPIPE, SIGXFSZ, SIGTTOU). A file is written directly, as the page cache takes it. Allocates
/// nothing. Thread: any.
bool write_stderr(std::string_view text, uint32_t patience_ms = 0);

}  // namespace memkv::base
