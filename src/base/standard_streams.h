#pragma once
/// The standard streams of a process, which somebody else chose: they may be closed, full, or read by nobody.
/// Nothing here waits for whoever reads them, and nothing here ends the process.

#include <cstdint>
#include <string_view>

namespace memkv::base {

/// For `main`, before anything else opens a descriptor: puts something in the place of each of 0, 1 and 2 that is
/// closed, so that no drive and no socket becomes "stderr". What stands in fails every read and write with EBADF.
void hold_standard_streams();

/// Moves a descriptor that lies on 0, 1 or 2 (the host program closed that stream) above them, and keeps it closed on
/// exec. -1 with errno set when there is no room; `fd` is closed then. All others are returned as they are.
int above_standard_streams(int fd);

/// Writes `text` to stderr, whole or not at all on a pipe of any size up to PIPE_BUF. False: it was not taken within
/// `patience_ms` (0: at once), because the reader is behind, the disk is full or the stream is closed.
/// Raises no signal (SIGPIPE, SIGXFSZ, SIGTTOU). A file is written directly, as the page cache takes it.
/// Thread: any; also where allocation is not allowed.
bool write_stderr(std::string_view text, uint32_t patience_ms = 0);

}  // namespace memkv::base
