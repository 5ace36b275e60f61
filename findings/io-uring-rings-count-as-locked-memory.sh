#!/bin/bash
# Linux 6.18: the rings of io_uring count against RLIMIT_MEMLOCK again, for a process without CAP_IPC_LOCK.
#
# Since 5.12 they did not (the kernel charged them to the memory cgroup instead, as liburing's README tells), and programs
# stopped asking for a limit. Debian 12's 6.1 makes the large ring below under the same limit; 6.18.44 refuses it with
# ENOMEM, which says nothing of a limit. A container's usual 8 MiB hold about seven rings of this size, and they are
# counted by user, not by process.
# For users of MemKV: docs/operating.md, "io_uring is not available": raise `ulimit -l`.
#
# Output seen (6.18.44):
#   Linux 6.18.44-fc-v595, RLIMIT_MEMLOCK 64 KiB, uid 65534
#   ring of 64 submissions and 128 completions: made
#   ring of 1024 submissions and 65536 completions: ENOMEM
# Needs root, to become a user without capabilities. Exits 1 where the kernel behaves otherwise.
set -euo pipefail
exec python3 - <<'PY'
import ctypes, errno, os, platform, resource, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
IO_URING_SETUP, IORING_SETUP_CQSIZE = 425, 1 << 3


def ring(submissions, completions):
    params = bytearray(120)  # struct io_uring_params
    struct.pack_into("<III", params, 0, 0, completions, IORING_SETUP_CQSIZE)
    fd = libc.syscall(IO_URING_SETUP, submissions, (ctypes.c_char * 120).from_buffer(params))
    said = "made" if fd >= 0 else errno.errorcode[ctypes.get_errno()]
    print(f"ring of {submissions} submissions and {completions} completions: {said}")
    return said


resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
os.setgroups([])
os.setresuid(65534, 65534, 65534)
print(f"Linux {platform.release()}, RLIMIT_MEMLOCK 64 KiB, uid 65534")
sys.exit(0 if (ring(64, 128), ring(1024, 65536)) == ("made", "ENOMEM") else 1)
PY
